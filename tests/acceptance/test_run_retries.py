"""Runs with steps are retried or resumed elsewhere: what is executed again, and when."""

from __future__ import annotations

import asyncio
import sys
import types
from collections.abc import Awaitable, Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

import polos.testing
from polos import (
    Backoff,
    DuplicateStepError,
    PolosClient,
    RunHandle,
    StepError,
    StepSerializationError,
    SyncWorkflowContext,
    Worker,
    WorkflowContext,
    runs,
    workflow,
)
from polos.testing import VirtualTime

START = "2026-01-01T00:30+00:00"

Retry = Callable[[VirtualTime, RunHandle[Any]], Awaitable[None]]


async def by_policy(t: VirtualTime, handle: RunHandle[Any]) -> None:
    await t.advance(hours=1)


async def by_policy_on_another_worker(t: VirtualTime, handle: RunHandle[Any]) -> None:
    await t.advance(seconds=1)
    await t.restart()
    await t.advance(hours=1)


async def by_policy_after_a_crash(t: VirtualTime, handle: RunHandle[Any]) -> None:
    await t.advance(seconds=1)
    await t.crash()
    await t.restart()
    await t.advance(hours=1)


async def by_hand(t: VirtualTime, handle: RunHandle[Any]) -> None:
    await t.advance(seconds=1)
    assert await handle.status() == "failed"
    await runs.retry(t.client, handle.id)
    await t.advance(seconds=1)


@pytest.mark.parametrize("is_async", [True, False], ids=["async", "sync"])
@pytest.mark.parametrize(
    "retry", [by_policy, by_policy_on_another_worker, by_policy_after_a_crash, by_hand]
)
async def test_a_new_attempt_executes_its_failed_step_again_and_no_other(
    retry: Retry, is_async: bool
) -> None:
    executed: list[str] = []

    def charge() -> str:
        executed.append("charge")
        if executed.count("charge") == 1:
            raise ConnectionError("down")
        return "charged"

    retries = 0 if retry is by_hand else 1

    if is_async:

        @workflow(id="order", retries=retries, backoff=60)
        async def order(ctx: WorkflowContext) -> list[Any]:
            await ctx.step.run("reserve", executed.append, "reserve")
            return [ctx.attempt, await ctx.step.run("charge", charge)]
    else:

        @workflow(id="order", retries=retries, backoff=60)
        def order_here(ctx: SyncWorkflowContext) -> list[Any]:
            ctx.step.run("reserve", executed.append, "reserve")
            return [ctx.attempt, ctx.step.run("charge", charge)]

    async with polos.testing.clock(START) as t:
        handle: RunHandle[Any] = await runs.invoke(t.client, "order")
        await retry(t, handle)
        assert await handle.result() == [2, "charged"]
        steps = {step.name: (step.status, step.attempt) for step in await t.steps(handle)}
    assert executed == ["reserve", "charge", "charge"]
    assert steps == {"reserve": ("succeeded", 1), "charge": ("succeeded", 1)}


async def test_a_failed_step_that_the_handler_catches_is_not_repeated_within_its_attempt() -> None:
    executed: list[str] = []

    def refuse() -> None:
        executed.append("refuse")
        raise ValueError("no such user")

    @workflow(retries=1, backoff=60)
    async def careful(ctx: WorkflowContext) -> int:
        with pytest.raises(StepError):
            await ctx.step.run("refuse", refuse)
        await ctx.step.sleep("an hour", timedelta(hours=1))
        if ctx.attempt == 1:
            raise ConnectionError("down")
        return len(executed)

    async with polos.testing.clock(START) as t:
        handle = await careful.invoke(t.client)
        await t.advance(hours=5)
        # Executed twice in the first attempt because of the sleep, and once more in the second.
        assert await handle.result() == 2
    assert executed == ["refuse"] * 2


async def test_a_new_attempt_may_take_another_path() -> None:
    """Steps of an earlier attempt need not be reached again."""
    executed: list[str] = []

    @workflow(retries=1, backoff=60)
    async def delivery(ctx: WorkflowContext) -> str:
        way = "by-train" if ctx.attempt == 1 else "by-ship"
        await ctx.step.run(way, executed.append, way)
        if ctx.attempt == 1:
            raise ConnectionError("strike")
        return "delivered"

    async with polos.testing.clock(START) as t:
        handle = await delivery.invoke(t.client)
        await t.advance(hours=1)
        assert await handle.result() == "delivered"
    assert executed == ["by-train", "by-ship"]


