"""Several cron expressions, weeks, and both day fields in one schedule."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import pytest

import polos.testing
from polos import (
    InvalidArgumentError,
    InvalidCronError,
    InvalidScheduleError,
    PolosClient,
    ScheduleNotFoundError,
    schedules,
    workflow,
)

Command = Callable[..., SimpleNamespace]

UTC = ZoneInfo("UTC")
OPENING = ["0 9 * * 1-5", "0 11 * * 6"]
# A Thursday.
START = datetime(2026, 3, 5, tzinfo=UTC)


def declare(id: str = "report", schedule: Any = True) -> Any:
    @workflow(id=id, schedule=schedule)
    def report(ctx: Any) -> None: ...

    return report


def slots(found: list[Any]) -> list[str]:
    return sorted(f"{run.timestamp:%a %d %H:%M}" for run in found)


async def test_a_list_is_one_schedule_that_reads_back_as_it_was_given(client: PolosClient) -> None:
    job = declare()
    id = await schedules.create(client, job, OPENING, "Europe/Paris")
    made = await schedules.get(client, id)
    assert made.cron == tuple(OPENING)
    assert (made.days, made.weeks) == ("or", None)
    assert await schedules.create(client, job, made.cron, "Europe/Paris") == id
    again = await schedules.update(client, id, cron=made.cron)
    assert (again.cron, again.upcoming) == (made.cron, made.upcoming)
    one = await schedules.update(client, id, cron=["0 9 * * *", "0 9 * * *"])
    assert one.cron == "0 9 * * *"


def test_equal_instants_of_a_list_fire_once() -> None:
    job = declare(schedule={"cron": [*OPENING, "0 9 5 * *"]})
    with polos.testing.clock(START) as t:
        t.advance(days=7)
        assert slots(t.runs(workflow=job)) == [
            "Fri 06 09:00", "Mon 09 09:00", "Sat 07 11:00", "Thu 05 09:00", "Tue 10 09:00",
            "Wed 11 09:00",
        ]  # fmt: skip


def test_editing_the_list_fires_no_slot_again() -> None:
    job = declare()
    with polos.testing.clock(START) as t:
        id = schedules.sync.create(t.client, job, ["0 9 * * *", "0 11 * * *"])
        t.advance(hours=9, seconds=1)
        for edited in (["0 9 * * *"], ["0 9 * * *", "0 9,12 * * *"], ["6 9 * * *", "0 9 * * *"]):
            schedules.sync.update(t.client, id, cron=edited)
            t.advance(seconds=1)
            schedules.sync.create(t.client, job, edited)
            t.advance(seconds=1)
        assert slots(t.runs(workflow=job)) == ["Thu 05 09:00"]
        t.advance(hours=24)
        assert slots(t.runs(workflow=job)) == ["Fri 06 09:00", "Thu 05 09:00", "Thu 05 09:06"]


def test_only_every_second_week_fires() -> None:
    job = declare(schedule={"cron": "0 9 * * 1,4", "weeks": 2, "start_at": START})
    with polos.testing.clock(START) as t:
        t.advance(days=28)
        assert slots(t.runs(workflow=job)) == [
            "Mon 16 09:00", "Mon 30 09:00", "Thu 05 09:00", "Thu 19 09:00",
        ]  # fmt: skip


async def test_weeks_need_a_start_and_belong_to_cron(client: PolosClient) -> None:
    job = declare()
    with pytest.raises(InvalidScheduleError, match="give `start_at`"):
        await schedules.create(client, job, "0 9 * * 1", weeks=2)
    with pytest.raises(InvalidScheduleError, match=r"every=timedelta\(weeks=2\)"):
        await schedules.create(client, job, every=3600, weeks=2, start_at=START)
    with pytest.raises(InvalidScheduleError, match=r"from 1 .* to 520"):
        await schedules.create(client, job, "0 9 * * 1", weeks=0, start_at=START)
    with pytest.raises(InvalidScheduleError, match="`or`, `and`"):
        await schedules.create(client, job, "0 9 * * 1", days="both")  # type: ignore[arg-type]
    with pytest.raises(InvalidCronError, match="empty list"):
        await schedules.create(client, job, [])
    with pytest.raises(InvalidCronError, match="0 25"):
        await schedules.create(client, job, ["0 9 * * *", "0 25 * * *"])
    with pytest.raises(InvalidScheduleError, match="give `start_at`"):
        declare("other", {"cron": "0 9 * * 1", "weeks": 2})
    id = await schedules.create(client, job, "0 9 * * 1", weeks=2, start_at=START)
    with pytest.raises(InvalidScheduleError, match="give `start_at`"):
        await schedules.update(client, id, start_at=None)
    assert (await schedules.get(client, id)).weeks == 2
    hourly = await schedules.update(client, id, every=3600)
    assert (hourly.cron, hourly.weeks) == (None, None), "they went with the cron expression"


async def test_both_day_fields_may_have_to_match(client: PolosClient) -> None:
    job = declare()
    id = await schedules.create(client, job, "0 9 13 * FRI", days="and")
    assert (await schedules.get(client, id)).days == "and"
    assert (await schedules.update(client, id, days=None)).days == "or"
    found = schedules.preview("0 9 13 * FRI", days="and", count=2, after=START)
    assert [f"{slot:%a %d %b}" for slot in found] == ["Fri 13 Mar", "Fri 13 Nov"]


async def test_whole_days_where_days_differ_are_rejected_with_the_alternative(
    client: PolosClient,
) -> None:
    job = declare()
    daily: dict[str, Any] = {"every": timedelta(days=1), "timezone": "America/New_York"}
    with pytest.raises(InvalidScheduleError, match='cron="0 9 \\* \\* \\*"'):
        await schedules.create(client, job, **daily)
    with pytest.raises(InvalidScheduleError, match="leave out `timezone`"):
        declare("other", daily)
    id = await schedules.create(client, job, every=timedelta(days=1))
    with pytest.raises(InvalidScheduleError, match="America/New_York"):
        await schedules.update(client, id, timezone="America/New_York")
    assert (await schedules.update(client, id, jitter=5)).timezone == "UTC"


def test_a_list_is_explained_and_previewed() -> None:
    found = schedules.preview(OPENING, after=datetime(2026, 3, 6, 10, tzinfo=UTC), count=2)
    assert [f"{slot:%a %H:%M}" for slot in found] == ["Sat 11:00", "Mon 09:00"]
    meaning = schedules.explain(
        ["30 2 * * *", "0 9 * * 1"], "America/New_York", after=START, weeks=3, start_at=START
    )
    assert meaning.english == (
        "At 02:30, every day; and every Monday at 09:00; only in every third week, counted from "
        "that of 2026-03-04"
    )
    assert all(note.startswith("`30 2 * * *`: 02:30") for note in meaning.notes)


def test_every_kind_of_schedule_is_previewed_and_explained() -> None:
    week = datetime(2026, 3, 12, tzinfo=UTC)
    hours = timedelta(hours=36)
    found = schedules.preview(every=hours, start_at=START, end_at=week, after=START, count=9)
    assert [f"{slot:%d %H}" for slot in found] == ["06 12", "08 00", "09 12", "11 00"]
    assert len(schedules.preview(every=hours, max_runs=2, after=START)) == 2
    assert schedules.preview(at=week, after=START) == [week]
    meaning = schedules.explain(
        every=hours, timezone="Europe/Paris", start_at=START, jitter=60, skip=["2026-03-06"],
        after=START, count=1,
    )  # fmt: skip
    assert meaning.english == "Every 1 day 12 hours, counted from 2026-03-05 01:00 in Europe/Paris"
    assert meaning.upcoming == (datetime(2026, 3, 8, tzinfo=UTC),)
    assert [note.split(":")[0] for note in meaning.notes] == [
        "a period is elapsed time",
        "slots on 2026-03-06 are skipped",
        "each run starts up to 1 minute after its slot, always the same for a given slot",
    ]
    with pytest.raises(InvalidScheduleError, match="exactly one of"):
        schedules.preview()
    with pytest.raises(InvalidScheduleError, match="leave out `timezone`"):
        schedules.explain(every=timedelta(days=3), timezone="Europe/Paris")


def test_a_container_of_dates_is_asked_about_each_slot() -> None:
    class Weekends:
        def __contains__(self, day: Any) -> bool:
            return bool(day.weekday() >= 5)

    found = schedules.preview("0 9 * * *", after=START, count=4, skip=Weekends())
    assert [f"{slot:%a}" for slot in found] == ["Thu", "Fri", "Mon", "Tue"]

    class Always:
        def __contains__(self, day: Any) -> bool:
            return True

    assert schedules.preview("0 9 * * *", after=START, count=4, skip=Always()) == []
    meaning = schedules.explain("0 9 * * *", after=START, count=1, skip=Weekends())
    assert "slots on the dates of the calendar are skipped" in meaning.notes


def test_upcoming_slots_are_those_that_the_schedule_will_have() -> None:
    job = declare()
    with polos.testing.clock(START) as t:
        id = schedules.sync.create(
            t.client, job, "0 9 * * *", "Europe/Paris", max_runs=3, skip=["2026-03-07"]
        )

        def days(n: int = 5) -> list[str]:
            return [f"{slot:%d %H:%M}" for slot in schedules.sync.upcoming(t.client, id, n)]

        assert days() == ["05 09:00", "06 09:00", "08 09:00"]
        assert days(1) == ["05 09:00"]
        t.advance(hours=9)
        assert days() == ["06 09:00", "08 09:00"], "one run is used up"
        schedules.sync.skip(t.client, id)
        assert days() == ["08 09:00", "09 09:00"]
        schedules.sync.pause(t.client, id)
        assert days() == []
        assert schedules.sync.upcoming(t.client, workflow=job, n=2) == []
        with pytest.raises(InvalidArgumentError, match="n: "):
            schedules.sync.upcoming(t.client, id, -1)
        with pytest.raises(ScheduleNotFoundError):
            schedules.sync.upcoming(t.client, "sch_none")


def test_the_command_line_takes_several(command: Command, client: PolosClient) -> None:
    declare("digest")
    assert schedules.sync.list(client) == []
    result = command(
        "schedules", "create", "digest", "--cron", OPENING[0], "--cron", OPENING[1], "--weeks", "2",
        "--days", "and", "--start-at", "2026-03-05", "--json",
    )  # fmt: skip
    assert result.code == 0, result.err
    made = json.loads(result.out)
    assert (made["cron"], made["weeks"], made["days"]) == (OPENING, 2, "and")
    assert "0 9 * * 1-5; 0 11 * * 6" in command("schedules", "show", made["id"]).out
    assert "second week" in command("schedules", "show", made["id"]).out
    result = command("explain", *OPENING, "--after", "2026-03-06 10:00")
    assert result.out.startswith("At 09:00, Monday to Friday; and every Saturday at 11:00\n")
    assert "Sat 2026-03-07 11:00" in result.out
    result = command("explain", *OPENING[0].split(), "--json")
    assert json.loads(result.out)["cron"] == OPENING[0]
    assert command("explain", "0", "9", "*").code == 2
    result = command("explain", "--every", "36h", "--skip", "2026-03-06", "--after", "2026-03-05")
    assert result.out.startswith("Every 1 day 12 hours, counted from 1970-01-01 00:00 in UTC\n")
    assert "slots on 2026-03-06 are skipped" in result.out
    assert command("explain").code == 2
