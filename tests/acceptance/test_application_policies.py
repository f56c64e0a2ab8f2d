"""Policies that call the application: hooks, calendars, children, pausing after failures."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import polos.testing
from polos import SchedulePayload, WorkflowContext, schedules, workflow

START = "2026-01-01T00:30+00:00"


async def test_on_failure_is_called_once_when_a_run_has_failed_for_good() -> None:
    calls: list[Any] = []

    @workflow(
        schedule="0 * * * *", retries=2, backoff=1, on_failure=lambda *about: calls.append(about)
    )
    async def failing() -> None:
        raise ValueError("again")

    async with polos.testing.clock(START) as t:
        await t.advance(hours=1)
        assert [run.status for run in await t.runs()] == ["failed"]
    assert len(calls) == 1


async def test_on_missed_is_called_for_slots_that_passed_without_a_run() -> None:
    calls: list[Any] = []

    @workflow(id="job", schedule=True, on_missed=lambda *about: calls.append(about))
    async def job() -> None: ...

    async with polos.testing.clock(START) as t:
        id = await schedules.create(t.client, "job", "0 * * * *", catch_up="none")
        await schedules.pause(t.client, id)
        await t.advance(hours=3)
        await schedules.resume(t.client, id)
        await t.advance(minutes=1)
    assert len(calls) == 1


async def test_a_schedule_is_paused_after_so_many_failures_in_a_row() -> None:
    attempts: list[int] = []

    @workflow(id="job", schedule=True)
    async def job(ctx: WorkflowContext, payload: SchedulePayload) -> None:
        attempts.append(payload.timestamp.hour)
        if payload.timestamp.hour != 2:
            raise ValueError("again")

    async with polos.testing.clock(START) as t:
        id = await schedules.create(t.client, "job", "0 * * * *", pause_after_failures=3)
        await t.advance(hours=10)
        schedule = await schedules.get(t.client, id)
    # The success at two resets the count.
    assert attempts == [1, 2, 3, 4, 5]
    assert schedule.status == "paused"
    assert schedule.note


async def test_a_calendar_of_the_application_is_asked_when_a_slot_comes_due() -> None:
    class Weekends:
        def __contains__(self, day: date) -> bool:
            return day.weekday() >= 5

    seen: list[SchedulePayload] = []

    @workflow(schedule={"cron": "0 9 * * *", "skip": Weekends()})
    async def on_workdays(ctx: WorkflowContext, payload: SchedulePayload) -> None:
        seen.append(payload)

    # 1 January 2026 is a Thursday.
    async with polos.testing.clock(START) as t:
        await t.advance(days=6)
        history = await t.ledger(workflow=on_workdays)
    assert [payload.timestamp.day for payload in seen] == [1, 2, 5, 6]
    assert sum(entry.count for entry in history if entry.status == "skipped") == 2
    assert [payload.upcoming.day for payload in seen] == [2, 5, 6, 7]


async def test_a_child_run_is_awaited_durably() -> None:
    @workflow
    async def child(ctx: WorkflowContext, payload: int) -> int:
        await ctx.step.sleep("work", timedelta(hours=1))
        return payload * 2

    @workflow
    async def parent(ctx: WorkflowContext) -> int:
        return int(await ctx.step.invoke(child, 21))

    async with polos.testing.clock(START) as t:
        handle = await parent.invoke(t.client)
        await t.advance(hours=2)
        assert await handle.result() == 42
        assert len(await t.runs()) == 2
