"""Runs in progress wait while the database is down: no outage makes a request of theirs fail."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

import polos.testing
from polos import (
    PolosClient,
    SchedulePayload,
    StoreUnavailableError,
    SyncWorkflowContext,
    WorkflowContext,
    runs,
    schedules,
    workflow,
)
from polos.testing import VirtualTime

START = "2026-01-01T00:30+00:00"


class Setup:
    """Handlers reach ``reached``; then the database goes down, and they make requests."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.is_away = asyncio.Event()
        self.is_away_for_threads = threading.Event()
        self.loop = asyncio.get_running_loop()

    async def wait(self) -> None:
        self.reached.set()
        await self.is_away.wait()

    def wait_here(self) -> None:
        self.loop.call_soon_threadsafe(self.reached.set)
        assert self.is_away_for_threads.wait(30)

    @asynccontextmanager
    async def outage(self, t: VirtualTime, **until: int) -> AsyncIterator[None]:
        """Take the database down for an hour once the handler is in progress."""
        turning = asyncio.create_task(t.advance(**until or {"seconds": 1}))
        await asyncio.wait_for(self.reached.wait(), 30)
        with t.outage():
            self.is_away.set()
            self.is_away_for_threads.set()
            await turning
            await t.advance(hours=1)
            assert t.client.refused_count > 0, "no request was made while the database was down"
            yield


Ask = Callable[[VirtualTime, WorkflowContext], Any]


async def invoke_a_child(t: VirtualTime, ctx: WorkflowContext) -> Any:
    return await ctx.step.invoke("child", 1)


async def gather_children(t: VirtualTime, ctx: WorkflowContext) -> Any:
    steps = [ctx.step.invoke("child", 1, name=name) for name in ("a", "b")]
    return max(await ctx.step.gather(*steps))


async def run_another(t: VirtualTime, ctx: WorkflowContext) -> Any:
    handle: Any = await runs.invoke(t.client, "child", 1)
    return await handle.result()


async def in_a_step(t: VirtualTime, ctx: WorkflowContext) -> Any:
    return await ctx.step.run("ask", lambda: run_another(t, ctx))


async def read_runs(t: VirtualTime, ctx: WorkflowContext) -> Any:
    assert (await runs.get(t.client, ctx.run_id)).id == ctx.run_id
    return 2 * len(await runs.list(t.client, workflow="parent"))


async def create_a_schedule(t: VirtualTime, ctx: WorkflowContext) -> Any:
    await schedules.create(t.client, "job", "0 0 1 1 *", key="made")
    return 2 * len(await schedules.list(t.client, workflow="job"))


@pytest.mark.parametrize(
    "ask",
    [invoke_a_child, gather_children, run_another, in_a_step, read_runs, create_a_schedule],
    ids=lambda ask: ask.__name__,
)
async def test_what_an_async_handler_asks_waits_for_the_database(ask: Ask) -> None:
    setup = Setup()

    @workflow(schedule=True)
    async def job() -> None: ...

    @workflow
    async def child(ctx: WorkflowContext, payload: int) -> int:
        return payload * 2

    @workflow
    async def parent(ctx: WorkflowContext) -> int:
        await setup.wait()
        value: int = await ask(t, ctx)
        return value

    async with polos.testing.clock(START) as t:
        handle = await parent.invoke(t.client)
        async with setup.outage(t):
            pass
        assert await handle.result(timedelta(minutes=5)) == 2
        assert [run.status for run in await t.runs(workflow="parent")] == ["succeeded"]
        children = await t.runs(workflow="child")
        assert len(children) == {"gather_children": 2, "read_runs": 0, "create_a_schedule": 0}.get(
            ask.__name__, 1
        )


def invoke_a_child_here(t: VirtualTime, ctx: SyncWorkflowContext) -> Any:
    return ctx.step.invoke("child", 1)


def run_another_here(t: VirtualTime, ctx: SyncWorkflowContext) -> Any:
    return runs.sync.invoke(t.client, "child", 1).sync.result()


def in_a_step_here(t: VirtualTime, ctx: SyncWorkflowContext) -> Any:
    return ctx.step.run("ask", run_another_here, t, ctx)


def in_a_thread_without_context(t: VirtualTime, ctx: SyncWorkflowContext) -> Any:
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(ctx.step.invoke("child", 1)))
    thread.start()
    thread.join()
    return found[0]


def read_runs_here(t: VirtualTime, ctx: SyncWorkflowContext) -> Any:
    assert runs.sync.get(t.client, ctx.run_id).id == ctx.run_id
    return 2 * len(runs.sync.list(t.client, workflow="parent"))


@pytest.mark.parametrize(
    "ask",
    [
        invoke_a_child_here,
        run_another_here,
        in_a_step_here,
        in_a_thread_without_context,
        read_runs_here,
    ],
    ids=lambda ask: ask.__name__,
)
async def test_what_a_sync_handler_asks_waits_for_the_database(
    ask: Callable[[VirtualTime, SyncWorkflowContext], Any],
) -> None:
    setup = Setup()

    @workflow
    def child(ctx: SyncWorkflowContext, payload: int) -> int:
        return payload * 2

    @workflow
    def parent(ctx: SyncWorkflowContext) -> int:
        setup.wait_here()
        value: int = ask(t, ctx)
        return value

    async with polos.testing.clock(START) as t:
        handle = await parent.invoke(t.client)
        async with setup.outage(t):
            pass
        assert await handle.result(timedelta(minutes=5)) == 2
        assert [run.status for run in await t.runs(workflow="parent")] == ["succeeded"]


