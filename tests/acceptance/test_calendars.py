"""`skip` with a calendar of the application: the excluded runs, and `upcoming`."""

from __future__ import annotations

from datetime import date, datetime, timezone
from zoneinfo import ZoneInfo

import polos.testing
from polos import SchedulePayload, WorkflowContext, schedules, workflow

SYDNEY = ZoneInfo("Australia/Sydney")
DATES = [date(2026, 1, 26), date(2026, 1, 27)]


class Holidays:
    """A calendar that only the application can evaluate, like those of `holidays`."""

    def __contains__(self, day: object) -> bool:
        return day in DATES


HOLIDAYS = Holidays()


async def test_a_date_is_that_of_the_schedules_zone() -> None:
    ran: list[date] = []

    # 09:00 in Sydney is the evening before in UTC.
    @workflow(schedule={"cron": "0 9 * * *", "timezone": "Australia/Sydney", "skip": HOLIDAYS})
    async def report(ctx: WorkflowContext, payload: SchedulePayload) -> None:
        ran.append(payload.timestamp.date())

    async with polos.testing.clock(datetime(2026, 1, 24, 12, tzinfo=SYDNEY)) as t:
        await t.advance_to(datetime(2026, 1, 29, 12, tzinfo=SYDNEY))
        skipped = await t.ledger(status="skipped")
    assert ran == [date(2026, 1, 25), date(2026, 1, 28), date(2026, 1, 29)]
    assert [entry.timestamp.date() for entry in skipped] == DATES
    assert "2026-01-26 is excluded by the application's calendar" in str(skipped[0].reason)


async def test_upcoming_is_the_next_slot_that_is_not_excluded() -> None:
    seen: list[tuple[int, int]] = []

    @workflow(schedule={"cron": "0 9 * * *", "skip": HOLIDAYS})
    async def report(ctx: WorkflowContext, payload: SchedulePayload) -> None:
        seen.append((payload.timestamp.day, payload.upcoming.day))

    async with polos.testing.clock("2026-01-23T12:00+00:00") as t:
        await t.advance(days=6)
    assert seen == [(24, 25), (25, 28), (28, 29), (29, 30)]


async def test_the_last_slot_has_itself_for_upcoming() -> None:
    seen: list[SchedulePayload] = []
    rule = {"cron": "0 9 * * *", "end_at": datetime(2026, 1, 28, tzinfo=timezone.utc)}

    @workflow(schedule={**rule, "skip": HOLIDAYS})
    async def report(ctx: WorkflowContext, payload: SchedulePayload) -> None:
        seen.append(payload)

    async with polos.testing.clock("2026-01-24T12:00+00:00") as t:
        await t.advance(days=6)
    assert [(payload.timestamp.day, payload.upcoming.day) for payload in seen] == [(25, 25)]


async def test_a_calendar_is_for_slots_of_the_decorators_schedule_only() -> None:
    """Manual runs are not excluded, nor are schedules with other keys."""
    ran: list[str] = []

    @workflow(schedule={"cron": "0 9 * * *", "skip": HOLIDAYS})
    async def report(ctx: WorkflowContext) -> None:
        ran.append(ctx.key)

    async with polos.testing.clock("2026-01-26T08:00+00:00") as t:
        (declared,) = await t.schedules()
        await schedules.create(t.client, report, "0 9 * * *", key="ada")
        await t.advance(hours=2)
        assert ran == ["ada"]
        await schedules.trigger(t.client, declared.id)
        await t.advance(seconds=1)
    assert ran == ["ada", "global"]
