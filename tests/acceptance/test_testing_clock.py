"""Virtual time as users of `polos.testing` see it."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest

import polos.testing
from polos import (
    InvalidArgumentError,
    InvalidStateError,
    RunTimeoutError,
    SyncWorkflowContext,
    WorkflowContext,
    runs,
    schedules,
    workflow,
)

START = "2026-01-01T00:30+00:00"


async def test_awaiting_a_result_lets_time_pass() -> None:
    @workflow
    async def patient(ctx: WorkflowContext) -> str:
        await ctx.step.sleep("a week", timedelta(weeks=1))
        return "rested"

    async with polos.testing.clock(START) as t:
        assert await patient.run(t.client) == "rested"
        assert t.now == datetime(2026, 1, 8, 0, 30, tzinfo=timezone.utc)


async def test_a_timeout_is_of_virtual_time() -> None:
    @workflow
    async def patient(ctx: WorkflowContext) -> None:
        await ctx.step.sleep("a week", timedelta(weeks=1))

    async with polos.testing.clock(START) as t:
        handle = await patient.invoke(t.client)
        with pytest.raises(RunTimeoutError):
            await handle.result(timeout=timedelta(days=2))
        assert t.now == datetime(2026, 1, 3, 0, 30, tzinfo=timezone.utc)


async def test_a_run_that_nothing_can_end_is_named() -> None:
    @workflow
    async def parent(ctx: WorkflowContext) -> None:
        await ctx.step.invoke(child)

    @workflow
    async def child() -> None: ...

    async with polos.testing.clock(START, workflows=[parent]) as t:
        with pytest.raises(TimeoutError, match=r"workflow `parent` is waiting .* nothing is due"):
            await parent.run(t.client)


async def test_a_handler_may_wait_for_a_run_that_takes_its_time() -> None:
    @workflow
    async def slow(ctx: WorkflowContext) -> int:
        await ctx.step.sleep("a day", timedelta(days=1))
        return 7

    @workflow
    async def inline() -> int:
        return await slow.run(t.client)

    @workflow
    async def in_a_step(ctx: WorkflowContext) -> int:
        return await ctx.step.run("slow", slow.run, t.client)

    async with polos.testing.clock(START) as t:
        assert await inline.run(t.client) == 7
        assert await in_a_step.run(t.client) == 7
        assert t.now == datetime(2026, 1, 3, 0, 30, tzinfo=timezone.utc)


async def test_time_does_not_run_ahead_of_an_answer_that_is_on_its_way() -> None:
    """The end of a child comes from another thread; what is due later must not come before it."""
    ended = []

    @workflow
    async def child(ctx: WorkflowContext, hours: int) -> None:
        await ctx.step.sleep("some hours", timedelta(hours=hours))

    @workflow
    async def parent(ctx: WorkflowContext) -> None:
        for number in range(100):
            await ctx.step.gather(ctx.step.invoke(child, 1, name=f"child-{number}"))
            ended.append(t.now)

    @workflow(schedule={"every": timedelta(minutes=10)})
    async def often() -> None: ...

    async with polos.testing.clock("2026-01-01T00:00Z") as t:
        await parent.run(t.client)
    assert [f"{now:%d %H:%M}" for now in ended[:2]] == ["01 01:00", "01 02:00"]
    assert ended[-1] - ended[0] == timedelta(hours=99)


async def test_several_results_are_awaited_at_once() -> None:
    @workflow
    async def patient(ctx: WorkflowContext, hours: int) -> int:
        await ctx.step.sleep("some hours", timedelta(hours=hours))
        return t.now.hour

    async with polos.testing.clock("2026-01-01T00:00Z") as t:
        assert await asyncio.gather(*(patient.run(t.client, n) for n in (3, 1, 2))) == [3, 1, 2]
        assert t.now.hour == 3


async def test_steps_by_run_name_and_status() -> None:
    @workflow
    async def order(ctx: WorkflowContext, boxes: int) -> None:
        for box in range(boxes):
            await ctx.step.run(f"pack-{box}", len, "box")

    async with polos.testing.clock(START) as t:
        first = await order.invoke(t.client, 2)
        await t.advance(seconds=1)
        second = await order.invoke(t.client, 1)
        await t.advance(seconds=1)
        assert [step.name for step in await t.steps(first)] == ["pack-0", "pack-1"]
        assert [step.result for step in await t.steps(second.id)] == [3]
        assert len(await t.steps()) == 3
        assert len(await t.steps(name="pack-0", status="succeeded", workflow=order)) == 2
        (run, _) = await t.runs()
        assert len(await t.steps(run)) == 2
        with pytest.raises(InvalidArgumentError, match="`workflow` and a run given"):
            await t.steps(run, workflow="order")


async def test_the_ledger_of_one_schedule_and_of_many() -> None:
    @workflow(schedule=True)
    async def digest() -> None: ...

    async with polos.testing.clock(START) as t:
        ada = await schedules.create(t.client, digest, cron="0 8 * * *", key="ada")
        await schedules.create(t.client, digest, cron="0 9 * * *", key="bob")
        await schedules.skip(t.client, ada)
        await t.advance(days=2)
        assert [entry.status for entry in await t.ledger(ada)] == ["skipped", "ran"]
        assert [entry.timestamp.hour for entry in await t.ledger()] == [8, 9, 8, 9]
        assert len(await t.ledger(key="bob", status="ran")) == 2
        (schedule, _) = sorted(await t.schedules(), key=lambda schedule: schedule.key)
        assert len(await t.ledger(schedule)) == 2


async def test_a_ledger_is_in_order_when_an_hour_comes_twice() -> None:
    @workflow(schedule={"cron": "*/20 * * * *", "timezone": "America/New_York"})
    async def often() -> None: ...

    async with polos.testing.clock("2026-11-01T01:30-04:00") as t:
        await t.advance(hours=2)
        times = [f"{entry.timestamp:%H:%M%z}" for entry in await t.ledger(workflow=often)]
    assert times == [
        "01:40-0400", "01:00-0500", "01:20-0500", "01:40-0500", "02:00-0500", "02:20-0500",
    ]  # fmt: skip


async def test_a_ledger_has_no_page() -> None:
    @workflow(schedule={"every": timedelta(minutes=1)})
    async def minutely() -> None: ...

    async with polos.testing.clock(START) as t:
        await t.advance(days=1)
        assert len(await t.ledger(workflow=minutely)) == 1440


NEW_YORK = ZoneInfo("America/New_York")


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        ("2026-03-07T12:00:00-05:00", ["08. 03:00", "09. 02:30"]),
        ("2026-10-31T12:00:00-04:00", ["01. 02:30", "02. 02:30"]),
    ],
)
async def test_schedules_over_a_clock_change(start: str, expected: list[str]) -> None:
    @workflow(schedule={"cron": "30 2 * * *", "timezone": "America/New_York"})
    async def nightly() -> None: ...

    async with polos.testing.clock(start) as t:
        await t.advance(days=2)
        ran = [f"{run.timestamp:%d. %H:%M}" for run in await t.runs()]
    assert ran == expected


async def test_time_is_given_as_text_too() -> None:
    async with polos.testing.clock("2026-01-01T00:00Z") as t:
        await t.advance_to("2026-06-01T00:00+02:00")
        assert t.now == datetime(2026, 5, 31, 22, tzinfo=timezone.utc)
        await t.set_to("2026-01-01T00:00:00Z")
        assert t.now.month == 1
        with pytest.raises(InvalidArgumentError, match="instant: `noon` isn't an ISO datetime"):
            await t.advance_to("noon")
        with pytest.raises(InvalidArgumentError, match="no time zone"):
            await t.advance_to("2026-06-01T00:00")


async def test_retries_and_timeouts_pass_at_once() -> None:
    attempts = []

    @workflow(retries=1, backoff=timedelta(hours=1), timeout=timedelta(days=10))
    async def stuck() -> str:
        attempts.append(t.now)
        if len(attempts) == 1:
            await asyncio.Event().wait()
        return "done"

    async with polos.testing.clock(START) as t:
        assert await stuck.run(t.client) == "done"
    assert attempts[1] - attempts[0] >= timedelta(days=10)


async def test_a_failing_test_reports_what_happened() -> None:
    @workflow
    async def order(ctx: WorkflowContext) -> None:
        await ctx.step.run("charge", len, [1])
        await ctx.step.run("ship", len, [1])

    async def failing_test() -> None:
        async with polos.testing.clock(START) as t:
            t.fail_step("ship", error=ValueError("no address"))
            await order.invoke(t.client)
            await t.advance(hours=1)
            await t.crash()
            raise AssertionError("wrong")

    with pytest.raises(AssertionError) as caught:
        await failing_test()
    (note,) = caught.value.__notes__
    assert "2026-01-01 01:30:00+00:00 of virtual time" in note
    assert "it crashed at 2026-01-01 01:30:00+00:00" in note
    assert "order failed: polos.exceptions.StepError" in note
    assert "charge: succeeded" in note
    assert "ship: failed: ValueError: no address" in note
    assert "fault fail_step('ship'): happened 1 of 1" in note


# --- without a loop --------------------------------------------------------------------------


def test_a_test_without_a_loop() -> None:
    ran = []

    @workflow(schedule="0 9 * * *")
    async def daily(ctx: WorkflowContext) -> None:
        await ctx.step.run("note", ran.append, t.now.day)

    @workflow
    def by_hand(ctx: SyncWorkflowContext, name: str) -> str:
        ctx.step.sleep("an hour", timedelta(hours=1))
        return f"hello {name}"

    with polos.testing.clock(START) as t:
        t.advance(days=3)
        assert ran == [1, 2, 3]
        handle = runs.sync.invoke(t.client, by_hand, "Ada")
        assert handle.sync.result() == "hello Ada"
        assert t.now.isoformat() == "2026-01-04T01:30:00+00:00"
        (schedule,) = t.schedules()
        schedules.sync.pause(t.client, schedule.id)
        t.advance(timedelta(days=3))
        assert [entry.status for entry in t.ledger(schedule)] == ["ran"] * 3
        t.crash_at("note", when="before_commit")
        schedules.sync.trigger(t.client, schedule.id)
        t.advance(seconds=1)
        t.restart()
        t.advance(seconds=1)
        assert [step.status for step in t.steps(name="note")] == ["succeeded"] * 4
        assert len(t.runs(status="succeeded")) == 5
    assert ran == [1, 2, 3, 7, 7]
    with pytest.raises(InvalidStateError, match="has ended"):
        t.advance(days=1)


def test_a_failing_test_without_a_loop_reports_what_happened() -> None:
    with pytest.raises(AssertionError) as caught, polos.testing.clock(START):
        raise AssertionError("wrong")
    assert "no runs" in caught.value.__notes__[0]


async def test_a_blocking_clock_is_refused_where_a_loop_runs() -> None:
    with pytest.raises(InvalidStateError, match="async with"), polos.testing.clock(START):
        pass


async def test_a_blocking_result_is_refused_where_a_loop_runs() -> None:
    @workflow
    async def job() -> None: ...

    async with polos.testing.clock(START) as t:
        handle = await job.invoke(t.client)
        with pytest.raises(InvalidStateError, match="await the result"):
            handle.sync.result()


async def test_one_clock_is_used_once_at_a_time() -> None:
    clock = polos.testing.clock(START)
    async with clock:
        with pytest.raises(InvalidStateError, match="in use"):
            await clock.__aenter__()
    async with clock as t:
        assert await t.runs() == []


async def test_a_clock_that_cannot_begin_says_why_and_leaves_nothing_behind() -> None:
    clock = polos.testing.clock("2026-01-01T00:00+00:00", concurrency=0)
    with pytest.raises(InvalidArgumentError, match="concurrency"):
        async with clock:
            raise AssertionError("never reached")


def test_a_blocking_clock_that_cannot_begin_says_why_and_leaves_nothing_behind() -> None:
    clock = polos.testing.clock("2026-01-01T00:00+00:00", concurrency=0)
    with pytest.raises(InvalidArgumentError, match="concurrency"), clock:
        raise AssertionError("never reached")
