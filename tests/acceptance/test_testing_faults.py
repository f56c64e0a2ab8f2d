"""Faults that tests can inject in virtual time, and their effects."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

import pytest

import polos.testing
from polos import (
    InvalidArgumentError,
    InvalidStateError,
    StepError,
    StoreUnavailableError,
    SyncWorkflowContext,
    WorkflowContext,
    schedules,
    workflow,
)
from polos.testing import Moment

START = "2026-01-01T00:30+00:00"


# --- crashes ---------------------------------------------------------------------------------


async def test_a_run_of_a_crashed_worker_continues_from_its_first_unfinished_step() -> None:
    executed = []

    @workflow
    async def order(ctx: WorkflowContext) -> str:
        await ctx.step.run("charge", executed.append, "charge")
        await ctx.step.sleep("a moment", timedelta(seconds=3))
        await ctx.step.run("ship", executed.append, "ship")
        return "shipped"

    async with polos.testing.clock(START) as t:
        handle = await order.invoke(t.client)
        await t.advance(seconds=1)
        await t.crash()
        assert await handle.status() == "running", "held until another worker takes it over"
        await t.advance(hours=1)
        assert await handle.status() == "running"
        await t.restart()
        assert await handle.result() == "shipped"
    assert executed == ["charge", "ship"]


async def test_on_another_machine_a_run_is_taken_over_when_the_lease_has_run_out() -> None:
    begun = []

    @workflow
    async def slow(ctx: WorkflowContext) -> None:
        begun.append(t.now)
        await ctx.step.sleep("a moment", timedelta(seconds=3))

    async with polos.testing.clock(START) as t:
        handle = await slow.invoke(t.client)
        await t.advance(seconds=1)
        await t.crash()
        await t.restart(elsewhere=True, lease=20)
        await t.advance(seconds=19)
        assert len(begun) == 1
        await t.advance(seconds=2)
        assert await handle.status() == "succeeded"
    assert [after - begun[0] for after in begun[1:]] == [timedelta(seconds=21)]


@pytest.mark.parametrize(
    ("when", "executions"), [("before_call", 1), ("before_commit", 2), ("after_commit", 1)]
)
async def test_a_crash_at_a_step(when: Moment, executions: int) -> None:
    executed = []

    @workflow
    async def order(ctx: WorkflowContext) -> int:
        return await ctx.step.run("charge", lambda: executed.append(ctx.step_key) or len(executed))

    async with polos.testing.clock(START) as t:
        fault = t.crash_at("charge", when=when)
        handle = await order.invoke(t.client)
        await t.advance(minutes=1)
        assert fault.happened == 1
        assert len(await t.steps(handle)) == (1 if when == "after_commit" else 0)
        await t.restart()
        assert await handle.result() == executions
    assert len(executed) == executions
    assert len(set(executed)) == 1, "the same key for the same step"


@pytest.mark.parametrize(
    ("when", "calls"), [("before_call", 1), ("before_commit", 2), ("after_commit", 1)]
)
async def test_a_crash_at_a_handler_s_begin_or_end(when: Moment, calls: int) -> None:
    called = []

    @workflow
    async def job() -> None:
        called.append(1)

    async with polos.testing.clock(START) as t:
        t.crash_at(workflow=job, when=when)
        handle = await job.invoke(t.client)
        await t.advance(minutes=1)
        await t.restart()
        await handle.result()
    assert len(called) == calls


async def test_slots_that_come_due_without_a_worker_are_caught_up_with() -> None:
    ran = []

    @workflow(schedule="0 * * * *")
    async def hourly() -> None:
        ran.append(t.now.hour)

    async with polos.testing.clock(START) as t:
        await t.advance(hours=1)
        await t.crash()
        await t.advance(hours=5)
        await t.restart()
        await t.advance(hours=1)
        ledger = await t.ledger(workflow=hourly)
    assert ran == [1, 6, 7]
    outcomes = [(entry.timestamp.hour, entry.status, entry.count) for entry in ledger]
    assert outcomes == [(1, "ran", 1), (2, "missed", 4), (6, "ran", 1), (7, "ran", 1)]


async def test_a_stopped_worker_releases_its_runs() -> None:
    @workflow
    async def job(ctx: WorkflowContext) -> str:
        await ctx.step.sleep("a moment", timedelta(seconds=3))
        return "done"

    async with polos.testing.clock(START) as t:
        handle = await job.invoke(t.client)
        await t.advance(seconds=1)
        await t.stop()
        assert await handle.status() == "queued"
        with pytest.raises(InvalidStateError, match="stopped"):
            await t.crash()
        await t.restart()
        await t.restart()
        assert await handle.result() == "done"


async def test_a_handler_that_ignores_the_crash_records_nothing() -> None:
    reached: list[str] = []
    begun = asyncio.Event()

    @workflow
    async def stubborn(ctx: WorkflowContext) -> str:
        try:
            begun.set()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            reached.append("cancelled")
        try:
            await ctx.step.run("cleanup", reached.append, "cleanup")
        except asyncio.CancelledError:
            reached.append("refused")
        return "anyway"

    async with polos.testing.clock(START) as t:
        handle = await stubborn.invoke(t.client)
        with pytest.raises(TimeoutError, match="no worker runs"):
            await asyncio.gather(handle.result(), crash_when(begun, t))
        assert await handle.status() == "running"
        assert await t.steps(handle) == []
    assert reached == ["cancelled", "refused"]


async def crash_when(begun: asyncio.Event, t: polos.testing.VirtualTime) -> None:
    await begun.wait()
    await t.crash()


async def test_a_sync_handler_crashes_as_well() -> None:
    executed = []

    @workflow
    def order(ctx: SyncWorkflowContext) -> str:
        ctx.step.run("charge", executed.append, 1)
        ctx.step.run("ship", executed.append, 2)
        return "shipped"

    async with polos.testing.clock(START) as t:
        t.crash_at("ship", when="before_commit")
        handle = await order.invoke(t.client)
        await t.advance(seconds=1)
        await t.restart()
        assert await handle.result() == "shipped"
    assert executed == [1, 2, 2]


async def test_a_worker_crashes_again_and_again() -> None:
    executed = []

    @workflow
    async def order(ctx: WorkflowContext) -> None:
        for number in range(5):
            await ctx.step.run(f"box-{number}", executed.append, number)

    async with polos.testing.clock(START) as t:
        for number in range(5):
            t.crash_at(f"box-{number}", when="after_commit")
        handle = await order.invoke(t.client)
        for _ in range(5):
            await t.advance(seconds=1)
            await t.restart()
        await handle.result()
    assert executed == [0, 1, 2, 3, 4]


# --- failures of the application -------------------------------------------------------------


async def test_a_step_fails_twice_and_is_tried_again() -> None:
    called = []

    @workflow
    async def order(ctx: WorkflowContext) -> str:
        await ctx.step.run("charge", called.append, 1, retries=3, backoff=60)
        return "charged"

    async with polos.testing.clock(START) as t:
        t.fail_step("charge", times=2)
        assert await order.run(t.client) == "charged"
        (step,) = await t.steps()
        assert step.attempt == 3
        assert step.started_at == datetime.fromisoformat(START)
        assert t.now - step.finished_at < timedelta(seconds=1)  # type: ignore[operator]
        assert t.now.isoformat() > "2026-01-01T00:32", "the waits have passed"
    assert called == [1]


async def test_a_step_fails_for_good_with_the_error_that_was_asked_for() -> None:
    @workflow
    async def order(ctx: WorkflowContext) -> None:
        await ctx.step.run("charge", len, [], retries=1, backoff=1)

    async with polos.testing.clock(START) as t:
        t.fail_step("charge", times=2, error=ValueError("no such card"), workflow=order)
        with pytest.raises(StepError, match="no such card"):
            await order.run(t.client)
        assert [step.status for step in await t.steps(workflow="order")] == ["failed"]


async def test_a_run_fails_and_is_tried_again() -> None:
    @workflow(retries=2, backoff=3600)
    async def job() -> str:
        return "done"

    async with polos.testing.clock(START) as t:
        t.fail_run(job, times=2, error=OSError)
        assert await job.run(t.client) == "done"
        (run,) = await t.runs()
        assert run.attempt == 3


async def test_a_fault_that_never_happens_fails_the_test() -> None:
    with pytest.raises(AssertionError, match=r"never happened: fail_step\('chrage'\)"):
        async with polos.testing.clock(START) as t:
            t.fail_step("chrage")

    async with polos.testing.clock(START) as t:
        t.fail_step("charge").disarm()


# --- the database ----------------------------------------------------------------------------


async def test_while_the_database_is_down_handlers_wait_and_nothing_is_lost() -> None:
    executed = []

    @workflow(schedule="0 * * * *")
    async def hourly() -> None:
        executed.append(f"{t.now:%H:%M}")

    @workflow
    async def order(ctx: WorkflowContext) -> str:
        await ctx.step.run("charge", asyncio.sleep, 0)
        return "charged"

    async with polos.testing.clock(START) as t:
        handle = await order.invoke(t.client)
        with t.outage():
            with pytest.raises(StoreUnavailableError):
                await order.invoke(t.client)
            await t.advance(hours=2)
            assert len(await t.runs()) == 1
        assert await handle.result() == "charged"
        await t.advance(minutes=10)
        assert executed == ["02:30"], "the newest slot, late"
        assert [entry.status for entry in await t.ledger()] == ["missed", "ran"]


async def test_a_step_that_ends_in_an_outage_is_recorded_after_it() -> None:
    begun, proceed = asyncio.Event(), asyncio.Event()
    executed = []

    @workflow
    async def order(ctx: WorkflowContext) -> str:
        begun.set()
        await ctx.step.run("charge", proceed.wait)
        executed.append("charge")
        return "charged"

    async with polos.testing.clock(START) as t:
        handle = await order.invoke(t.client)
        turning = asyncio.create_task(t.advance(seconds=1))
        await begun.wait()
        with t.outage():
            proceed.set()
            await turning
            await t.advance(minutes=5)
            assert executed == []
            assert await t.steps(handle) == []
        assert await handle.result() == "charged"


async def test_a_lost_answer_starts_no_second_run() -> None:
    ran = []

    @workflow
    async def order() -> None:
        ran.append(1)

    async with polos.testing.clock(START) as t:
        for when in ("before_commit", "after_commit"):
            fault = t.fail_requests("invoke", when=when)  # type: ignore[arg-type]
            with pytest.raises(StoreUnavailableError):
                await order.invoke(t.client, idempotency_key="7")
            assert fault.happened == 1
        await (await order.invoke(t.client, idempotency_key="7")).result()
    assert ran == [1]


async def test_requests_fail_as_often_as_asked() -> None:
    @workflow(schedule=True)
    async def digest() -> None: ...

    async with polos.testing.clock(START) as t:
        t.fail_requests(times=2, error=ConnectionResetError)
        for _ in range(2):
            with pytest.raises(ConnectionResetError):
                await schedules.create(t.client, digest, cron="0 8 * * *")
        await schedules.create(t.client, digest, cron="0 8 * * *")
        assert len(await t.schedules()) == 1


# --- bad input -------------------------------------------------------------------------------


async def test_invalid_input_is_named() -> None:
    async with polos.testing.clock(START) as t:
        with pytest.raises(InvalidArgumentError, match="when: `sometime` given"):
            t.crash_at("x", when="sometime")  # type: ignore[arg-type]
        with pytest.raises(InvalidArgumentError, match="times: `0` given"):
            t.fail_step("x", times=0)
        with pytest.raises(InvalidArgumentError, match="expected an exception"):
            t.fail_step("x", error="oops")  # type: ignore[arg-type]
        with pytest.raises(InvalidArgumentError, match="expected one of `before_commit`"):
            t.fail_requests(when="before_call")
        with t.outage(), pytest.raises(InvalidStateError, match="already unavailable"), t.outage():
            pass


async def test_handlers_cannot_advance_the_clock() -> None:
    @workflow
    async def impatient() -> None:
        await t.advance(days=1)

    async with polos.testing.clock(START) as t:
        with pytest.raises(InvalidStateError, match="only the test can control the clock"):
            await impatient.run(t.client)


async def test_a_crash_takes_no_real_time() -> None:
    """90 minutes of virtual time pass. In real time, the test would time out."""

    @workflow
    async def job(ctx: WorkflowContext) -> None:
        await ctx.step.sleep("a moment", timedelta(seconds=3))

    async with polos.testing.clock(START) as t:
        handle = await job.invoke(t.client)
        await t.advance(seconds=1)
        await t.crash()
        await t.restart(elsewhere=True, lease=3600)
        await handle.result()
        assert t.now.isoformat() > "2026-01-01T01:30"


async def test_a_run_that_is_started_after_a_crash_is_not_the_crashed_worker_s() -> None:
    entered = []

    @workflow
    async def job() -> None:
        entered.append(t.now)

    async with polos.testing.clock(START) as t:
        await t.crash()
        early = await job.invoke(t.client)
        assert await early.status() == "queued"
        begin = t.now
        await t.restart(elsewhere=True, lease=20)
        late = await job.invoke(t.client)
        await t.advance(seconds=1)
        assert [await early.status(), await late.status()] == ["succeeded", "succeeded"]
    assert [at - begin for at in entered] == [timedelta(0)] * 2
