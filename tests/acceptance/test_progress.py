"""``ctx.progress``: progress that handlers report."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Awaitable, Callable
from types import FrameType
from typing import Any

import pytest

import polos.testing
from polos import (
    InvalidArgumentError,
    PolosClient,
    Progress,
    SyncWorkflowContext,
    Worker,
    WorkflowContext,
    runs,
    schedules,
    workflow,
)
from polos._runtime import progress as module

START = "2026-01-01T00:00+00:00"

Eventually = Callable[[Callable[[], Any]], Awaitable[Any]]


def worker(client: PolosClient) -> Worker:
    return Worker(client, app="tests", drain=0)


async def test_a_handler_shows_how_far_it_is(client: PolosClient, eventually: Eventually) -> None:
    seen = asyncio.Event()

    @workflow
    async def reads(ctx: WorkflowContext) -> None:
        ctx.progress(0.4, "page 12 of 30")
        await seen.wait()

    async with worker(client):
        handle = await reads.invoke(client)
        assert await eventually(handle.progress)
        progress = await handle.progress()
        assert progress is not None
        assert (progress.fraction, progress.message) == (0.4, "page 12 of 30")
        assert str(progress) == "40%, page 12 of 30"
        run = await runs.get(client, handle.id)
        assert run.progress == progress
        assert run.started_at is not None
        assert run.started_at <= progress.timestamp
        (listed,) = await runs.list(client)
        assert listed.progress == progress
        seen.set()
        await handle.result(timeout=30)


async def test_a_sync_handler_and_its_steps_report_too(
    client: PolosClient, eventually: Eventually
) -> None:
    proceed = threading.Event()

    @workflow
    def reads(ctx: SyncWorkflowContext) -> None:
        def step() -> None:
            ctx.progress(message="in a step")
            proceed.wait(30)

        ctx.step.run("step", step)

    async with worker(client):
        handle = await reads.invoke(client)
        progress = await eventually(handle.progress)
        assert (progress.fraction, progress.message) == (None, "in a step")
        assert str(progress) == "in a step"
        proceed.set()
        await handle.result(timeout=30)


async def test_a_run_without_reports_has_no_progress(client: PolosClient) -> None:
    @workflow
    async def is_silent(ctx: WorkflowContext) -> None: ...

    async with worker(client):
        handle = await is_silent.invoke(client)
        await handle.result(timeout=30)
        assert await handle.progress() is None


class Calls:
    """Counts calls of the code that reports progress, in this thread."""

    def __init__(self) -> None:
        self.count = 0

    def __enter__(self) -> Calls:
        sys.setprofile(self._note)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _note(self, frame: FrameType, event: str, arg: Any) -> None:
        is_python = event == "call" and frame.f_code.co_filename == module.__file__
        is_core = event == "c_call" and getattr(arg, "__name__", "") == "report_progress"
        self.count += is_python or is_core


async def test_a_run_without_reports_does_nothing_about_progress(client: PolosClient) -> None:
    # All statements, timers, and callbacks for reports begin in this code.
    @workflow
    async def is_silent(ctx: WorkflowContext) -> int:
        await ctx.step.sleep("a moment", 0.001)
        return await ctx.step.run("a step", int)

    @workflow
    async def reports(ctx: WorkflowContext) -> None:
        ctx.progress(0.5)

    async with worker(client):
        with Calls() as calls:
            for _ in range(3):
                await is_silent.run(client, timeout=30)
        assert calls.count == 0
        with Calls() as calls:
            await reports.run(client, timeout=30)
        assert calls.count > 0, "they are counted"


async def test_the_newest_of_many_reports_is_written(
    client: PolosClient, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[dict[str, Any]] = []
    original = module.ProgressReports._write_pending

    def write(self: Any) -> None:
        written.append(self._pending)
        original(self)

    monkeypatch.setattr(module.ProgressReports, "_write_pending", write)
    monkeypatch.setattr(module, "_INTERVAL", 0.01)
    seen = asyncio.Event()

    @workflow
    async def counts(ctx: WorkflowContext) -> None:
        for number in range(1_000):
            ctx.progress(number / 1_000)
        await seen.wait()

    async def last() -> bool:
        progress = await handle.progress()
        return progress is not None and progress.fraction == 0.999

    async with worker(client):
        handle = await counts.invoke(client)
        await eventually(last)
        assert [report["fraction"] for report in written] == [0.999] or len(written) == 2
        seen.set()
        await handle.result(timeout=30)


async def test_a_finished_run_keeps_its_last_report(client: PolosClient) -> None:
    @workflow
    async def fails(ctx: WorkflowContext) -> None:
        ctx.progress(0.5, "half")
        await ctx.step.run("a step", int)  # by then the report is being written
        raise RuntimeError

    async with worker(client):
        handle = await fails.invoke(client)
        with pytest.raises(RuntimeError):
            await handle.result(timeout=30)
        progress = await handle.progress()
        assert progress is not None
        assert progress.message == "half"


async def test_reports_are_immediate_in_virtual_time() -> None:
    @workflow
    async def sleeps(ctx: WorkflowContext) -> None:
        for day in range(3):
            ctx.progress(day / 3, f"day {day}")
            await ctx.step.sleep(f"day {day}", 86_400)

    async with polos.testing.clock(START) as time:
        handle = await sleeps.invoke(time.client)
        messages = []
        for _ in range(3):
            await time.advance(hours=1)
            progress = await handle.progress()
            assert progress is not None
            messages.append((progress.message, progress.timestamp.day))
            await time.advance(hours=23)
        assert messages == [("day 0", 1), ("day 1", 2), ("day 2", 3)]


async def test_a_report_that_is_lost_fails_nothing() -> None:
    @workflow
    async def reports(ctx: WorkflowContext) -> int:
        ctx.progress(0.5)
        return await ctx.step.run("step", int)

    async with polos.testing.clock(START) as time:
        fault = time.fail_requests("report_progress", when="before_commit")
        handle = await reports.invoke(time.client)
        assert await handle.result() == 0
        assert fault.happened == 1
        assert await handle.progress() is None


async def test_reports_after_the_end_are_ignored(client: PolosClient) -> None:
    contexts: list[WorkflowContext] = []

    @workflow
    async def ends(ctx: WorkflowContext) -> None:
        contexts.append(ctx)

    async with worker(client):
        handle = await ends.invoke(client)
        await handle.result(timeout=30)
        contexts[0].progress(0.5)
        assert await handle.progress() is None


async def test_a_retry_begins_without_progress(client: PolosClient) -> None:
    release = asyncio.Event()
    attempts = []

    @workflow
    async def fails_once(ctx: WorkflowContext) -> None:
        attempts.append(ctx.attempt)
        if len(attempts) == 1:
            ctx.progress(0.5)
            await ctx.step.run("step", int)
            raise RuntimeError
        await release.wait()

    async with worker(client):
        handle = await fails_once.invoke(client)
        with pytest.raises(RuntimeError):
            await handle.result(timeout=30)
        assert await handle.progress() is not None
        await runs.retry(client, handle.id)
        assert await handle.progress() is None
        release.set()
        await handle.result(timeout=30)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1.5,), "fraction: `1.5` given, expected a number from 0 to 1"),
        ((-0.1,), "expected a number from 0 to 1"),
        ((float("nan"),), "expected a number from 0 to 1"),
        ((True,), "fraction: `True` given"),
        (("40%",), "fraction: `40%` given"),
        ((0.5, 12), "message: `12` given, expected a text"),
        ((), "give a fraction from 0 to 1, a message, or both"),
    ],
)
async def test_other_values_are_rejected(arguments: tuple[Any, ...], message: str) -> None:
    @workflow
    async def reports(ctx: WorkflowContext) -> None:
        ctx.progress(*arguments)

    async with polos.testing.clock(START) as time:
        with pytest.raises(InvalidArgumentError, match=message):
            await reports.run(time.client)


async def test_a_message_is_one_short_line() -> None:
    @workflow
    async def reports(ctx: WorkflowContext) -> None:
        ctx.progress(1, "a\n b\t\ud800" + "x" * 1_000)
        await ctx.step.sleep("sleep", 60)

    async with polos.testing.clock(START) as time:
        handle = await reports.invoke(time.client)
        await time.advance(seconds=1)
        progress = await handle.progress()
        assert progress is not None
        assert progress.message is not None
        assert progress.message.startswith("a b \\ud800xxx")
        assert len(progress.message) == 300
        assert progress.message.endswith("…")


def test_progress_without_a_loop(client: PolosClient) -> None:
    @workflow(schedule=True)
    async def never_runs(ctx: WorkflowContext) -> None: ...

    id = schedules.sync.create(client, never_runs, every=60)
    assert schedules.sync.trigger(client, id).sync.progress() is None


def test_a_damaged_report_is_no_progress() -> None:
    from datetime import timezone

    for damaged in ("text", [], {}, {"at": "now"}):
        assert Progress._from_core(damaged, timezone.utc) is None
    progress = Progress._from_core({"at": 0, "fraction": "x", "message": 5}, timezone.utc)
    assert progress is not None
    assert (progress.fraction, progress.message, str(progress)) == (None, None, "")