async def test_a_retry_by_hand_of_a_failed_parent_starts_another_child() -> None:
    entered: list[str] = []

    @workflow
    async def child(ctx: WorkflowContext) -> str:
        entered.append(ctx.run_id)
        if len(entered) == 1:
            raise ConnectionError("down")
        return "up"

    @workflow
    async def parent(ctx: WorkflowContext) -> str:
        return await ctx.step.invoke(child)

    async with polos.testing.clock(START) as t:
        handle = await parent.invoke(t.client)
        await t.advance(seconds=1)
        assert await handle.status() == "failed"
        await runs.retry(t.client, handle.id)
        await t.advance(seconds=1)
        assert await handle.result() == "up"
    assert len(set(entered)) == 2


# --- a crash in between ----------------------------------------------------------------------


@pytest.mark.parametrize("wait", [4, 60], ids=["in place", "parked"])
async def test_a_step_that_waits_for_its_retry_keeps_count_and_time_through_a_crash(
    wait: int,
) -> None:
    tried: list[float] = []

    def flaky() -> str:
        tried.append((t.now - begin).total_seconds())
        if len(tried) < 3:
            raise ConnectionError("down")
        return "up"

    @workflow
    async def patient(ctx: WorkflowContext) -> str:
        backoff = Backoff(wait, factor=1, jitter=0)
        return await ctx.step.run("flaky", flaky, retries=2, backoff=backoff)

    async with polos.testing.clock(START) as t:
        begin = t.now
        handle = await patient.invoke(t.client)
        await t.advance(seconds=1)
        await t.crash()
        await t.advance(seconds=1)
        await t.restart()
        await t.advance(minutes=5)
        assert await handle.result() == "up"
        (step,) = await t.steps(handle)
    assert tried == [0, wait, 2 * wait]
    assert step.attempt == 3


async def test_a_step_has_no_more_retries_for_a_crash() -> None:
    tried: list[int] = []

    def hopeless() -> None:
        tried.append(1)
        raise ConnectionError("down")

    @workflow
    async def impatient(ctx: WorkflowContext) -> None:
        await ctx.step.run("hopeless", hopeless, retries=1, backoff=Backoff(4, jitter=0))

    async with polos.testing.clock(START) as t:
        handle = await impatient.invoke(t.client)
        await t.advance(seconds=1)
        await t.crash()
        await t.restart()
        await t.advance(minutes=5)
        with pytest.raises(StepError, match="2 times"):
            await handle.result()
    assert len(tried) == 2


async def test_a_short_sleep_ends_at_its_time_though_the_worker_has_crashed() -> None:
    @workflow
    async def nap(ctx: WorkflowContext) -> float:
        await ctx.step.sleep("nap", timedelta(seconds=4))
        return (t.now - begin).total_seconds()

    async with polos.testing.clock(START) as t:
        begin = t.now
        handle = await nap.invoke(t.client)
        await t.advance(seconds=1)
        await t.crash()
        await t.advance(seconds=1)
        await t.restart()
        await t.advance(minutes=1)
        assert await handle.result() == 4


