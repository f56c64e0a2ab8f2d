"""Stored calendars: schedules follow them, on every worker and without a restart."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

import polos.testing
from polos import (
    CalendarNotFoundError,
    InvalidArgumentError,
    InvalidScheduleError,
    InvalidStateError,
    PolosClient,
    SchedulePayload,
    WorkflowContext,
    calendars,
    schedules,
    workflow,
)

START = "2026-12-23T12:00+00:00"
CHRISTMAS = [date(2026, 12, 25), "2026-12-26"]


@pytest.fixture(autouse=True)
def days() -> list[int]:
    """The days for which ``report`` has run."""
    seen: list[int] = []

    @workflow(id="report", schedule=True)
    async def report(ctx: WorkflowContext, payload: SchedulePayload) -> None:
        seen.append(payload.timestamp.day)
        assert payload.upcoming is not None
        assert payload.upcoming.day not in (25, 26)

    return seen


async def test_slots_on_the_dates_of_a_calendar_are_skipped(days: list[int]) -> None:
    async with polos.testing.clock(START) as t:
        calendar = await calendars.set(t.client, "holidays", CHRISTMAS)
        assert calendar.dates == (date(2026, 12, 25), date(2026, 12, 26))
        id = await schedules.create(t.client, "report", "0 9 * * *", skip="holidays")
        assert (await schedules.get(t.client, id)).calendars == ("holidays",)
        coming = await schedules.upcoming(t.client, id, 3)
        assert [slot.day for slot in coming] == [24, 27, 28]
        await t.advance(days=5)
        skipped = await t.ledger(id, status="skipped")
    assert days == [24, 27, 28]
    assert [entry.timestamp.day for entry in skipped] == [25, 26]
    assert skipped[0].reason == "2026-12-25 is excluded"


async def test_schedules_follow_a_changed_calendar(days: list[int]) -> None:
    async with polos.testing.clock(START) as t:
        await calendars.set(t.client, "holidays", CHRISTMAS)
        await schedules.create(t.client, "report", "0 9 * * *", skip=["holidays", "2026-12-27"])
        await t.advance(days=1)
        await calendars.set(t.client, "holidays", ["2026-12-28"])
        await t.advance(days=1)
        entries = await t.ledger()
        await calendars.set(t.client, "holidays", CHRISTMAS)
        await t.advance(days=4)
        after = await t.ledger()
    assert [entry.timestamp.day for entry in entries] == [24, 25]
    # The 25th has run, and excluding it afterward changes nothing.
    assert days == [24, 25, 28, 29]
    found = [(entry.timestamp.day, entry.status) for entry in after]
    assert sorted(found) == [
        (24, "ran"),
        (25, "ran"),
        (26, "skipped"),
        (27, "skipped"),
        (28, "ran"),
        (29, "ran"),
    ]


async def test_slots_that_were_missed_on_excluded_dates_are_skipped(days: list[int]) -> None:
    async with polos.testing.clock(START) as t:
        await calendars.set(t.client, "holidays", CHRISTMAS)
        id = await schedules.create(
            t.client, "report", "0 9 * * *", skip="holidays", catch_up_window=timedelta(days=9)
        )
        await schedules.pause(t.client, id)
        await t.advance_to(datetime(2026, 12, 26, 12, tzinfo=timezone.utc))
        await schedules.resume(t.client, id)
        await t.advance(hours=1)
        entries = await t.ledger(id)
    assert days == [24]
    found = [(entry.timestamp.day, entry.status) for entry in entries]
    assert sorted(found) == [(24, "ran"), (25, "skipped"), (26, "skipped")]


async def test_a_declared_schedule_waits_for_its_calendar(caplog: Any) -> None:
    ran: list[int] = []

    rule = {"cron": "0 9 * * *", "skip": "holidays", "catch_up_window": timedelta(days=9)}

    @workflow(schedule=rule)
    async def declared(ctx: WorkflowContext, payload: SchedulePayload) -> None:
        ran.append(payload.timestamp.day)

    async with polos.testing.clock(START) as t:
        await t.advance(days=3)
        (schedule,) = await t.schedules()
        assert (ran, schedule.status) == ([], "broken")
        assert "no calendar `holidays`" in str(schedule.note)
        assert "polos calendars set holidays FILE" in str(schedule.note)
        # Of the slots since, the policy for catching up runs the newest that is not excluded.
        await calendars.set(t.client, "holidays", ["2026-12-26"])
        await t.advance(days=1)
        (schedule,) = await t.schedules()
        assert schedule.status == "active"
        entries = await t.ledger(schedule.id)
    assert ran == [25, 27]
    assert "no calendar `holidays`" in caplog.text
    found = [(entry.timestamp.day, entry.status) for entry in entries]
    assert sorted(found) == [(24, "missed"), (25, "ran"), (26, "skipped"), (27, "ran")]


async def test_calendars_are_named_by_schedules_that_exist(client: PolosClient) -> None:
    with pytest.raises(CalendarNotFoundError, match=r"no calendar `holidays`.*none yet"):
        await schedules.create(client, "report", "0 9 * * *", skip="holidays")
    await calendars.set(client, "us", [])
    with pytest.raises(CalendarNotFoundError, match=r"no calendar `holidays`.*there are `us`"):
        await schedules.put(client, "report", "0 9 * * *", skip=["us", "holidays"])
    options = {"workflow": "report", "cron": "0 9 * * *", "skip": "de"}
    with pytest.raises(CalendarNotFoundError, match="no calendar `de`"):
        await schedules.create_many(client, [options])
    id = await schedules.create(client, "report", "0 9 * * *", skip="us")
    with pytest.raises(CalendarNotFoundError, match="no calendar `de`"):
        await schedules.update(client, id, skip="de")
    with pytest.raises(InvalidStateError, match=rf"calendar `us` is in use by.*`{id}`"):
        await calendars.delete(client, "us")
    updated = await schedules.update(client, id, skip=["2026-12-25"])
    assert (updated.calendars, updated.skip) == ((), (date(2026, 12, 25),))
    await calendars.delete(client, "us")
    assert await calendars.list(client) == []
    with pytest.raises(CalendarNotFoundError, match="no calendar `us`"):
        await calendars.get(client, "us")


async def test_invalid_calendars_are_rejected(client: PolosClient) -> None:
    for name in ("2026", "a b", "", "cron:x", "a" * 101, 7):
        with pytest.raises(InvalidArgumentError, match="expected a letter"):
            await calendars.set(client, name, [])  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match=r"25\.12\.2026.*expected a date"):
        await calendars.set(client, "us", ["25.12.2026"])
    with pytest.raises(InvalidArgumentError, match="at most 10000"):
        await calendars.set(client, "us", [date(2026, 1, 1)] * 10_001)
    names = [f"c{number}" for number in range(17)]
    with pytest.raises(InvalidScheduleError, match="at most 16"):
        await schedules.create(client, "report", "0 9 * * *", skip=names)


async def test_slots_are_previewed_with_stored_calendars(client: PolosClient) -> None:
    await calendars.set(client, "us", ["2026-12-25"])
    await calendars.set(client, "company", ["2026-12-28"])
    known = await calendars.list(client)
    after = datetime(2026, 12, 24, 12, tzinfo=timezone.utc)

    def days(skip: Any, on_skip: Any = None, calendars: Any = known) -> list[str]:
        found = schedules.preview(
            "0 9 * * FRI", after=after, count=2, skip=skip, on_skip=on_skip, calendars=calendars
        )
        return [f"{slot:%m-%d}" for slot in found]

    assert days("us") == ["01-01", "01-08"]
    assert days(["us", "company", "2027-01-01"]) == ["01-08", "01-15"]
    assert days(["us", "company"], "next_workday") == ["12-29", "01-01"]
    assert days("us", calendars={"us": [date(2027, 1, 1)], "de": []}) == ["12-25", "01-08"]
    assert days(None) == days([], calendars=[]) == ["12-25", "01-01"]
    meaning = schedules.explain("0 9 * * FRI", after=after, count=1, skip="us", calendars=known)
    assert meaning.notes == ("slots on the dates of the calendar `us` are skipped: 2026-12-25",)
    assert f"{meaning.upcoming[0]:%m-%d}" == "01-01"


def test_a_preview_says_how_to_pass_the_calendars_that_it_needs() -> None:
    for call in (schedules.preview, schedules.explain):
        with pytest.raises(InvalidScheduleError, match=r"`us`.*calendars=await calendars\.list\(c"):
            call("0 9 * * *", skip="us")
        with pytest.raises(
            CalendarNotFoundError, match=r"no calendar `us` among.*`de`, `uss`; did you mean `uss`"
        ):
            call("0 9 * * *", skip="us", calendars={"uss": [], "de": []})
        with pytest.raises(CalendarNotFoundError, match="which has none"):
            call("0 9 * * *", skip="us", calendars=[])
        with pytest.raises(InvalidArgumentError, match=r"calendars: `7` of type `int` given"):
            call("0 9 * * *", skip="us", calendars=7)  # type: ignore[arg-type]
        with pytest.raises(InvalidArgumentError, match=r"calendars: `25\.12\.2026` given"):
            call("0 9 * * *", skip="us", calendars={"us": ["25.12.2026"]})


async def test_a_mapping_of_dates_is_a_calendar(client: PolosClient) -> None:
    calendar = await calendars.set(client, "us", {date(2026, 7, 4): "Independence Day"})
    assert calendar == await calendars.get(client, "us")
    assert calendar.dates == (date(2026, 7, 4),)


def test_the_command_line_keeps_calendars(
    command: Any, client: PolosClient, own_database: Path | str, tmp_path: Path
) -> None:
    where = ("--database", own_database)
    file = tmp_path / "us.txt"
    assert calendars.sync.list(client) == []
    file.write_text("# holidays\n2026-12-25  # Christmas\n\n2026-07-04\n")
    result = command("calendars", "set", "us", file, *where)
    assert result.out.strip() == "us: 2 dates from 2026-07-04 to 2026-12-25", result
    assert command("calendars", "show", "us", *where).out.split() == ["2026-07-04", "2026-12-25"]
    assert "2026-12-25" in command("calendars", "list", *where).out
    shown = command("calendars", "list", "--json", *where)
    assert shown.objects[0]["dates"] == ["2026-07-04", "2026-12-25"]
    result = command("schedules", "create", "report", "--cron", "0 9 * * *", "--skip", "us", *where)
    assert result.code == 0, result
    assert "calendar us" in command("schedules", "show", "report/global", *where).out
    rule = ("0 9 * * *", "--after", "2026-12-24 12:00", "--on-skip", "next_workday")
    result = command("explain", *rule, "--skip", "us", *where)
    assert "calendar `us` move to the next workday" in result.out, result
    assert "2026-12-25" not in result.out.partition("note:")[0]
    result = command("explain", *rule, "--skip", "de", *where)
    assert (result.code, "no calendar `de`" in result.err) == (3, True), result
    result = command("explain", *rule, "--skip", "us", "--database", tmp_path / "none.db")
    assert (result.code, "doesn't exist" in result.err) == (3, True), result
    result = command("calendars", "delete", "us", *where)
    assert (result.code, "in use" in result.err) == (1, True), result
    file.write_text("Christmas\n")
    result = command("calendars", "set", "us", file, *where)
    assert (result.code, "line 1: `Christmas` isn't a date" in result.err) == (2, True), result
    result = command("calendars", "set", "us", tmp_path / "none", *where)
    assert (result.code, "there is no file" in result.err) == (3, True), result
    result = command("calendars", "show", "de", *where)
    assert (result.code, "no calendar `de`" in result.err) == (3, True), result


def test_the_doctor_names_calendars_that_have_ended(
    command: Any, client: PolosClient, own_database: Path | str
) -> None:
    calendars.sync.set(client, "old", ["2020-12-25"])
    calendars.sync.set(client, "new", ["2999-12-25"])
    result = command("doctor", "--json", "--database", own_database)
    (found,) = [check for check in result.objects[0]["checks"] if check["about"] == "calendars"]
    assert found["text"] == "the last date has passed of `old` (2020-12-25)"
