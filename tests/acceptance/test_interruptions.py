"""Runs whose worker disappears are counted, executed alone, and finally failed."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from polos import (
    InterruptedTooOftenError,
    PolosClient,
    Run,
    Worker,
    WorkflowContext,
    runs,
    schedules,
    workflow,
)

APP = """
    import asyncio
    import json
    import os
    import sys
    from pathlib import Path

    from polos import PolosClient, Worker, WorkflowContext, runs, workflow

    LIFE, LIMIT, *IDS = sys.argv[1:]
    LIMIT = json.loads(LIMIT)

    begun = 0
    all_begun = asyncio.Event()

    def note(line):
        file = os.open("executed.txt", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(file, f"{LIFE}: {line}\\n".encode())
        os.close(file)

    def begin():
        global begun
        begun += 1
        if begun == len(IDS):
            all_begun.set()

    @workflow(id="healthy", max_interruptions=LIMIT)
    async def healthy(ctx: WorkflowContext):
        begin()
        if ctx.interruptions < 2:
            await asyncio.Event().wait()
        return ctx.interruptions

    def report(failure):
        note(f"{failure.workflow_id} failed: {type(failure.error).__name__}")

    @workflow(id="poison", max_interruptions=LIMIT, on_failure=report, schedule=True, retries=3)
    async def poison(ctx: WorkflowContext):
        note(f"poison {ctx.interruptions}")
        begin()
        if ctx.interruptions < 2:
            await all_begun.wait()
        os._exit(3)

    @workflow(id="slow", max_interruptions=LIMIT)
    async def slow(ctx: WorkflowContext):
        note(f"slow {ctx.interruptions}")
        done = await ctx.step.run("first", len, "abc")
        if ctx.attempt == 1 and LIFE != "last":
            os._exit(3)
        return done

    async def ended(client, id):
        try:
            return await runs.RunHandle(client, id).result()
        except Exception as error:
            return type(error).__name__

    async def main():
        client = PolosClient()
        async with Worker(client, concurrency=200, lease=60):
            print("ready")
            print(await asyncio.gather(*(ended(client, id) for id in IDS)))

    asyncio.run(main())
"""


def lines(folder: Path) -> list[str]:
    return (folder / "executed.txt").read_text().splitlines()


async def workers_that_died(start: Any, limit: int | None, ids: list[str], most: int) -> int:
    """Start workers until all runs have ended; return how many of them died."""
    for deaths in range(most + 1):
        program = start(APP, str(deaths + 1), json.dumps(limit), *ids, name=f"app{deaths}.py")
        code = await asyncio.to_thread(program.ends)
        if code == 0:
            return deaths
        assert code == 3, program.errors
    raise AssertionError(f"{most} workers died, and runs are still unfinished")


@pytest.fixture
def known() -> None:
    for id in ("healthy", "slow"):

        @workflow(id=id)
        async def job() -> None: ...

    @workflow(id="poison", schedule=True)
    async def poison() -> None: ...


async def test_a_poison_run_among_a_hundred_healthy_ones_kills_few_workers_and_fails_none_of_them(
    start: Any, client: PolosClient, known: None, tmp_path: Path
) -> None:
    poison = await runs.invoke(client, "poison")
    healthy = [await runs.invoke(client, "healthy") for _ in range(100)]
    deaths = await workers_that_died(start, 5, [poison.id, *(handle.id for handle in healthy)], 6)
    assert deaths <= 6
    assert [await handle.status() for handle in healthy] == ["succeeded"] * 100
    with pytest.raises(InterruptedTooOftenError) as caught:
        await poison.result()
    assert "the worker died 5 times in a row" in str(caught.value)
    assert f"polos runs retry {poison.id}" in str(caught.value)
    run = await runs.get(client, poison.id)
    assert (run.interruptions, run.attempt, run.status) == (5, 1, "failed")
    assert lines(tmp_path).count(f"{deaths + 1}: poison failed: InterruptedTooOftenError") == 1


async def test_the_history_of_its_slot_says_why_and_a_retry_begins_anew(
    start: Any, client: PolosClient, known: None, tmp_path: Path
) -> None:
    id = await schedules.create(client, "poison", cron="0 0 1 1 *", key="ada")
    handle = await schedules.trigger(client, id)
    assert await workers_that_died(start, 2, [handle.id], 3) == 2
    assert [line for line in lines(tmp_path) if "poison" in line] == [
        "1: poison 0", "2: poison 1", "3: poison failed: InterruptedTooOftenError",
    ]  # fmt: skip
    await runs.retry(client, handle.id)
    run = await runs.get(client, handle.id)
    assert (run.status, run.attempt, run.interruptions) == ("queued", 2, 0)
    assert await workers_that_died(start, 1, [handle.id], 2) == 1
    assert (await runs.get(client, handle.id)).interruptions == 1


async def test_a_recorded_step_counts_as_progress(
    start: Any, client: PolosClient, known: None, tmp_path: Path
) -> None:
    handle = await runs.invoke(client, "slow")
    for _ in range(2):
        assert await asyncio.to_thread(start(APP, "1", "2", handle.id).ends) == 3
    # The step was recorded by the first, and replayed by the second.
    start(APP, "last", "2", handle.id)
    assert await handle.result() == 3
    assert lines(tmp_path) == ["1: slow 0", "1: slow 0", "last: slow 1"]


async def test_without_a_limit_it_continues(
    start: Any, client: PolosClient, known: None, tmp_path: Path
) -> None:
    handle = await runs.invoke(client, "poison")
    for _ in range(7):
        assert await asyncio.to_thread(start(APP, "1", "null", handle.id).ends) == 3
    assert lines(tmp_path) == [f"1: poison {count}" for count in range(7)]


async def test_a_worker_that_is_stopped_as_usual_interrupts_nothing(
    client: PolosClient, eventually: Any
) -> None:
    begun = []

    @workflow(id="long")
    async def long() -> None:
        begun.append(1)
        await asyncio.Event().wait()

    handle = await runs.invoke(client, "long")
    for count in range(1, 4):
        async with Worker(client, drain=0):
            await eventually(lambda count=count: len(begun) == count)
        assert (await runs.get(client, handle.id)).interruptions == 0


async def test_doctor_command_line_and_dashboard_show_it(
    start: Any, client: PolosClient, known: None, command: Any
) -> None:
    handle = await runs.invoke(client, "poison")
    for _ in range(3):
        assert await asyncio.to_thread(start(APP, "1", "9", handle.id).ends) == 3
    async with Worker(client, workflows=[workflow(id="other")(lambda: None)]):  # type: ignore[arg-type]
        result = await asyncio.to_thread(command, "doctor", "--json")
        found = [check for check in result.objects[0]["checks"] if check["about"] == "runs"]
        shown = await asyncio.to_thread(command, "runs", "show", handle.id)
        as_json = await asyncio.to_thread(command, "runs", "show", handle.id, "--json")
    assert f"{handle.id} of poison was interrupted 3 times in a row" in found[0]["text"]
    assert "another worker would not help" in found[0]["advice"]
    assert "3 times in a row; its worker disappeared" in shown.out
    assert as_json.objects[0]["interruptions"] == 3
    run: Run = await runs.get(client, handle.id)
    assert run.interruptions == 3


@pytest.mark.parametrize("given", [0, -1, True, 1.5, "5", sys.maxsize])
def test_an_invalid_limit_of_interruptions_is_refused(given: Any) -> None:
    with pytest.raises(ValueError, match="max_interruptions"):
        workflow(id="w", max_interruptions=given)(lambda: None)


@pytest.mark.files  # the test writes the counts into the file, without polos
async def test_interruptions_beside_other_runs_count_for_less(
    client: PolosClient, tmp_path: Path
) -> None:
    @workflow(max_interruptions=2)
    async def job() -> str:
        return "executed"

    expected = {(2, 0): True, (7, 0): True, (8, 0): False, (1, 1): True, (2, 1): False}
    handles = {counts: await job.invoke(client) for counts in expected}
    script = "import sqlite3; c = sqlite3.connect('polos.db')\n"
    for (count, was_alone), handle in handles.items():
        script += (
            f"c.execute('UPDATE run SET interruptions = {count}, interrupted_alone = {was_alone} "
            f"WHERE id = ?', ['{handle.id}'])\n"
        )
    await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", script + "c.commit()"], cwd=tmp_path, check=True
    )
    async with Worker(client, app="tests"):
        for counts, is_executed in expected.items():
            if is_executed:
                assert await handles[counts].result(30) == "executed"
            else:
                with pytest.raises(InterruptedTooOftenError):
                    await handles[counts].result(30)


@pytest.mark.files  # the test writes the count into the file, without polos
async def test_a_suspect_that_records_a_step_is_executed_beside_others_again(
    client: PolosClient, tmp_path: Path
) -> None:
    reached, may_progress, may_end = asyncio.Event(), asyncio.Event(), asyncio.Event()

    @workflow
    async def suspect(ctx: WorkflowContext) -> None:
        reached.set()
        await may_progress.wait()
        await ctx.step.run("progress", str)
        await may_end.wait()

    @workflow
    async def other() -> str:
        return "beside it"

    await suspect.invoke(client)
    script = (
        "import sqlite3; c = sqlite3.connect('polos.db'); "
        "c.execute('UPDATE run SET interruptions = 3'); c.commit()"
    )
    await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", script], cwd=tmp_path, check=True
    )
    async with Worker(client, app="tests"):
        await asyncio.wait_for(reached.wait(), 30)
        handle = await other.invoke(client)
        assert await handle.status() == "queued"
        may_progress.set()
        assert await handle.result(30) == "beside it"
        may_end.set()