@pytest.mark.parametrize("is_async", [True, False], ids=["async", "sync"])
@pytest.mark.parametrize("where", ["handler", "step"])
async def test_the_last_result_waits_for_the_database(is_async: bool, where: str) -> None:
    """Nothing may block the event loop, so an async handler is stopped and its run released."""
    setup = Setup()
    entered: list[int] = []

    async def read(ctx: WorkflowContext) -> Any:
        await setup.wait()
        return ctx.last_result

    def read_here(ctx: SyncWorkflowContext) -> Any:
        setup.wait_here()
        return ctx.last_result

    async def ticks(ctx: WorkflowContext, payload: SchedulePayload) -> Any:
        entered.append(payload.timestamp.hour)
        if payload.last_timestamp is None:
            return "first"
        await ctx.step.run("before", lambda: None)
        return await (ctx.step.run("read", read, ctx) if where == "step" else read(ctx))

    def ticks_here(ctx: SyncWorkflowContext, payload: SchedulePayload) -> Any:
        entered.append(payload.timestamp.hour)
        if payload.last_timestamp is None:
            return "first"
        return ctx.step.run("read", read_here, ctx) if where == "step" else read_here(ctx)

    workflow(id="ticks", schedule="0 * * * *")(ticks if is_async else ticks_here)
    async with polos.testing.clock(START) as t:
        await t.advance(minutes=40)
        async with setup.outage(t, hours=1):
            pass
        await t.advance(minutes=1)
        found = {(run.status, run.result, run.attempt) for run in await t.runs()}
    assert found == {("succeeded", "first", 1)}
    assert entered == ([1, 2, 2, 3] if is_async else [1, 2, 3])


async def test_a_lost_answer_starts_no_second_run_from_a_handler() -> None:
    @workflow
    async def child() -> int:
        return 1

    @workflow
    async def parent(ctx: WorkflowContext) -> int:
        handle = await child.invoke(t.client)
        return await handle.result()

    async with polos.testing.clock(START) as t:
        t.fail_requests("invoke", when="after_commit", times=3).disarm()
        handle = await parent.invoke(t.client)
        fault = t.fail_requests("invoke", when="after_commit", times=3)
        assert await handle.result(timedelta(minutes=5)) == 1
        assert fault.happened == 3
        assert len(await t.runs(workflow="child")) == 1


@pytest.mark.parametrize("is_async", [True, False], ids=["async", "sync"])
async def test_a_run_that_waits_for_the_database_can_be_stopped(is_async: bool) -> None:
    """By its timeout here; a drain and a cancellation work in the same way."""
    setup = Setup()

    @workflow
    async def child() -> None: ...

    async def waits(ctx: WorkflowContext) -> None:
        await setup.wait()
        await ctx.step.invoke(child)

    def waits_here(ctx: SyncWorkflowContext) -> None:
        setup.wait_here()
        try:
            ctx.step.invoke(child)
        finally:
            ended.set()

    ended = threading.Event()
    parent = workflow(id="parent")(waits if is_async else waits_here)
    async with polos.testing.clock(START) as t:
        await parent.invoke(t.client)
        async with setup.outage(t):
            await t.stop()
            if not is_async:
                assert await asyncio.to_thread(ended.wait, 30), "its thread waits forever"


async def test_outside_of_handlers_an_outage_is_an_error_at_once() -> None:
    @workflow(schedule=True)
    async def job() -> None: ...

    async with polos.testing.clock(START) as t:
        handle = await job.invoke(t.client)
        await handle.result()
        with t.outage():
            for ask in (lambda: runs.list(t.client), lambda: job.invoke(t.client), handle.status):
                with pytest.raises(StoreUnavailableError):
                    await ask()
            with pytest.raises(StoreUnavailableError):
                runs.sync.get(t.client, handle.id)


async def test_a_change_that_may_be_made_twice_is_not_repeated() -> None:
    """It isn't known whether the change was made, so the handler has to decide."""
    setup = Setup()

    @workflow(schedule="0 0 1 1 *")
    async def job() -> None: ...

    refused: list[str] = []

    @workflow
    async def parent(ctx: WorkflowContext) -> None:
        (found,) = await schedules.list(t.client)
        await setup.wait()
        for change in (schedules.trigger, schedules.skip, schedules.delete):
            try:
                await change(t.client, found.id)
            except StoreUnavailableError:
                refused.append(change.__name__)

    async with polos.testing.clock(START) as t:
        handle = await parent.invoke(t.client)
        async with setup.outage(t):
            pass
        await handle.result(timedelta(minutes=5))
    assert refused == ["trigger", "skip", "delete"]


async def test_only_the_database_of_its_worker_is_waited_for() -> None:
    @workflow
    async def asks_elsewhere(ctx: WorkflowContext) -> str:
        with PolosClient("postgresql://nobody@127.0.0.1:1/nothing") as other:
            try:
                await schedules.list(other)
            except StoreUnavailableError:
                return "failed at once"
        return "answered"

    async with polos.testing.clock(START) as t:
        handle = await asks_elsewhere.invoke(t.client)
        assert await handle.result(timedelta(minutes=1)) == "failed at once"
