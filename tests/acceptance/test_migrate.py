"""``polos migrate``: an application moves from a file to a server."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing, suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

import polos
from polos import (
    Limit,
    PolosClient,
    PolosError,
    Worker,
    WorkflowContext,
    limits,
    runs,
    schedules,
    workflow,
)

pytestmark = pytest.mark.files  # uses both stores in every pass

PYTHON = Path(__file__).resolve().parents[2] / "python"

APP = """
    import asyncio, sys
    import polos
    from polos import PolosClient, Worker, WorkflowContext, workflow

    @workflow(id="order", schedule=True)
    async def order(ctx: WorkflowContext) -> str:
        async def note(what):
            print("step", what, flush=True)
            return what

        await ctx.step.run("reserve", note, "reserve")
        print("waiting", ctx.run_id, flush=True)
        if sys.argv[2] == "hang":
            await asyncio.Event().wait()
        await ctx.step.run("charge", note, "charge")
        return "done"

    async def main():
        async with Worker(PolosClient(sys.argv[1]), app="shop"):
            print("ready", flush=True)
            await asyncio.Event().wait()

    asyncio.run(main())
"""


def migrate(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(PYTHON), **(env or {})}
    return subprocess.run(
        [sys.executable, "-m", "polos", "migrate", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def target(new_schema: Callable[[], str]) -> str:
    return new_schema()


@pytest.fixture
def job() -> Any:
    @workflow(id="job", schedule=True)
    async def job(ctx: WorkflowContext) -> str:
        return await ctx.step.run("only", lambda: "done")

    return job


async def has_ended(client: PolosClient) -> bool:
    return not await runs.list(client, status=["queued", "running", "waiting"])


async def have_succeeded(client: PolosClient, count: int) -> bool:
    return len(await runs.list(client, status="succeeded", limit=None)) >= count


def answers(client: PolosClient) -> dict[str, Any]:
    """Return all answers of the API."""
    listed = schedules.sync.list(client)
    all_runs = runs.sync.list(client, limit=None)
    return {
        "schedules": listed,
        "history": [schedules.sync.history(client, schedule.id) for schedule in listed],
        "runs": [runs.sync.get(client, run.id) for run in all_runs],
        "failed": runs.sync.list(client, status="failed"),
        "coming": schedules.sync.coming(
            client, until=datetime.now(timezone.utc) + timedelta(days=400)
        ),
        "counts": polos.overview.sync(client).schedules,
    }


async def test_everything_is_answered_as_before(
    tmp_path: Path,
    target: str,
    job: Any,
    eventually: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:
    source = tmp_path / "old.db"
    with PolosClient(source) as client:
        async with Worker(client, app="tests"):
            for number in range(5):
                await schedules.create(
                    client, "job", "0 9 * * *", "Europe/Berlin", f"user-{number}", input={"n": 1}
                )
            first = (await schedules.list(client))[0]
            await schedules.pause(client, first.id, "on holiday")
            yesterday = datetime.now(timezone.utc) - timedelta(days=3)
            await schedules.backfill(
                client, (await schedules.list(client))[1].id, yesterday, datetime.now(timezone.utc)
            )
            assert await job.run(client, timeout=30) == "done"
            await eventually(lambda: has_ended(client))
        before = answers(client)
    done = await asyncio.to_thread(migrate, "--from", str(source), "--to", target)
    assert (done.returncode, done.stderr.count("Traceback")) == (0, 0), done.stderr
    assert "default: 1 workflow, " in done.stdout
    assert "every row matches on both sides" in done.stdout
    with PolosClient(target) as client:
        assert answers(client) == before
        async with Worker(client, app="tests"):
            assert await job.run(client, timeout=30) == "done"
    again = await asyncio.to_thread(migrate, "--from", str(source), "--to", target)
    assert (again.returncode, "transferred earlier" in again.stdout) == (0, True), again.stderr
    with PolosClient(source) as client:
        late = asyncio.create_task(Worker(client, app="tests").run())
        await eventually(lambda: "has moved to `postgresql://" in caplog.text)
        late.cancel()
        with suppress(asyncio.CancelledError):
            await late
    with PolosClient(source) as client, pytest.raises(PolosError, match="POLOS_DATABASE_URL"):
        await job.invoke(client)


async def test_an_unfinished_run_continues_from_its_first_unfinished_step(
    tmp_path: Path, target: str, start: Any
) -> None:
    source = tmp_path / "shop.db"
    first = start(APP, str(source), "hang", name="first.py")
    first.wait_for_line("ready")
    with PolosClient(source) as client:
        handle: polos.RunHandle[Any] = await runs.invoke(client, "order")
        first.wait_for_line("waiting")
        refused = await asyncio.to_thread(migrate, "--from", str(source), "--to", target)
        assert refused.returncode == 1
        assert "a worker of `shop`" in refused.stderr
        first.kill()
    done = await asyncio.to_thread(migrate, "--from", str(source), "--to", target)
    assert done.returncode == 0, done.stderr
    assert "had lost their worker" in done.stdout
    second = start(APP, target, "continue", name="second.py")
    second.wait_for_line("ready")
    with PolosClient(target) as client:
        run_handle = polos.RunHandle[Any](client, handle.id)
        assert await run_handle.result(timeout=30) == "done"
        run = await runs.get(client, handle.id)
    assert [step.name for step in run.steps] == ["reserve", "charge"]
    second.wait_for_line("step charge")
    assert "step reserve" not in second.lines


async def test_limits_are_transferred_with_an_operators_values_and_their_taken_tokens(
    tmp_path: Path, target: str, eventually: Any
) -> None:
    source = tmp_path / "limits.db"
    started: list[str] = []

    @workflow(id="ask", concurrency=Limit("api", rate=2, per=3_600), priority=4)
    async def ask(ctx: WorkflowContext) -> None:
        started.append(ctx.run_id)

    with PolosClient(source) as client:
        async with Worker(client, app="tests"):
            await limits.set(client, "api", 7, per_key=3)
            await (await ask.invoke(client)).result(30)
            waiting = [(await ask.invoke(client)).id for _ in range(2)]
            await eventually(lambda: len(started) == 2)
        (before,) = await limits.list(client)
    assert (before.max, before.per_key, before.rate, before.overridden) == (7, 3, 2, True)
    done = await asyncio.to_thread(migrate, "--from", str(source), "--to", target)
    assert done.returncode == 0, done.stderr
    assert "1 limit, " in done.stdout
    with PolosClient(target) as client:
        (after,) = await limits.list(client)
        assert after == before
        async with Worker(client, app="tests"):
            await limits.set(client, "api", rate=3)
            await eventually(lambda: len(started) == 3)
            assert started[1:] == waiting, "one more token, and not three"
            await ask.invoke(client)
            assert (await limits.get(client, "api")).running == 0


async def test_a_slot_runs_once_whichever_side_it_ran_on(
    tmp_path: Path, target: str, job: Any, eventually: Any
) -> None:
    """Every second has a slot: some run before the transfer, others come due during or after it."""
    source = tmp_path / "slots.db"
    with PolosClient(source) as client:
        id = await schedules.create(
            client, "job", every=timedelta(seconds=1), catch_up="all", overlap="allow"
        )
        async with Worker(client, app="tests"):
            await eventually(lambda: have_succeeded(client, 2))
        ran_before = len(await runs.list(client, limit=None))
    moved = await asyncio.to_thread(migrate, "--from", str(source), "--to", target)
    assert moved.returncode == 0, moved.stderr
    with PolosClient(target) as client:
        async with Worker(client, app="tests"):
            await eventually(lambda: have_succeeded(client, ran_before + 2))
            await schedules.pause(client, id)
            await eventually(lambda: has_ended(client))
        entries = [
            entry for entry in await schedules.history(client, id, limit=500) if entry.run_id
        ]
        all_runs = await runs.list(client, limit=None)
    slots = sorted(entry.timestamp for entry in entries)
    assert slots == [slots[0] + timedelta(seconds=number) for number in range(len(slots))]
    assert {run.id for run in all_runs} == {entry.run_id for entry in entries}
    assert len(all_runs) == len(slots)


@pytest.mark.parametrize("moment", ["moving", "comparing"])
def test_killed_at_any_moment_it_continues(
    tmp_path: Path, target: str, job: Any, moment: str
) -> None:
    source = tmp_path / "big.db"
    with PolosClient(source) as client:
        many = [{"workflow": "job", "cron": "0 9 * * *", "key": str(n)} for n in range(6_000)]
        schedules.sync.create_many(client, many)
        before = answers(client)["counts"]
    process = subprocess.Popen(
        [sys.executable, "-m", "polos", "migrate", "--from", str(source), "--to", target],
        env={**os.environ, "PYTHONPATH": str(PYTHON)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith(f"default: {moment} 6,000 schedules"):
            break
    process.send_signal(signal.SIGKILL)
    process.communicate()
    done = migrate("--from", str(source), "--to", target, "--json")
    assert done.returncode == 0, done.stderr
    (moved,) = [json.loads(line) for line in done.stdout.splitlines()]
    assert moved["project"] == "default"
    with PolosClient(target) as client:
        assert answers(client)["counts"] == before


async def test_an_abandoned_transfer_leaves_the_file_unchanged(
    tmp_path: Path, target: str, job: Any
) -> None:
    source = tmp_path / "back.db"
    with PolosClient(source) as client:
        await schedules.create(client, "job", "0 9 * * *")
        before = answers(client)
    done = await asyncio.to_thread(migrate, "--from", str(source), "--to", target, "--abandon")
    assert (done.returncode, "no transfer was in progress" in done.stdout) == (0, True), done.stderr
    with PolosClient(source) as client:
        assert answers(client) == before
        async with Worker(client, app="tests"):
            assert await job.run(client, timeout=30) == "done"


@pytest.mark.parametrize(
    ("arguments", "code", "output"),
    [
        (["--from", "none.db", "--to", "postgresql://localhost:1/x"], 3, "none.db` doesn't exist"),
        (["--from", "some.db", "--to", "other.db"], 2, "isn't the URL of a PostgreSQL database"),
        (["--from", "postgresql://h/x", "--to", "postgresql://h/y"], 2, "is not a SQLite file"),
        (["--from", "some.db"], 2, "--to"),
        (["--from", "text.db", "--to", "TARGET"], 1, "not a SQLite file"),
        (["--from", "foreign.db", "--to", "TARGET"], 1, "another application"),
        (["--from", "newer.db", "--to", "TARGET"], 1, "upgrade polos"),
        (["--from", "some.db", "--to", "postgresql://127.0.0.1:1/x"], 1, "can't be reached"),
        (["--from", "some.db", "--to", "TARGET", "--project", "nobody"], 1, "no project `nobody`"),
    ],
)
def test_errors_are_one_sentence(target: str, arguments: list[str], code: int, output: str) -> None:
    with PolosClient("some.db") as client:
        schedules.sync.list(client)
    Path("text.db").write_text("text" * 2000)
    with closing(sqlite3.connect("foreign.db")) as foreign:
        foreign.execute("CREATE TABLE mine (id)")
    with PolosClient("newer.db") as client:
        schedules.sync.list(client)
    with closing(sqlite3.connect("newer.db")) as newer:
        newer.execute("PRAGMA user_version = 99")
    given = [target if argument == "TARGET" else argument for argument in arguments]
    done = migrate(*given)
    assert done.returncode == code, done.stderr
    assert output in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1
    assert not Path("none.db").exists()