async def test_a_child_that_was_started_and_not_recorded_is_the_same_one_after_a_crash(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    entered: list[str] = []

    @workflow
    async def child(ctx: WorkflowContext) -> str:
        entered.append(ctx.run_id)
        return "done"

    @workflow
    async def parent(ctx: WorkflowContext) -> str:
        return await ctx.step.invoke(child)

    async with polos.testing.clock(START) as t:
        with monkeypatch.context() as patched:
            # The worker dies after the child was created and before the parent has a record of it.
            patched.setattr("polos._runtime.steps.note_child", lambda *_: t._crash())
            handle = await parent.invoke(t.client)
            await t.advance(seconds=1)
        assert await t.steps(handle) == []
        await t.advance(seconds=1)
        await t.restart()
        await t.advance(minutes=1)
        assert await handle.result() == "done"
        assert len(await t.runs(workflow="child")) == 1
    assert len(set(entered)) == 1


async def test_a_run_that_was_ended_by_its_timeout_stays_so_when_the_worker_stops() -> None:
    """The first reason to stop a handler counts, however long its cleanup takes."""

    @workflow(timeout=5)
    async def slow(ctx: WorkflowContext) -> None:
        try:
            await ctx.step.sleep("until the end", timedelta(seconds=4.9))
            await ctx.step.sleep("a bit more", timedelta(seconds=4.9))
        finally:
            await cleanup.wait()

    cleanup = asyncio.Event()
    async with polos.testing.clock(START) as t:
        handle = await slow.invoke(t.client)
        await t.advance(seconds=6)
        worker = t.worker
        stopping = asyncio.create_task(t.stop())
        while t._worker is worker:  # noqa: ASYNC110 -- nothing reports that it has begun to close
            await asyncio.sleep(0)
        cleanup.set()
        await stopping
        await t.restart()
        with pytest.raises(polos.RunTimeoutError):
            await handle.result()
        assert await handle.status() == "failed"


# --- what was recorded -----------------------------------------------------------------------


async def test_a_name_is_used_twice_also_where_it_was_recorded() -> None:
    executed: list[str] = []

    @workflow(retries=1, backoff=60)
    async def careless(ctx: WorkflowContext) -> None:
        await ctx.step.run("load", executed.append, "load")
        if ctx.attempt == 1:
            raise ConnectionError("down")
        await ctx.step.run("load", executed.append, "again")

    async with polos.testing.clock(START) as t:
        handle = await careless.invoke(t.client)
        await t.advance(hours=1)
        with pytest.raises(DuplicateStepError, match="`load` is used twice"):
            await handle.result()
    assert executed == ["load"]


async def test_a_step_whose_result_cant_be_stored_is_recorded_as_failed() -> None:
    executed: list[str] = []

    def connect() -> object:
        executed.append("connect")
        return object()

    @workflow
    async def careless(ctx: WorkflowContext) -> str:
        try:
            await ctx.step.run("connect", connect)
        except StepSerializationError as error:
            text = str(error)
        await ctx.step.sleep("a day", timedelta(days=1))
        return text

    async with polos.testing.clock(START) as t:
        handle = await careless.invoke(t.client)
        await t.advance(days=2)
        # The handler was executed twice, and got the same error.
        assert "`connect`" in await handle.result()
        failed, _ = await t.steps(handle)
        assert (failed.name, failed.status) == ("connect", "failed")
        assert failed.error is not None
        assert "can't be stored" in failed.error.message
    assert executed == ["connect"]


@pytest.fixture
def shop() -> Iterator[Callable[[str], types.ModuleType]]:
    """``shop(source)``: define a module of the application, as a deployment does."""
    module = types.ModuleType("shop")
    sys.modules["shop"] = module

    def deploy(source: str) -> types.ModuleType:
        exec("from dataclasses import dataclass\n" + source, vars(module))
        return module

    yield deploy
    del sys.modules["shop"]


async def test_a_recorded_result_that_cant_be_restored_names_the_step_and_the_reason(
    shop: Callable[[str], types.ModuleType],
) -> None:
    module = shop("@dataclass\nclass Order:\n    id: int")

    @workflow
    async def ship(ctx: WorkflowContext) -> int:
        order: Any = await ctx.step.run("load order", lambda: module.Order(17))
        await ctx.step.sleep("a day", timedelta(days=1))
        id: int = order.id
        return id

    async with polos.testing.clock(START) as t:
        handle = await ship.invoke(t.client)
        await t.advance(hours=1)
        shop("@dataclass\nclass Order:\n    id: int\n    customer: str")
        await t.advance(days=1)
        with pytest.raises(
            StepSerializationError,
            match=r"step `load order` was recorded, but its result cannot be restored: .*customer",
        ) as caught:
            await handle.result()
        assert caught.value.step == "load order"
        # With the old class back, the run continues where it was.
        shop("@dataclass\nclass Order:\n    id: int")
        await runs.retry(t.client, handle.id)
        await t.advance(days=1)
        assert await handle.result() == 17


# --- what a handler may catch ----------------------------------------------------------------


async def test_a_handler_that_catches_the_end_of_its_execution_takes_no_more_steps() -> None:
    executed: list[str] = []
    caught: list[str] = []

    @workflow
    async def stubborn(ctx: WorkflowContext) -> str:
        try:
            await ctx.step.sleep("a day", timedelta(days=1))
        except BaseException as error:
            caught.append(type(error).__name__)
        await ctx.step.run("after", executed.append, "after")
        return "done"

    async with polos.testing.clock(START) as t:
        handle = await stubborn.invoke(t.client)
        await t.advance(hours=1)
        assert await handle.status() == "waiting"
        assert executed == []
        await t.advance(days=1)
        assert await handle.result() == "done"
    assert caught == ["HandlerParked"]
    assert executed == ["after"]


async def test_a_run_that_fails_in_every_attempt_has_one_record_of_each_step(
    client: PolosClient,
) -> None:
    @workflow(retries=2, backoff=0)
    async def broken(ctx: WorkflowContext) -> None:
        await ctx.step.run("first", str)
        await ctx.step.run("second", int, "x")

    async with Worker(client, app="tests"):
        handle = await broken.invoke(client)
        with pytest.raises(StepError, match="ValueError"):
            await handle.result(30)
    run = await runs.get(client, handle.id)
    assert run.attempt == 3
    assert [(step.name, step.status) for step in run.steps] == [
        ("first", "succeeded"), ("second", "failed"),
    ]  # fmt: skip
