"""Slots that move from skipped days to the next workday."""

from __future__ import annotations

from datetime import date, datetime, timezone
from typing import Any

import pytest

import polos.testing
from polos import (
    InvalidScheduleError,
    PolosClient,
    SchedulePayload,
    WorkflowContext,
    calendars,
    schedules,
    workflow,
)

# A Wednesday; the 25th is a Friday.
START = "2026-12-23T12:00+00:00"
FRIDAYS = "0 9 * * FRI"


@pytest.fixture(autouse=True)
def ran() -> list[tuple[int, int]]:
    """The day and the hour of each slot for which ``pay`` has run."""
    seen: list[tuple[int, int]] = []

    @workflow(id="pay", schedule=True)
    async def pay(ctx: WorkflowContext, payload: SchedulePayload) -> None:
        seen.append((payload.timestamp.day, payload.timestamp.hour))

    return seen


async def test_a_slot_on_a_skipped_day_runs_on_the_next_workday(ran: list[Any]) -> None:
    async with polos.testing.clock(START) as t:
        await calendars.set(t.client, "holidays", ["2026-12-25", "2026-12-28"])
        options = {"skip": "holidays", "on_skip": "next_workday"}
        id = await schedules.create(t.client, "pay", FRIDAYS, **options)
        assert (await schedules.get(t.client, id)).on_skip == "next_workday"
        coming = [slot.day for slot in await schedules.upcoming(t.client, id, 3)]
        assert coming == [29, 1, 8]
        await t.advance(days=4)
        assert (ran, [slot.day for slot in await schedules.upcoming(t.client, id, 2)]) == (
            [],
            [29, 1],
        )
        await t.advance(days=7)
        entries = await t.ledger(id)
    assert ran == [(29, 9), (1, 9)]
    found = sorted((entry.timestamp.day, entry.status, entry.reason) for entry in entries)
    assert found[1] == (25, "skipped", "2026-12-25 is excluded; moved to 2026-12-29")
    assert [day for day, *_ in found] == [1, 25, 29]


async def test_changes_of_the_calendar_neither_repeat_nor_lose_a_slot(ran: list[Any]) -> None:
    async with polos.testing.clock(START) as t:
        await calendars.set(t.client, "holidays", ["2026-12-25"])
        options = {"skip": "holidays", "on_skip": "next_workday"}
        id = await schedules.create(t.client, "pay", FRIDAYS, **options)
        await t.advance(days=3)
        # It has been moved to Monday, and comes although the 25th is no holiday any more.
        await calendars.set(t.client, "holidays", [])
        await t.advance(days=3)
        assert ran == [(28, 9)]
        # The 1st has run by the time at which it becomes a holiday.
        await t.advance(days=4)
        await calendars.set(t.client, "holidays", ["2027-01-01", "2026-12-25"])
        await t.advance(days=5)
        assert ran == [(28, 9), (1, 9)]
        # The 8th moves to the 11th, which becomes a holiday before it has come.
        await calendars.set(t.client, "holidays", ["2027-01-08"])
        await t.advance_to(datetime(2027, 1, 9, tzinfo=timezone.utc))
        await calendars.set(t.client, "holidays", ["2027-01-11"])
        await t.advance(days=5)
        entries = await t.ledger(id)
    assert ran == [(28, 9), (1, 9), (12, 9)]
    found = sorted((entry.timestamp.date(), str(entry.status)) for entry in entries)
    assert found == [
        (date(2026, 12, 25), "skipped"),
        (date(2026, 12, 28), "ran"),
        (date(2027, 1, 1), "ran"),
        (date(2027, 1, 8), "skipped"),
        (date(2027, 1, 11), "skipped"),
        (date(2027, 1, 12), "ran"),
    ]


async def test_a_moved_slot_can_be_skipped(ran: list[Any]) -> None:
    async with polos.testing.clock(START) as t:
        options = {"skip": ["2026-12-25"], "on_skip": "next_workday"}
        id = await schedules.create(t.client, "pay", "0 9,17 * * FRI", **options)
        await t.advance(days=3)
        moved = [datetime(2026, 12, 28, hour, tzinfo=timezone.utc) for hour in (9, 17)]
        assert await schedules.upcoming(t.client, id, 2) == moved
        after = await schedules.skip(t.client, id, at=moved[1])
        assert after.skipped == (moved[1],)
        await t.advance(days=3)
    assert ran == [(28, 9)]


async def test_slots_move_while_no_worker_runs(ran: list[Any]) -> None:
    async with polos.testing.clock(START) as t:
        options = {"skip": ["2026-12-25"], "on_skip": "next_workday"}
        id = await schedules.create(t.client, "pay", FRIDAYS, catch_up_window=9 * 86_400, **options)
        await schedules.pause(t.client, id)
        await t.advance(days=6)
        await schedules.resume(t.client, id)
        await t.advance(hours=1)
        entries = await t.ledger(id)
    assert ran == [(28, 9)]
    assert sorted((entry.timestamp.day, str(entry.status)) for entry in entries) == [
        (25, "skipped"),
        (28, "ran"),
    ]


async def test_it_is_set_and_removed_by_updates(client: PolosClient) -> None:
    id = await schedules.create(client, "pay", FRIDAYS, skip=["2026-12-25"])
    assert (await schedules.update(client, id, on_skip="next_workday")).on_skip == "next_workday"
    assert (await schedules.update(client, id, on_skip=None)).on_skip is None
    with pytest.raises(InvalidScheduleError, match="expected one of `next_workday`"):
        await schedules.update(client, id, on_skip="next_day")
    with pytest.raises(InvalidScheduleError, match="use `cron`"):
        await schedules.update(client, id, every=86_400, on_skip="next_workday")


def test_a_calendar_object_can_not_move_slots() -> None:
    class Never:
        def __contains__(self, day: object) -> bool:
            return False

    options = {"cron": FRIDAYS, "skip": Never(), "on_skip": "next_workday"}
    with pytest.raises(InvalidScheduleError, match="store its dates"):
        workflow(id="other", schedule=options)(lambda: None)
    with pytest.raises(InvalidScheduleError, match="store its dates"):
        schedules.preview(FRIDAYS, skip=Never(), on_skip="next_workday")


def test_explain_says_that_slots_move() -> None:
    meaning = schedules.explain(
        FRIDAYS,
        skip=["2026-12-25"],
        on_skip="next_workday",
        after=datetime(2026, 12, 24, tzinfo=timezone.utc),
    )
    assert [slot.day for slot in meaning.upcoming[:2]] == [28, 1]
    assert "slots on 2026-12-25 move to the next workday (Monday to Friday)" in meaning.notes
