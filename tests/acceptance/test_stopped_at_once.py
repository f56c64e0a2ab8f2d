"""Runs that are stopped before their handler's first instruction."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import pytest

import polos.testing
from polos import PolosClient, RunTimeoutError, Worker, WorkflowContext, workflow
from polos._polos import ClaimedRun
from polos._runtime.executor import Executor


def stop_with_the_start(monkeypatch: pytest.MonkeyPatch, reason: str) -> list[str]:
    """Stop the first run in the same batch of messages in which it starts.

    The core does this if a run is claimed and cancelled between two iterations of the event loop.
    Returns its id in a list.
    """
    stopped: list[str] = []
    start = Executor._start

    def start_and_stop(executor: Executor, claimed: ClaimedRun) -> None:
        start(executor, claimed)
        if not stopped:
            stopped.append(claimed.run_id)
            executor._handle(("stop", [(claimed.run_id, claimed.token, reason)]))

    monkeypatch.setattr(Executor, "_start", start_and_stop)
    return stopped


@pytest.mark.parametrize("reason", ["cancelled", "timed_out", "released"])
@pytest.mark.parametrize("is_async", [True, False])
async def test_a_run_that_is_stopped_as_it_starts_ends_and_frees_its_permit(
    database: Path | str, monkeypatch: pytest.MonkeyPatch, reason: str, is_async: bool
) -> None:
    calls: list[str] = []

    @workflow(id="async", timeout=timedelta(hours=1))
    async def in_a_task(ctx: WorkflowContext) -> None:
        calls.append(ctx.run_id)

    @workflow(id="sync", timeout=timedelta(hours=1))
    def in_a_thread() -> None:
        calls.append("")

    started = in_a_task if is_async else in_a_thread
    stopped = stop_with_the_start(monkeypatch, reason)
    with PolosClient(database) as client:
        async with Worker(client, workflows=[started], concurrency=1) as worker:
            handle = await started.invoke(client)
            if reason == "timed_out":
                with pytest.raises(RunTimeoutError):
                    await asyncio.wait_for(handle.result(), 30)
            elif reason == "released":
                await asyncio.wait_for(handle.result(), 30)
            else:
                with pytest.raises(polos.RunCancelledError):
                    await asyncio.wait_for(handle.result(), 30)
            assert stopped == [handle.id]
            # With a concurrency of 1, another run needs the permit.
            await asyncio.wait_for(started.run(client), 30)
            assert worker._executor is not None
            assert not worker._executor.active
    assert len(calls) == (2 if reason == "released" else 1)


def cancel_with_the_start(monkeypatch: pytest.MonkeyPatch, cancel: Callable[[], object]) -> None:
    """Call ``cancel`` between the first start of a run and the first instruction of its task."""
    is_done: list[bool] = []
    start = Executor._start

    def start_and_cancel(executor: Executor, claimed: ClaimedRun) -> None:
        start(executor, claimed)
        if not is_done:
            is_done.append(True)
            cancel()

    monkeypatch.setattr(Executor, "_start", start_and_cancel)


async def test_a_run_whose_task_somebody_cancels_before_it_begins_has_failed(
    database: Path | str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    @workflow(id="handler", retries=0)
    async def handler(ctx: WorkflowContext) -> None:
        calls.append(ctx.run_id)

    with PolosClient(database) as client:
        worker = Worker(client, workflows=[handler], concurrency=1)

        def cancel() -> None:
            assert worker._executor is not None
            for active in worker._executor.active.values():
                assert active.task is not None
                active.task.cancel()

        cancel_with_the_start(monkeypatch, cancel)
        async with worker:
            handle = await handler.invoke(client)
            with pytest.raises(polos.RunFailedError, match="CancelledError"):
                await asyncio.wait_for(handle.result(), 30)
            # It has freed its permit.
            await asyncio.wait_for(handler.run(client), 30)
    assert len(calls) == 1


def test_a_loop_that_ends_before_a_run_begins_releases_the_run(
    database: Path | str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    @workflow(id="handler")
    async def handler(ctx: WorkflowContext) -> None:
        calls.append(ctx.run_id)

    async def cancelled_at_the_start(client: PolosClient) -> None:
        # As servers do at their end: every task is cancelled at once.
        def cancel() -> None:
            for task in asyncio.all_tasks():
                task.cancel()

        cancel_with_the_start(monkeypatch, cancel)
        async with Worker(client, workflows=[handler]):
            await handler.run(client)

    async def with_another_worker(client: PolosClient) -> None:
        async with Worker(client, workflows=[handler]):
            (run,) = await polos.runs.list(client)
            await asyncio.wait_for(polos.runs.handle(client, run.id).result(), 30)

    with PolosClient(database) as client:
        with pytest.raises(asyncio.CancelledError):
            asyncio.run(cancelled_at_the_start(client))
        # Nobody has the claim, and nothing is recorded of it.
        (run,) = polos.runs.sync.list(client)
        assert (run.status, run.attempt, run.error) == ("queued", 1, None)
        asyncio.run(with_another_worker(client))
    assert len(calls) == 1


async def stop(t: polos.testing.VirtualTime) -> None:
    await t.stop()


async def crash(t: polos.testing.VirtualTime) -> None:
    await t.crash()


@pytest.mark.parametrize("leave", [stop, crash])
async def test_cancel_running_cancels_a_sleeping_run_after_a_restart(
    leave: Callable[[polos.testing.VirtualTime], Awaitable[None]],
) -> None:
    @workflow(id="w", schedule={"every": timedelta(minutes=10), "overlap": "cancel_running"})
    async def sleeps(ctx: WorkflowContext) -> None:
        await ctx.step.sleep("s", timedelta(minutes=15))

    async with polos.testing.clock("2026-01-01T00:00Z", workflows=[sleeps]) as t:
        await t.advance(minutes=10)
        await leave(t)
        await t.advance(minutes=20)  # the sleep ends at 00:25; the slots of 00:20 and 00:30 pass
        await t.restart()
        await t.advance(minutes=1)
        found = [(run.timestamp.minute, run.status) for run in await t.runs() if run.timestamp]
        assert found == [(10, "cancelled"), (30, "waiting")]
