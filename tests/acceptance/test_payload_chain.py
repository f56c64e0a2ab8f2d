"""``payload.upcoming`` is the next timestamp, a thousand times in a row."""

from __future__ import annotations

import itertools
from datetime import datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest

import polos.testing
from polos import SchedulePayload, WorkflowContext, schedules, workflow

NEW_YORK = ZoneInfo("America/New_York")

# Each chain begins early enough to cross one or both clock changes of 2026 in New York (8 March and
# 1 November).
CHAINS: dict[str, tuple[dict[str, Any], str, timedelta]] = {
    "every-minute-in-spring": ({"cron": "* * * * *"}, "2026-03-07T18:00", timedelta(minutes=1)),
    "every-minute-in-autumn": ({"cron": "* * * * *"}, "2026-10-31T18:00", timedelta(minutes=1)),
    "every-15-minutes-in-autumn": (
        {"cron": "*/15 * * * *"},
        "2026-10-28T00:00",
        timedelta(hours=1),
    ),
    "hourly-in-spring": ({"cron": "0 * * * *"}, "2026-02-20T00:00", timedelta(hours=1)),
    "hourly-in-autumn": ({"cron": "30 * * * *"}, "2026-10-15T00:00", timedelta(hours=1)),
    "hourly-with-fixed-hours": ({"cron": "0 0-23 * * *"}, "2026-10-15T00:00", timedelta(hours=1)),
    "wild-minutes-of-fixed-hours": (
        {"cron": "*/10 1-2 * * *"},
        "2026-02-01T00:00",
        timedelta(days=1),
    ),
    "daily-in-the-gap": ({"cron": "30 2 * * *"}, "2026-01-01T00:00", timedelta(days=1)),
    "daily-in-the-repeated-hour": ({"cron": "30 1 * * *"}, "2026-01-01T00:00", timedelta(days=1)),
    "twice-in-the-gap": ({"cron": "0,30 2 * * *"}, "2026-01-01T00:00", timedelta(days=1)),
    "weekly": ({"cron": "0 8 * * MON"}, "2026-01-01T00:00", timedelta(days=7)),
    "last-weekday-of-the-month": ({"cron": "0 9 LW * *"}, "2026-01-01T00:00", timedelta(days=40)),
    "every-7-minutes": ({"every": timedelta(minutes=7)}, "2026-03-06T00:00", timedelta(minutes=7)),
    "every-90-seconds": (
        {"every": timedelta(seconds=90)},
        "2026-10-31T16:00",
        timedelta(minutes=3),
    ),
}

FIRES = 1_000


@pytest.mark.filterwarnings("ignore::polos.ScheduleFrequencyWarning")
@pytest.mark.parametrize("name", CHAINS)
async def test_upcoming_is_the_next_timestamp_a_thousand_times_in_a_row(name: str) -> None:
    trigger, start, stride = CHAINS[name]
    payloads: list[SchedulePayload] = []

    @workflow(schedule={**trigger, "timezone": "America/New_York"})
    async def chained(ctx: WorkflowContext, payload: SchedulePayload) -> None:
        payloads.append(payload)

    begin = datetime.fromisoformat(start).replace(tzinfo=NEW_YORK)
    async with polos.testing.clock(begin) as t:
        while len(payloads) <= FIRES:
            await t.advance(stride * 50)

    assert payloads[0].last_timestamp is None
    for earlier, later in itertools.pairwise(payloads):
        assert earlier.upcoming.astimezone(timezone.utc) == later.timestamp.astimezone(timezone.utc)
        assert later.last_timestamp == earlier.timestamp
        assert later.timestamp.astimezone(timezone.utc) > earlier.timestamp.astimezone(timezone.utc)
    assert {payload.schedule_id for payload in payloads} == {payloads[0].schedule_id}
    offsets = {payload.timestamp.utcoffset() for payload in payloads}
    assert len(offsets) == 2, "the chain crosses a clock change"


async def test_the_chain_holds_over_a_skipped_date_and_a_downtime_of_the_handler() -> None:
    payloads: list[SchedulePayload] = []

    @workflow(schedule={"cron": "0 9 * * *", "skip": ["2026-01-03", "2026-01-04"]})
    async def chained(ctx: WorkflowContext, payload: SchedulePayload) -> None:
        payloads.append(payload)

    async with polos.testing.clock("2026-01-01T00:00+00:00") as t:
        await t.advance(days=6)

    assert [payload.timestamp.day for payload in payloads] == [1, 2, 5, 6]
    assert [payload.upcoming.day for payload in payloads] == [2, 5, 6, 7]


