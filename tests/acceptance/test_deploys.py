"""Runs that sleep while their code is replaced: held, continued by matching code, patched."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import polos
import polos.testing
from polos import (
    CodeChangedError,
    PolosClient,
    SyncWorkflowContext,
    WorkflowContext,
    runs,
    workflow,
)

START = "2026-01-01T00:30+00:00"

APP = """
    import asyncio
    import os
    import sys
    from datetime import timedelta

    from polos import PolosClient, Worker, WorkflowContext, workflow

    CODE, POLICY = sys.argv[1:]

    def note(name):
        file = os.open("executed.txt", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(file, f"{CODE}: {name}\\n".encode())
        os.close(file)

    @workflow(id="leaf")
    async def leaf(): ...

    if CODE == "old":
        @workflow(id="job", on_code_change=POLICY)
        async def job(ctx: WorkflowContext):
            await ctx.step.run("charge", note, "charge")
            await ctx.step.sleep("pause", timedelta(seconds=WAIT))
            await ctx.step.run("ship", note, "ship")
            return "old"
    elif CODE == "other":
        @workflow(id="job", on_code_change=POLICY)
        async def job(ctx: WorkflowContext):
            await ctx.step.run("bill", note, "bill")
            return "other"
    else:
        @workflow(id="job", on_code_change=POLICY)
        async def job(ctx: WorkflowContext):
            await ctx.step.run("charge", note, "charge")
            await ctx.step.sleep("pause", timedelta(seconds=WAIT))
            if await ctx.patched("label"):
                await ctx.step.run("label", note, "label")
            await ctx.step.run("ship", note, "ship")
            return "new"

    async def main():
        async with Worker(PolosClient(), app="app", lease=2):
            print("ready")
            await asyncio.Event().wait()

    asyncio.run(main())
"""


@pytest.fixture
def known() -> None:
    @workflow(id="job")
    async def job(ctx: WorkflowContext) -> str: ...


@pytest.fixture
def executed(tmp_path: Path) -> Callable[[], list[str]]:
    return lambda: (tmp_path / "executed.txt").read_text().splitlines()


def code(start: Any, name: str, policy: str = "hold", wait: int = 6) -> Any:
    program = start(APP.replace("WAIT", str(wait)), name, policy, name=f"{name}.py")
    program.wait_for_line("ready")
    return program


async def asleep(client: PolosClient, eventually: Any, id: str) -> None:
    async def sleeps() -> bool:
        return (await runs.get(client, id)).status == "waiting"

    await eventually(sleeps)


async def test_a_held_run_continues_on_matching_code(
    start: Any, client: PolosClient, eventually: Any, executed: Any, command: Any, known: None
) -> None:
    old = code(start, "old")
    handle = await runs.invoke(client, "job")
    await asleep(client, eventually, handle.id)
    old.kill()
    other = code(start, "other")

    async def is_held() -> bool:
        return (await runs.get(client, handle.id)).note is not None

    await eventually(is_held)
    run = await runs.get(client, handle.id)
    assert (run.status, run.attempt) == ("waiting", 1)
    assert "without the steps that it had done before: `charge`" in str(run.note)
    result = await asyncio.to_thread(command, "doctor", "--json")
    assert any("held for a worker with other code" in check["text"]
               for check in result.objects[0]["checks"])  # fmt: skip
    assert "held for" in (await asyncio.to_thread(command, "runs", "show", handle.id)).out

    # Besides the other code, which gets no more runs.
    code(start, "old")
    assert await handle.result(30) == "old"
    assert executed() == ["old: charge", "old: ship"]
    assert other.errors.count("is held for a worker with other code") == 1
    assert (await runs.get(client, handle.id)).note is None


async def test_old_and_new_workers_side_by_side_never_repeat_a_step(
    start: Any, client: PolosClient, eventually: Any, executed: Any, known: None
) -> None:
    code(start, "old", wait=6)
    handles = [await runs.invoke(client, "job") for _ in range(10)]
    for handle in handles:
        await asleep(client, eventually, handle.id)
    code(start, "new", wait=6)
    results = await asyncio.gather(*(handle.result(60) for handle in handles))
    assert set(results) <= {"old", "new"}
    names = [line.split(": ")[1] for line in executed()]
    assert names.count("charge") == names.count("ship") == 10
    assert names.count("label") == results.count("new")


async def test_a_run_that_was_patched_waits_for_a_worker_that_knows_the_patch() -> None:
    executed: list[str] = []

    async def new(ctx: WorkflowContext) -> None:
        assert await ctx.patched("label")
        await ctx.step.sleep("a day", timedelta(days=1))

    async def old(ctx: WorkflowContext) -> None:
        await ctx.step.run("plain", executed.append, "plain")

    assert (await outcome_of(new, old))[0] == "waiting"
    assert executed == []


# --- in virtual time -------------------------------------------------------------------------

Code = Callable[[WorkflowContext], Awaitable[Any]]


async def outcome_of(before: Code, after: Code, **options: Any) -> tuple[str, Any]:
    """Return a run's state two days after its code was replaced while it slept."""
    current = [before]

    @workflow(id="job", **options)
    async def job(ctx: WorkflowContext) -> Any:
        return await current[0](ctx)

    async with polos.testing.clock(START) as t:
        handle = await job.invoke(t.client)
        await t.advance(hours=1)
        assert await handle.status() == "waiting"
        current[0] = after
        await t.advance(days=2)
        (run,) = await t.runs()
        return run.status, run.result


async def nap(ctx: WorkflowContext) -> None:
    await ctx.step.sleep("a day", timedelta(days=1))


async def test_a_run_that_reaches_the_patch_first_takes_the_new_path() -> None:
    async def after(ctx: WorkflowContext) -> list[bool]:
        await nap(ctx)
        return [await ctx.patched("p"), await ctx.patched("p")]

    assert await outcome_of(nap, after) == ("succeeded", [True, True])


async def test_a_run_that_sleeps_after_the_patch_takes_the_old_path() -> None:
    async def after(ctx: WorkflowContext) -> bool:
        before = await ctx.patched("p")
        await nap(ctx)
        return before

    assert await outcome_of(nap, after) == ("succeeded", False)


async def test_a_run_always_gets_its_first_answer_about_a_patch() -> None:
    async def before(ctx: WorkflowContext) -> None:
        await ctx.step.run("a", int)
        await nap(ctx)

    seen = []

    async def after(ctx: WorkflowContext) -> bool:
        seen.append(await ctx.patched("p"))
        await ctx.step.run("a", int)
        await nap(ctx)
        await ctx.step.sleep("another day", timedelta(hours=3))
        seen.append(await ctx.patched("p"))
        return seen[-1]

    assert await outcome_of(before, after) == ("succeeded", False)
    assert set(seen) == {False}


async def test_the_old_path_needs_no_patch() -> None:
    async def before(ctx: WorkflowContext) -> None:
        await nap(ctx)
        await ctx.step.sleep("more", timedelta(hours=2))

    async def between(ctx: WorkflowContext) -> None:
        assert not await ctx.patched("p")
        await before(ctx)

    current: list[Code] = [before]

    @workflow(id="job")
    async def job(ctx: WorkflowContext) -> Any:
        return await current[0](ctx)

    async with polos.testing.clock(START) as t:
        handle = await job.invoke(t.client)
        await t.advance(hours=1)
        current[0] = between
        await t.advance(days=1)
        current[0] = before
        await t.advance(days=1)
        assert await handle.status() == "succeeded"


def test_sync_handlers_are_patched_too() -> None:
    @workflow(id="job")
    def job(ctx: SyncWorkflowContext) -> bool:
        return ctx.patched("p")

    async def main() -> Any:
        async with polos.testing.clock(START) as t:
            return await job.run(t.client)

    assert asyncio.run(main()) is True


@pytest.mark.parametrize("given", [None, "wait", 1, True])
def test_an_invalid_policy_is_refused(given: Any) -> None:
    with pytest.raises(ValueError, match="on_code_change"):
        workflow(id="w", on_code_change=given)(lambda: None)


async def test_bulk_retry_of_runs_whose_code_had_changed(command: Any, client: PolosClient) -> None:
    errors = {"changed": CodeChangedError("changed"), "no": KeyError("no")}

    @workflow(id="job")
    async def job(ctx: WorkflowContext, payload: str) -> None:
        raise errors[payload]

    @workflow(id="other")
    async def other(ctx: WorkflowContext, payload: str) -> None:
        raise errors[payload]

    async with polos.Worker(client):
        handles = [
            await job.invoke(client, "changed"),
            await other.invoke(client, "changed"),
            await job.invoke(client, "no"),
        ]
        for handle in handles:
            with pytest.raises((CodeChangedError, KeyError)):
                await handle.result()
    changed = handles[0].id
    found = await runs.list(client, error="CodeChangedError", workflow="job")
    assert [run.id for run in found] == [changed]
    assert len(await runs.list(client, error="polos.exceptions.CodeChangedError")) == 2
    filters = ("--status", "failed", "--error", "CodeChangedError", "--workflow", "job")
    result = await asyncio.to_thread(command, "runs", "retry", *filters, "--dry-run")
    assert result.lines == [f"{changed} would be retried"]
    assert (await asyncio.to_thread(command, "runs", "retry", *filters)).code != 0
    result = await asyncio.to_thread(command, "runs", "retry", *filters, "--yes")
    assert result.lines == [f"{changed} is queued"]
    assert (await runs.get(client, changed)).status == "queued"


async def test_the_answer_about_a_patch_is_the_same_later_in_the_same_execution() -> None:
    async def before(ctx: WorkflowContext) -> None:
        await ctx.step.run("a", int)
        await nap(ctx)

    async def after(ctx: WorkflowContext) -> list[bool]:
        first = await ctx.patched("p")
        await before(ctx)  # and with that, every step that was recorded has been reached
        return [first, await ctx.patched("p")]

    assert await outcome_of(before, after) == ("succeeded", [False, False])


async def test_a_patch_is_new_for_a_run_that_has_recorded_nothing_but_another_patch() -> None:
    never = asyncio.Event()

    async def before(ctx: WorkflowContext) -> bool:
        await ctx.patched("p")
        return await never.wait()

    async def after(ctx: WorkflowContext) -> list[bool]:
        return [await ctx.patched("q"), await ctx.patched("p")]

    current: list[Code] = [before]

    @workflow(id="job", timeout=timedelta(days=1))
    async def job(ctx: WorkflowContext) -> Any:
        return await current[0](ctx)

    async with polos.testing.clock(START) as t:
        handle = await job.invoke(t.client)
        await t.advance(minutes=1)
        await t.crash()
        current[0] = after
        await t.restart()
        assert await handle.result() == [True, True]
