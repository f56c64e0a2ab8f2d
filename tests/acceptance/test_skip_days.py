"""`skip=` with cron expressions of whole days."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, timedelta, timezone
from typing import Any

import pytest

import polos.testing
from polos import (
    InvalidCronError,
    InvalidScheduleError,
    PolosClient,
    schedules,
    workflow,
)

Command = Callable[..., Any]
START = datetime(2026, 2, 26, tzinfo=timezone.utc)
FIRST_DAY = "cron:* * 1 * *"


@pytest.fixture(autouse=True)
def digest() -> None:
    @workflow(id="digest", schedule=True)
    async def digest(ctx: Any) -> None: ...


def days(slots: list[datetime]) -> list[tuple[int, int]]:
    return [(slot.month, slot.day) for slot in slots]


def test_previews_leave_the_days_out_and_explanations_name_them() -> None:
    skip = [FIRST_DAY, date(2026, 3, 3), "2026-03-04"]
    found = schedules.preview("0 9 * * *", count=5, after=START, skip=skip)
    assert days(found) == [(2, 26), (2, 27), (2, 28), (3, 2), (3, 5)]
    explained = schedules.explain("0 9 * * *", after=START, count=5, skip=skip)
    assert [*explained.upcoming] == found
    assert explained.notes == (
        "slots on 2026-03-03 and 2026-03-04 are skipped",
        "slots on day 1 of every month (`cron:* * 1 * *`) are skipped",
    )
    # The day is taken in the schedule's zone: 23:00 in New York is the next day in UTC.
    found = schedules.preview("0 23 * * *", "America/New_York", 5, START, skip=FIRST_DAY)
    assert days(found) == [(2, 25), (2, 26), (2, 27), (2, 28), (3, 2)]
    every = schedules.preview(every=timedelta(hours=12), count=4, after=START, skip=FIRST_DAY)
    assert days(every) == [(2, 26), (2, 27), (2, 27), (2, 28)]


async def test_a_schedule_keeps_its_expressions_until_they_are_replaced(
    client: PolosClient,
) -> None:
    skip = ["cron:* * * * 0,6", FIRST_DAY, "2026-12-24"]
    id = await schedules.create(client, "digest", "0 9 * * *", skip=skip)
    made = await schedules.get(client, id)
    assert made.skip == (date(2026, 12, 24),)
    assert made.skip_cron == ("cron:* * * * 0,6", FIRST_DAY)
    again = await schedules.put(client, "digest", "0 9 * * *", skip=[*made.skip, *made.skip_cron])
    assert again.outcome == "unchanged"
    upcoming = await schedules.upcoming(client, id, 40)
    assert not [slot for slot in upcoming if slot.day == 1 or slot.weekday() >= 5]
    assert made.upcoming == upcoming[0]
    assert (await schedules.update(client, id, jitter=60)).skip_cron == made.skip_cron
    replaced = await schedules.update(client, id, skip=["2026-12-24"])
    assert (replaced.skip, replaced.skip_cron) == ((date(2026, 12, 24),), ())
    await schedules.update(client, id, skip=FIRST_DAY)
    assert (await schedules.update(client, id, skip=None)).skip_cron == ()


async def test_a_slot_of_such_a_day_is_in_the_history_as_skipped() -> None:
    async with polos.testing.clock("2026-02-28T12:00+00:00") as t:
        id = await schedules.create(t.client, "digest", "0 9 * * *", skip=FIRST_DAY)
        await t.advance(days=3)
        entries = await schedules.history(t.client, id)
        found = [(entry.timestamp.day, entry.status) for entry in entries]
        assert found == [(3, "ran"), (2, "ran"), (1, "skipped")]
        assert entries[-1].reason == "2026-03-01 is excluded"
        assert len(await t.runs(schedule=id)) == 2


INVALID = [
    ("cron:0 9 1 * *", InvalidScheduleError, "names times of day"),
    ("cron:* * * * *", InvalidScheduleError, "excludes every day"),
    ("cron:* * 32 * *", InvalidCronError, "32"),
    ("cron:", InvalidCronError, "empty"),
    ("every month", InvalidScheduleError, "expected a list of dates"),
    (["every month"], InvalidScheduleError, "or `cron:"),
    (["cron:* * 2-31 * *", "cron:* * 1 * *"], InvalidScheduleError, "excludes every day"),
]


@pytest.mark.parametrize(("skip", "error", "message"), INVALID, ids=range(len(INVALID)))
async def test_invalid_expressions_are_refused(
    client: PolosClient, skip: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        await schedules.create(client, "digest", "0 9 * * *", skip=skip)
    with pytest.raises(error, match=message):
        schedules.preview("0 9 * * *", skip=skip)
    with pytest.raises(error, match=message):
        workflow(id="other", schedule={"cron": "0 9 * * *", "skip": skip})(lambda: None)
    assert await schedules.list(client) == []


async def test_a_schedule_needs_a_slot(client: PolosClient) -> None:
    with pytest.raises(InvalidScheduleError, match="excludes all slots"):
        await schedules.create(client, "digest", "0 9 1 * *", skip=FIRST_DAY)


def test_the_command_line_takes_and_shows_them(command: Command, client: PolosClient) -> None:
    schedules.sync.create(client, "digest", "0 8 * * *", key="first")
    result = command(
        "schedules", "create", "digest", "--cron", "0 9 * * *", "--skip", FIRST_DAY,
        "--skip", "2030-12-25",
    )  # fmt: skip
    assert result.code == 0, result.err
    assert f"2030-12-25, {FIRST_DAY}" in command("schedules", "show", result.out.strip()).out
    [item] = [
        item for item in command("schedules", "list", "--json").objects if item["key"] == "global"
    ]
    assert (item["skip"], item["skip_cron"]) == (["2030-12-25"], [FIRST_DAY])
    explained = command("explain", "0 9 * * *", "--skip", FIRST_DAY)
    assert "slots on day 1 of every month (`cron:* * 1 * *`) are skipped" in explained.out