async def test_last_timestamp_is_the_slot_of_the_last_run_that_was_started() -> None:
    payloads: list[SchedulePayload] = []

    @workflow(id="chained", schedule=True)
    async def chained(ctx: WorkflowContext, payload: SchedulePayload) -> None:
        payloads.append(payload)

    async with polos.testing.clock("2026-01-01T00:30+00:00") as t:
        schedule = await schedules.create(t.client, "chained", "0 * * * *")
        await t.advance(hours=1)
        await schedules.skip(t.client, schedule)
        await t.advance(hours=2)

    assert [payload.timestamp.hour for payload in payloads] == [1, 3]
    assert [payload.last_timestamp and payload.last_timestamp.hour for payload in payloads] == [
        None,
        1,
    ]


async def test_a_schedule_that_was_changed_breaks_the_chain_and_nothing_else_does() -> None:
    payloads: list[SchedulePayload] = []

    @workflow(id="chained", schedule=True)
    async def chained(ctx: WorkflowContext, payload: SchedulePayload) -> None:
        payloads.append(payload)

    async with polos.testing.clock("2026-01-01T00:30+00:00") as t:
        schedule = await schedules.create(t.client, "chained", "0 * * * *")
        await t.advance(hours=1)
        assert await schedules.create(t.client, "chained", "0 * * * *") == schedule
        await t.advance(hours=1)
        assert await schedules.create(t.client, "chained", "15 * * * *") == schedule
        await t.advance(hours=1)

    first, second, third = payloads
    assert first.upcoming == second.timestamp
    assert second.upcoming.minute == 0
    assert (third.timestamp.minute, third.last_timestamp) == (15, second.timestamp)


# --- what a payload is -----------------------------------------------------------------------


async def payloads_of(cron: str, zone: str, start: str, **advance: float) -> list[SchedulePayload]:
    seen: list[SchedulePayload] = []

    @workflow(schedule={"cron": cron, "timezone": zone})
    async def watched(ctx: WorkflowContext, payload: SchedulePayload) -> None:
        seen.append(payload)

    async with polos.testing.clock(start) as t:
        await t.advance(**advance)
    return seen


async def test_its_times_are_in_the_schedules_zone_and_print_local_time() -> None:
    (payload,) = await payloads_of(
        "0 17 * * *", "America/New_York", "2026-07-01T00:00+00:00", days=1
    )
    assert payload.timestamp.tzinfo is ZoneInfo("America/New_York")
    assert f"{payload.timestamp}" == "2026-07-01 17:00:00-04:00"
    assert f"{payload.upcoming}" == "2026-07-02 17:00:00-04:00"
    assert payload.timezone == "America/New_York"


async def test_it_survives_json_and_comes_back_equal() -> None:
    # The hour from 1 to 2 comes twice on 1 November; the two passes are an hour apart.
    payloads = await payloads_of(
        "*/30 1 * * *", "America/New_York", "2026-11-01T00:00-04:00", hours=4
    )
    assert [f"{p.timestamp:%H:%M%z}" for p in payloads] == [
        "01:00-0400", "01:30-0400", "01:00-0500", "01:30-0500",
    ]  # fmt: skip
    for payload in payloads:
        back = SchedulePayload.model_validate_json(payload.model_dump_json())
        assert back == payload
        assert back.timestamp.utcoffset() == payload.timestamp.utcoffset()
        assert back.timestamp.tzinfo is payload.timestamp.tzinfo
        assert back.upcoming.timestamp() == payload.upcoming.timestamp()


async def test_timestamp_is_the_slot_however_late_the_run_starts() -> None:
    seen: list[SchedulePayload] = []

    @workflow(schedule={"cron": "0 9 * * *", "jitter": timedelta(minutes=10)})
    async def late(ctx: WorkflowContext, payload: SchedulePayload) -> datetime:
        seen.append(payload)
        return await ctx.step.now("now")

    async with polos.testing.clock("2026-01-01T00:00+00:00") as t:
        await t.advance(days=20)
        started = [run.result for run in await t.runs()]

    assert all((p.timestamp.hour, p.timestamp.minute) == (9, 0) for p in seen)
    delays = [at - p.timestamp for at, p in zip(started, seen, strict=True)]
    assert all(timedelta(0) <= delay <= timedelta(minutes=10) for delay in delays)
    assert len(set(delays)) > 10
