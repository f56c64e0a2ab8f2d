"""The API of schedules, and the policies that apply to their slots."""

from __future__ import annotations

import asyncio
import itertools
from datetime import date, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest

import polos.testing
from polos import (
    InvalidArgumentError,
    InvalidScheduleError,
    InvalidStateError,
    LedgerEntry,
    PolosClient,
    Schedule,
    ScheduleNotFoundError,
    SchedulePayload,
    Worker,
    WorkflowContext,
    runs,
    schedules,
    workflow,
)
from polos.testing import VirtualTime
from polos.workflow import isolated_registry

UTC = timezone.utc
START = "2026-01-01T00:30+00:00"


def at(hour: int, minute: int = 0, day: int = 1) -> datetime:
    return datetime(2026, 1, day, hour, minute, tzinfo=UTC)


@pytest.fixture
def slots() -> list[datetime]:
    """The slots for which a workflow ``job`` was started."""
    seen: list[datetime] = []

    @workflow(id="job", schedule=True)
    async def job(ctx: WorkflowContext, payload: SchedulePayload) -> None:
        seen.append(payload.timestamp)

    return seen


async def outcomes(t: VirtualTime, schedule: str) -> list[tuple[str, int, int]]:
    """``(status, first hour, count)`` of the schedule's history, oldest first."""
    entries = await t.ledger(schedule)
    return [(entry.status, entry.timestamp.hour, entry.count) for entry in entries]


# --- create, read ----------------------------------------------------------------------------


async def test_create_then_get_gives_back_everything(client: PolosClient, slots: Any) -> None:
    zone = ZoneInfo("Europe/London")
    given: dict[str, Any] = {
        "cron": "0 9 * * *",
        "timezone": "Europe/London",
        "key": "ada",
        "overlap": "skip",
        "catch_up": "all",
        "max_catch_up": 7,
        "catch_up_window": timedelta(hours=3),
        "jitter": timedelta(seconds=5),
        "start_at": datetime(2030, 1, 1, tzinfo=zone),
        "end_at": datetime(2031, 1, 1, tzinfo=zone),
        "max_runs": 100,
        "pause_after_failures": 3,
        "input": {"a": [1, None]},
    }
    id = await schedules.create(client, "job", skip=["2030-12-25"], **given)
    schedule = await schedules.get(client, id)
    assert isinstance(schedule, Schedule)
    assert {name: getattr(schedule, name) for name in given} == given
    assert schedule.skip == (date(2030, 12, 25),)
    assert (schedule.status, schedule.note, schedule.owner) == ("active", None, None)
    assert schedule.upcoming == datetime(2030, 1, 1, 9, tzinfo=zone)
    assert schedule.upcoming is not None
    assert schedule.upcoming.tzinfo is zone
    assert schedule.last_timestamp is None
    with pytest.raises(AttributeError):
        schedule.status = "paused"  # type: ignore[misc]


async def test_the_defaults_are_the_documented_ones(client: PolosClient, slots: Any) -> None:
    schedule = await schedules.get(client, await schedules.create(client, "job", "0 9 * * *"))
    assert (schedule.timezone, schedule.key) == ("UTC", "global")
    assert (schedule.overlap, schedule.catch_up, schedule.max_catch_up) == (
        "buffer_one", "latest", 100,
    )  # fmt: skip
    assert (schedule.catch_up_window, schedule.jitter) == (timedelta(days=1), timedelta(0))
    assert (schedule.start_at, schedule.end_at, schedule.max_runs) == (None, None, None)
    assert (schedule.pause_after_failures, schedule.input) == (None, None)


async def test_list_filters_by_workflow_key_and_status(client: PolosClient, slots: Any) -> None:
    other = workflow(id="other", schedule=True)(print)
    a = await schedules.create(client, "job", "0 9 * * *", key="a")
    b = await schedules.create(client, "job", "0 9 * * *", key="b")
    c = await schedules.create(client, other, "0 9 * * *", key="a")
    await schedules.pause(client, b)

    async def ids(**filters: Any) -> set[str]:
        return {schedule.id for schedule in await schedules.list(client, **filters)}

    assert await ids() == {a, b, c}
    assert await ids(workflow="job") == {a, b}
    assert await ids(workflow=other) == {c}
    assert await ids(key="a") == {a, c}
    assert await ids(workflow="job", key="a") == {a}
    assert await ids(status="paused") == {b}
    assert await ids(status="finished") == await ids(key="nobody") == set()


async def test_list_pages_through_all(client: PolosClient, slots: Any) -> None:
    made = await schedules.create_many(
        client, [{"workflow": "job", "cron": "0 9 * * *", "key": f"u{n}"} for n in range(1_500)]
    )
    everything = [schedule.id for schedule in await schedules.list(client)]
    assert sorted(everything) == sorted(made)
    first = await schedules.list(client, limit=10)
    second = await schedules.list(client, limit=10, after=first[-1].id)
    assert [schedule.id for schedule in first + second] == everything[:20]


@pytest.mark.parametrize(
    "call", ["get", "history", "update", "pause", "resume", "trigger", "skip", "delete"]
)
async def test_an_unknown_id_is_a_lookup_error(client: PolosClient, call: str) -> None:
    with pytest.raises(ScheduleNotFoundError, match="sch_nobody") as caught:
        await getattr(schedules, call)(client, "sch_nobody")
    assert isinstance(caught.value, LookupError)


async def test_create_many_is_all_or_nothing(client: PolosClient, slots: Any) -> None:
    good = {"workflow": "job", "cron": "0 9 * * *"}
    with pytest.raises(polos.InvalidCronError, match=r"schedules\[1\]"):
        await schedules.create_many(client, [{**good, "key": "a"}, {**good, "cron": "0 25 * * *"}])
    with pytest.raises(polos.WorkflowNotFoundError):
        await schedules.create_many(client, [good, {**good, "workflow": "nobody"}])
    assert await schedules.list(client) == []
    assert await schedules.create_many(client, []) == []
    ids = await schedules.create_many(client, [{**good, "key": key} for key in "ab"])
    assert await schedules.create_many(client, [{**good, "key": key} for key in "ba"]) == ids[::-1]


# --- change ----------------------------------------------------------------------------------


async def test_update_changes_what_is_named_and_nothing_else(slots: list[datetime]) -> None:
    async with polos.testing.clock(START) as t:
        id = await schedules.create(t.client, "job", "0 * * * *", overlap="skip", input=1)
        await t.advance(hours=1)
        changed = await schedules.update(t.client, id, cron="30 * * * *", jitter=timedelta(0))
        assert (changed.cron, changed.overlap, changed.input) == ("30 * * * *", "skip", 1)
        assert changed.upcoming == at(2, 30)
        assert changed.last_timestamp == at(1)
        await t.advance(hours=1)
        changed = await schedules.update(t.client, id, every=timedelta(hours=6), input=None)
        assert (changed.cron, changed.every, changed.input) == (None, timedelta(hours=6), None)
        await t.advance(hours=6)
    assert slots == [at(1), at(2, 30), at(6)]


async def test_update_keeps_the_next_slot_when_the_trigger_is_the_same(slots: Any) -> None:
    async with polos.testing.clock(START) as t:
        id = await schedules.create(t.client, "job", every=timedelta(hours=5))
        before = await schedules.get(t.client, id)
        after = await schedules.update(t.client, id, overlap="allow")
        assert after.upcoming == before.upcoming
        bounded = await schedules.update(t.client, id, max_runs=1)
        assert bounded.max_runs == 1
        free = await schedules.update(t.client, id, max_runs=None)
        assert free.max_runs is None


async def test_a_paused_schedule_does_not_fire_and_has_the_reason(slots: list[datetime]) -> None:
    async with polos.testing.clock(START) as t:
        id = await schedules.create(t.client, "job", "0 * * * *")
        await t.advance(hours=1)
        paused = await schedules.pause(t.client, id, note="holidays")
        assert (paused.status, paused.note, paused.upcoming) == ("paused", "holidays", None)
        assert (await schedules.pause(t.client, id, note="holidays")).status == "paused"
        await t.advance(hours=3)
        assert slots == [at(1)]
        assert await schedules.create(t.client, "job", "0 * * * *") == id
        assert (await schedules.get(t.client, id)).status == "paused", "creating doesn't resume"
        resumed = await schedules.resume(t.client, id)
        assert (resumed.status, resumed.note) == ("active", None)
        assert (await schedules.resume(t.client, id)).status == "active"
        await t.advance(hours=1)
        history = await outcomes(t, id)
    # The catch-up policy applies to slots of the pause: the latest runs, the others are missed.
    assert slots == [at(1), at(4), at(5)]
    assert history == [("ran", 1, 1), ("missed", 2, 2), ("ran", 4, 1), ("ran", 5, 1)]


async def test_trigger_runs_now_and_moves_nothing(slots: list[datetime]) -> None:
    async with polos.testing.clock(START) as t:
        id = await schedules.create(t.client, "job", "0 * * * *", input={"n": 1})
        before = await schedules.get(t.client, id)
        handle = await schedules.trigger(t.client, id)
        await t.advance(seconds=0)
        await handle.result()
        after = await schedules.get(t.client, id)
        run = await runs.get(t.client, handle.id)
        assert after.upcoming == before.upcoming == at(1)
        assert (run.origin, run.schedule_id, run.workflow) == ("trigger", id, "job")
        await t.advance(hours=1)
    assert slots[0].replace(microsecond=0) == at(0, 30)
    assert slots[1:] == [at(1)]


async def test_a_paused_schedule_can_be_triggered(slots: list[datetime]) -> None:
    async with polos.testing.clock(START) as t:
        id = await schedules.create(t.client, "job", "0 * * * *")
        await schedules.pause(t.client, id)
        handle = await schedules.trigger(t.client, id)
        await t.advance(seconds=0)
        assert await handle.status() == "succeeded"
    assert len(slots) == 1


# The outcome of a trigger while one run is unfinished, and of another one after that.
TRIGGERS: dict[Any, tuple[str | None, str | None, list[str]]] = {
    "allow": ("waiting", "waiting", ["waiting", "waiting", "waiting"]),
    "skip": (None, None, ["waiting"]),
    "buffer_one": ("queued", None, ["queued", "waiting"]),
    "buffer_all": ("queued", "queued", ["queued", "queued", "waiting"]),
    "cancel_running": ("waiting", "waiting", ["cancelled", "cancelled", "waiting"]),
}


@pytest.mark.parametrize("overlap", TRIGGERS)
async def test_a_trigger_applies_the_overlap_policy_where_that_is_asked_for(overlap: Any) -> None:
    @workflow(id="long", schedule=True)
    async def long(ctx: WorkflowContext) -> None:
        await ctx.step.sleep("work", timedelta(days=1))

    async def outcome(t: VirtualTime, id: str) -> str | None:
        unfinished = [run.id for run in await t.runs()]
        try:
            handle = await schedules.trigger(t.client, id, overlap="schedule")
        except InvalidStateError as error:
            refusals.append(any(run in str(error) for run in unfinished))
            return None
        await t.advance(seconds=0)
        return await handle.status()

    refusals: list[bool] = []
    first, second, statuses = TRIGGERS[overlap]
    async with polos.testing.clock(START) as t:
        id = await schedules.create(t.client, "long", "0 0 1 2 *", overlap=overlap)
        assert await outcome(t, id) == "waiting", "with nothing unfinished it starts at once"
        assert [await outcome(t, id), await outcome(t, id)] == [first, second]
        assert all(refusals), "the blocking run is named"
        assert sorted(run.status for run in await t.runs()) == statuses
        await schedules.trigger(t.client, id)
        await t.advance(seconds=0)
        assert len(await t.runs()) == len(statuses) + 1, "by default it starts whatever the policy"


async def test_a_trigger_refuses_an_overlap_that_is_not_the_schedules(slots: Any) -> None:
    async with polos.testing.clock(START) as t:
        id = await schedules.create(t.client, "job", "0 * * * *")
        with pytest.raises(InvalidArgumentError, match="`skip` given, expected `schedule`"):
            await schedules.trigger(t.client, id, overlap="skip")  # type: ignore[arg-type]


async def test_skip_leaves_out_the_coming_slot_only(slots: list[datetime]) -> None:
    async with polos.testing.clock(START) as t:
        id = await schedules.create(t.client, "job", "0 * * * *")
        skipped = await schedules.skip(t.client, id)
        assert skipped.upcoming == at(2)
        await t.advance(hours=3)
        history = await schedules.history(t.client, id)
    assert slots == [at(2), at(3)]
    assert [(entry.status, entry.timestamp) for entry in history[::-1]] == [
        ("skipped", at(1)), ("ran", at(2)), ("ran", at(3)),
    ]  # fmt: skip
    assert history[-1].reason


async def test_delete_takes_effect_at_once_and_keeps_the_history(slots: list[datetime]) -> None:
    async with polos.testing.clock(START) as t:
        id = await schedules.create(t.client, "job", "0 * * * *")
        await t.advance(hours=1)
        assert await schedules.delete(t.client, id) is None  # type: ignore[func-returns-value]
        await t.advance(hours=3)
        assert await schedules.list(t.client) == []
        with pytest.raises(ScheduleNotFoundError):
            await schedules.get(t.client, id)
        assert [entry.status for entry in await schedules.history(t.client, id)] == ["ran"]
        assert await schedules.create(t.client, "job", "0 * * * *") != id
    assert slots == [at(1)]


# --- backfill --------------------------------------------------------------------------------


async def test_backfill_runs_what_is_missing_of_a_half_open_range(slots: list[datetime]) -> None:
    async with polos.testing.clock("2026-01-01T12:30+00:00") as t:
        id = await schedules.create(t.client, "job", "0 * * * *")
        await t.advance(hours=2)  # 13:00 and 14:00 have run
        hours = [10, 11, 12]
        wanted = [at(hour) for hour in hours]
        assert await schedules.backfill(t.client, id, at(10), at(14), dry_run=True) == wanted
        await t.advance(seconds=1)
        assert slots == [at(13), at(14)], "a dry run starts nothing"
        assert await schedules.backfill(t.client, id, at(10), at(13)) == wanted
        assert await schedules.backfill(t.client, id, at(10), at(13)) == []
        await t.advance(minutes=1)
        assert await schedules.backfill(t.client, id, at(9), at(11)) == [at(9)]
        await t.advance(minutes=1)
        made = await t.runs(schedule=id)
    assert slots == [at(13), at(14), *wanted, at(9)]
    assert [run.origin for run in made].count("backfill") == 4
    assert {run.status for run in made} == {"succeeded"}


async def test_backfilled_runs_follow_one_another() -> None:
    @workflow(id="slow", schedule=True)
    async def slow(ctx: WorkflowContext) -> None:
        await ctx.step.sleep("work", timedelta(minutes=1))

    async with polos.testing.clock("2026-01-02T00:30+00:00") as t:
        id = await schedules.create(t.client, "slow", "0 * * * *")
        assert len(await schedules.backfill(t.client, id, at(0), at(5))) == 5
        await t.advance(minutes=20)
        made = await t.runs(schedule=id, status="succeeded")
    times = sorted((run.started_at, run.finished_at) for run in made)  # type: ignore[type-var]
    assert len(times) == 5
    for (_, ended), (begun, _) in itertools.pairwise(times):
        assert begun >= ended  # type: ignore[operator]


async def test_a_backfill_payload_describes_its_own_slot() -> None:
    seen: list[SchedulePayload] = []

    @workflow(id="describe", schedule=True)
    async def describe(ctx: WorkflowContext, payload: SchedulePayload) -> None:
        seen.append(payload)

    async with polos.testing.clock("2026-01-01T12:30+00:00") as t:
        id = await schedules.create(t.client, "describe", "0 * * * *", timezone="Asia/Tokyo")
        slots = await schedules.backfill(t.client, id, at(3), at(5))
        await t.advance(minutes=1)
    assert [payload.timestamp for payload in seen] == slots == [at(3), at(4)]
    assert slots[0].tzinfo is ZoneInfo("Asia/Tokyo")
    assert [payload.upcoming for payload in seen] == [at(4), at(5)]


@pytest.mark.parametrize(
    ("start", "end"), [(at(5), at(5)), (at(6), at(5)), (at(5), at(23)), (at(5), at(5, day=20))]
)
async def test_backfill_refuses_empty_ranges_and_the_future(
    slots: Any, start: datetime, end: datetime
) -> None:
    async with polos.testing.clock("2026-01-01T12:30+00:00") as t:
        id = await schedules.create(t.client, "job", "0 * * * *")
        with pytest.raises(InvalidArgumentError, match="end"):
            await schedules.backfill(t.client, id, start, end)


# --- overlap ---------------------------------------------------------------------------------

# A run takes 2 hours and 20 minutes, and a slot comes every hour. Which slots run, by policy.
OVERLAPS: dict[str | None, tuple[list[int], list[int]]] = {
    None: ([1, 2, 4], [3, 5, 7]),
    "buffer_one": ([1, 2, 4], [3, 5, 7]),
    "skip": ([1, 4, 7], [2, 3, 5, 6]),
    "buffer_all": ([1, 2, 3], []),
    "allow": ([1, 2, 3, 4, 5, 6, 7], []),
    "cancel_running": ([1, 2, 3, 4, 5, 6, 7], []),
}


@pytest.mark.parametrize("overlap", OVERLAPS)
async def test_overlap_decides_about_a_slot_while_a_run_is_unfinished(overlap: Any) -> None:
    started: list[int] = []

    @workflow(id="long", schedule=True)
    async def long(ctx: WorkflowContext, payload: SchedulePayload) -> None:
        # In a step, since the handler of a long durable sleep would be executed again afterwards.
        await ctx.step.run("start", started.append, payload.timestamp.hour)
        await ctx.step.sleep("work", timedelta(hours=2, minutes=20))

    async with polos.testing.clock(START) as t:
        options = {} if overlap is None else {"overlap": overlap}
        id = await schedules.create(t.client, "long", "0 * * * *", **options)
        await t.advance(hours=7)
        entries = await schedules.history(t.client, id)
        statuses = [run.status for run in await t.runs()]
    starts, skips = OVERLAPS[overlap]
    assert started == starts
    skipped = [entry.timestamp.hour for entry in entries[::-1] if entry.status == "skipped"]
    assert skipped == skips
    assert sum(entry.count for entry in entries) == 7, "no slot disappears"
    assert all(entry.reason for entry in entries if entry.status != "ran")
    if overlap == "cancel_running":
        assert statuses == ["cancelled"] * 6 + ["waiting"]


async def test_a_slow_user_delays_no_other_user() -> None:
    started: list[tuple[str, int]] = []

    @workflow(id="perhaps-slow", schedule=True)
    async def perhaps_slow(ctx: WorkflowContext, payload: SchedulePayload) -> None:
        await ctx.step.run("start", started.append, (payload.key, payload.timestamp.hour))
        if payload.key == "slow":
            await ctx.step.sleep("forever", timedelta(days=1))

    async with polos.testing.clock(START) as t:
        for key in ("slow", "quick"):
            await schedules.create(t.client, "perhaps-slow", "0 * * * *", key=key)
        await t.advance(hours=3)
    assert sorted(started) == [("quick", 1), ("quick", 2), ("quick", 3), ("slow", 1)]


# --- catch-up --------------------------------------------------------------------------------

# Paused from 00:30 to 06:30, hourly. Which slots run afterwards.
CATCH_UPS: dict[str, tuple[dict[str, Any], list[int]]] = {
    "default": ({}, [6]),
    "latest": ({"catch_up": "latest"}, [6]),
    "all": ({"catch_up": "all"}, [1, 2, 3, 4, 5, 6]),
    "at-most-two": ({"catch_up": "all", "max_catch_up": 2}, [5, 6]),
    "none": ({"catch_up": "none"}, []),
    "window": ({"catch_up": "all", "catch_up_window": timedelta(hours=2, minutes=30)}, [4, 5, 6]),
    "short-window": ({"catch_up_window": timedelta(minutes=10)}, []),
}


@pytest.mark.parametrize("name", CATCH_UPS)
async def test_catch_up_decides_about_slots_that_no_worker_could_run(
    slots: list[datetime], name: str
) -> None:
    options, expected = CATCH_UPS[name]
    async with polos.testing.clock(START) as t:
        id = await schedules.create(t.client, "job", "0 * * * *", **options)
        await schedules.pause(t.client, id)
        await t.advance(hours=6)
        await schedules.resume(t.client, id)
        await t.advance(minutes=1)
        entries: list[LedgerEntry] = await schedules.history(t.client, id)
        caught_up = list(slots)
        await t.advance(hours=1)
    assert [slot.hour for slot in caught_up] == expected
    assert sum(entry.count for entry in entries) == 6, "no slot disappears"
    missed = [entry for entry in entries if entry.status == "missed"]
    assert sum(entry.count for entry in missed) == 6 - len(expected)
    assert all(entry.reason for entry in missed)
    assert slots[len(caught_up) :] == [at(7)]


async def test_a_month_of_downtime_is_one_run_and_a_few_rows(slots: list[datetime]) -> None:
    async with polos.testing.clock(START) as t:
        id = await schedules.create(t.client, "job", every=timedelta(seconds=30))
        await schedules.pause(t.client, id)
        await t.advance(days=30, seconds=10)
        await schedules.resume(t.client, id)
        await t.advance(seconds=1)
        entries = await schedules.history(t.client, id)
    assert len(slots) == 1
    assert len(entries) <= 4
    assert sum(entry.count for entry in entries) == 30 * 2_880


# --- bounds, jitter, input -------------------------------------------------------------------


async def test_no_slot_before_start_at_nor_at_or_after_end_at(slots: list[datetime]) -> None:
    async with polos.testing.clock(START) as t:
        id = await schedules.create(
            t.client, "job", "0 * * * *", start_at=at(3), end_at=at(6)
        )  # fmt: skip
        await t.advance(hours=10)
        schedule = await schedules.get(t.client, id)
    assert slots == [at(3), at(4), at(5)]
    assert (schedule.status, schedule.upcoming) == ("finished", None)


async def test_every_counts_from_start_at_else_from_the_epoch(slots: list[datetime]) -> None:
    async with polos.testing.clock("2026-01-01T00:00:07+00:00") as t:
        seven = timedelta(hours=7)
        await schedules.create(t.client, "job", every=seven, key="a", start_at=at(1))
        id = await schedules.create(t.client, "job", every=timedelta(seconds=30), key="b")
        assert (await schedules.get(t.client, id)).upcoming == at(0).replace(second=30)
        await schedules.delete(t.client, id)
        await t.advance(hours=20)
    assert slots == [at(1), at(8), at(15)]


async def test_at_fires_once(slots: list[datetime]) -> None:
    async with polos.testing.clock(START) as t:
        id = await schedules.create(t.client, "job", at=at(4, 17))
        await t.advance(days=2)
        schedule = await schedules.get(t.client, id)
    assert slots == [at(4, 17)]
    assert (schedule.status, schedule.at) == ("finished", at(4, 17))


async def test_max_runs_finishes_the_schedule(slots: list[datetime]) -> None:
    async with polos.testing.clock(START) as t:
        id = await schedules.create(t.client, "job", "0 * * * *", max_runs=3)
        await t.advance(hours=10)
        assert (await schedules.get(t.client, id)).status == "finished"
        with pytest.raises(InvalidStateError, match="finished"):
            await schedules.pause(t.client, id)
        with pytest.raises(InvalidStateError):
            await schedules.skip(t.client, id)
    assert slots == [at(1), at(2), at(3)]


async def test_jitter_is_the_same_for_a_slot_every_time() -> None:
    async def delays() -> list[timedelta]:
        async with polos.testing.clock(START) as t:
            id = await schedules.create(
                t.client, "job", "0 * * * *", jitter=timedelta(minutes=5), key="k"
            )
            await t.advance(hours=24)
            found = [run.started_at - run.timestamp for run in await t.runs(schedule=id)
                     if run.started_at and run.timestamp]  # fmt: skip
            again = await schedules.history(t.client, id)
            assert [entry.late_by for entry in again[::-1]] == found
            return found

    workflow(id="job", schedule=True)(print)
    found = await delays()
    assert all(timedelta(0) <= delay <= timedelta(minutes=5) for delay in found)
    assert len(set(found)) > 12


async def test_input_is_kept_until_it_is_changed() -> None:
    seen: list[Any] = []

    @workflow(id="describe", schedule=True)
    async def describe(ctx: WorkflowContext) -> None:
        seen.append(ctx.input)

    async with polos.testing.clock(START) as t:
        id = await schedules.create(t.client, "describe", "0 * * * *", input={"n": 1})
        await t.advance(hours=1)
        await schedules.update(t.client, id, overlap="skip")
        await t.advance(hours=1)
        await schedules.update(t.client, id, input=[at(1)])
        await t.advance(hours=1)
    assert seen == [{"n": 1}, {"n": 1}, [at(1)]]


async def test_excluded_dates_are_skipped_with_a_reason(slots: list[datetime]) -> None:
    async with polos.testing.clock(START) as t:
        id = await schedules.create(
            t.client, "job", "0 9 * * *", skip=[date(2026, 1, 2), "2026-01-03"]
        )
        assert (await schedules.get(t.client, id)).upcoming == at(9)
        await t.advance(days=1)
        assert (await schedules.get(t.client, id)).upcoming == at(9, day=4)
        await t.advance(days=4)
        entries = await schedules.history(t.client, id)
    assert [slot.day for slot in slots] == [1, 4, 5]
    skipped = [entry for entry in entries if entry.status == "skipped"]
    assert sum(entry.count for entry in skipped) == 2
    assert "2026-01-0" in (skipped[0].reason or "")


# --- creating again --------------------------------------------------------------------------


async def test_creating_again_keeps_the_next_slot_and_refires_nothing(
    slots: list[datetime],
) -> None:
    async with polos.testing.clock(START) as t:
        for _ in range(3):
            await schedules.create(t.client, "job", "0 * * * *")
            await t.advance(minutes=20)
        # It is 01:30. A changed expression applies from now on.
        await schedules.create(t.client, "job", "15 * * * *")
        await t.advance(hours=1)
        assert len(await schedules.list(t.client)) == 1
    assert slots == [at(1), at(2, 15)]


async def test_creating_at_once_from_many_tasks_makes_one(client: PolosClient, slots: Any) -> None:
    ids = await asyncio.gather(
        *(schedules.create(client, "job", "0 9 * * *", key="same") for _ in range(50))
    )
    assert len(set(ids)) == 1
    assert len(await schedules.list(client)) == 1


async def test_keys_of_many_users_are_many_schedules(slots: list[datetime]) -> None:
    keys = [f"user_{n}" for n in range(500)]
    async with polos.testing.clock(START) as t:
        await schedules.create_many(
            t.client, [{"workflow": "job", "cron": "0 * * * *", "key": key} for key in keys]
        )
        await t.advance(hours=1)
        assert {run.key for run in await t.runs()} == set(keys)
    assert slots == [at(1)] * 500


# --- schedules that belong to the code -------------------------------------------------------


async def deployed(client: PolosClient, *ids: str, app: str = "shop", **changes: Any) -> None:
    """Start and stop an application that declares these workflows."""
    with isolated_registry():
        for id in ids:
            workflow(id=id, schedule={"cron": "0 9 * * *", **changes})(print)
        async with Worker(client, app=app):
            pass


async def statuses(client: PolosClient) -> dict[str, str]:
    return {schedule.workflow: schedule.status for schedule in await schedules.list(client)}


async def test_a_schedule_that_left_the_code_is_retired_until_it_comes_back(
    client: PolosClient,
) -> None:
    await deployed(client, "report", "cleanup")
    assert await statuses(client) == {"report": "active", "cleanup": "active"}
    before = {schedule.workflow: schedule.id for schedule in await schedules.list(client)}
    await deployed(client, "report")
    assert await statuses(client) == {"report": "active", "cleanup": "retired"}
    await deployed(client, "report", "cleanup")
    assert await statuses(client) == {"report": "active", "cleanup": "active"}
    after = {schedule.workflow: schedule.id for schedule in await schedules.list(client)}
    assert after == before
    owners = {schedule.owner for schedule in await schedules.list(client)}
    assert owners == {"shop"}


async def test_schedules_of_other_applications_and_of_the_api_are_not_retired(
    client: PolosClient,
) -> None:
    await deployed(client, "report")
    workflow(id="by-api", schedule=True)(print)
    await schedules.create(client, "by-api", "0 9 * * *")
    await deployed(client, "billing", app="billing")
    assert await statuses(client) == {
        "report": "active", "by-api": "active", "billing": "active",
    }  # fmt: skip


async def test_a_paused_schedule_of_the_code_stays_paused(client: PolosClient) -> None:
    await deployed(client, "report")
    (schedule,) = await schedules.list(client)
    await schedules.pause(client, schedule.id, note="on request")
    await deployed(client, "report", cron="0 10 * * *")
    again = await schedules.get(client, schedule.id)
    assert (again.status, again.note, again.cron) == ("paused", "on request", "0 10 * * *")


async def test_a_schedule_whose_workflow_no_worker_has_is_listed_as_such(
    client: PolosClient,
) -> None:
    await deployed(client, "report")
    (schedule,) = await schedules.list(client)
    assert schedule.worker_available is False
    with isolated_registry():
        workflow(id="report", schedule="0 9 * * *")(print)
        async with Worker(client, app="shop"):
            assert (await schedules.get(client, schedule.id)).worker_available is True


# --- preview and explain ---------------------------------------------------------------------


def test_preview_gives_slots_strictly_after() -> None:
    after = datetime(2026, 3, 8, 1, tzinfo=ZoneInfo("America/New_York"))
    slots = schedules.preview("30 2 * * *", "America/New_York", count=2, after=after)
    # 02:30 doesn't exist that day: it fires at the first instant after the gap.
    assert [f"{slot:%d %H:%M%z}" for slot in slots] == ["08 03:00-0400", "09 02:30-0400"]
    assert schedules.preview("30 2 * * *", "America/New_York", count=1, after=slots[1]) > [slots[1]]
    assert schedules.preview("0 9 * * *", count=0) == []
    now = datetime.now(UTC)
    assert all(slot > now for slot in schedules.preview("0 9 * * *"))


def test_explain_describes_in_english_and_warns_of_clock_changes() -> None:
    after = datetime(2026, 3, 1, tzinfo=UTC)
    explanation = schedules.explain("30 2 * * *", "America/New_York", after=after)
    assert "02:30" in explanation.english
    assert len(explanation.upcoming) == 5
    assert any("2026-03-08" in note or "clock" in note.lower() for note in explanation.notes)
    text = str(explanation)
    assert explanation.english in text
    assert "2026-03-01 02:30" in text
    either = schedules.explain("0 0 13 * 5")
    assert " or " in f"{either.english} {' '.join(either.notes)}".lower()


async def test_skipping_the_only_slot_finishes_the_schedule() -> None:
    @workflow(id="job", schedule=True)
    async def job() -> None: ...

    async with polos.testing.clock(START) as t:
        id = await schedules.create(t.client, "job", at=t.now + timedelta(hours=1))
        schedule = await schedules.skip(t.client, id)
        assert (schedule.status, schedule.upcoming) == ("finished", None)
        await t.advance(hours=2)
        assert await t.runs() == []
        (entry,) = await schedules.history(t.client, id)
    assert (entry.status, entry.reason) == ("skipped", "skipped on request")


@pytest.mark.parametrize(
    ("options", "outcome"),
    [
        ({}, "ran"),
        ({"catch_up": "none"}, "missed"),
        ({"catch_up_window": timedelta(minutes=5)}, "missed"),
    ],
)
async def test_an_instant_that_has_passed_follows_catch_up(
    options: dict[str, Any], outcome: str, caplog: pytest.LogCaptureFixture
) -> None:
    @workflow(id="job", schedule=True)
    async def job() -> None: ...

    async with polos.testing.clock(START) as t:
        past = t.now - timedelta(hours=1)
        id = await schedules.create(t.client, "job", at=past, **options)
        (other,) = await schedules.create_many(
            t.client, [{"workflow": "job", "key": "other", "at": past, **options}]
        )
        await t.advance(minutes=1)
        # Neither a change nor a restart runs it again.
        await schedules.create(t.client, "job", at=past, jitter=timedelta(seconds=1), **options)
        await t.crash()
        await t.restart()
        await t.advance(minutes=1)
        for each in (id, other):
            (entry,) = await schedules.history(t.client, each)
            assert (entry.timestamp, entry.status) == (past, outcome)
            assert (await schedules.get(t.client, each)).status == "finished"
        later = past + timedelta(minutes=57)
        assert (await schedules.update(t.client, id, at=later)).status == "active"
        await t.advance(minutes=1)
        assert [entry.timestamp for entry in await schedules.history(t.client, id)] == [later, past]
    assert "which has passed; it" in caplog.text


@pytest.mark.parametrize(("catch_up", "outcome"), [("latest", "ran"), ("none", "missed")])
async def test_an_instant_that_code_declares_after_it_has_passed_follows_catch_up(
    catch_up: Any, outcome: str
) -> None:
    past = datetime.fromisoformat(START) - timedelta(hours=1)

    @workflow(id="job", schedule={"at": past, "catch_up": catch_up})
    async def job() -> None: ...

    async with polos.testing.clock(START) as t:
        await t.advance(minutes=1)
        (schedule,) = await schedules.list(t.client, workflow="job")
        (entry,) = await schedules.history(t.client, schedule.id)
        assert (entry.timestamp, entry.status) == (past, outcome)
        await t.crash()
        await t.restart()
        await t.advance(minutes=1)
        assert await schedules.history(t.client, schedule.id) == [entry]


async def test_an_instant_of_a_slot_that_has_run_is_not_run_again() -> None:
    @workflow(id="job", schedule=True)
    async def job() -> None: ...

    async with polos.testing.clock(START) as t:
        id = await schedules.create(t.client, "job", every=timedelta(minutes=1))
        await t.advance(minutes=3)
        before = await schedules.history(t.client, id)
        await schedules.update(t.client, id, at=before[-1].timestamp)
        await t.advance(minutes=1)
        assert await schedules.history(t.client, id) == before
        assert (await schedules.get(t.client, id)).status == "finished"


async def test_schedules_that_are_created_together_share_nothing(
    client: PolosClient, slots: Any
) -> None:
    """Equal specifications are checked once; other fields belong to each schedule."""
    made = await schedules.create_many(
        client,
        [
            {"workflow": "job", "cron": "0 9 * * *", "key": key, "input": data}
            for key, data in (("a", {"plan": "free"}), ("b", {"plan": "pro"}), ("c", None))
        ],
    )
    found = [await schedules.get(client, id) for id in made]
    assert [(schedule.key, schedule.input) for schedule in found] == [
        ("a", {"plan": "free"}), ("b", {"plan": "pro"}), ("c", None),
    ]  # fmt: skip


async def test_values_that_are_equal_are_still_checked_by_their_type(
    client: PolosClient, slots: Any
) -> None:
    options = {"workflow": "job", "cron": "0 9 * * *"}
    with pytest.raises(InvalidScheduleError, match=r"schedules\[1\]: max_runs: `True` given"):
        await schedules.create_many(
            client,
            [{**options, "key": "a", "max_runs": 1}, {**options, "key": "b", "max_runs": True}],
        )
    assert await schedules.list(client) == []


@pytest.mark.parametrize(
    "change",
    [
        {"every": timedelta(seconds=30)},
        {"timezone": "Europe/London"},
        {"start_at": datetime(2025, 12, 31, tzinfo=timezone.utc)},
        {"end_at": datetime(2026, 1, 2, tzinfo=timezone.utc)},
        {"cron": "*/5 * * * *"},
    ],
)
@pytest.mark.parametrize("way", ["update", "create"])
async def test_a_skipped_slot_stays_skipped_when_the_schedule_is_changed(
    change: dict[str, Any], way: str
) -> None:
    @workflow(id="job", schedule=True)
    async def job() -> None: ...

    async with polos.testing.clock(START) as t:
        id = await schedules.create(t.client, "job", every=timedelta(minutes=1))
        await schedules.skip(t.client, id)
        if way == "update":
            await schedules.update(t.client, id, **change)
        else:
            trigger = {} if "cron" in change else {"every": timedelta(minutes=1)}
            await schedules.create(t.client, "job", **{**trigger, **change})
        await t.advance(minutes=3)
        entries = (await schedules.history(t.client, id))[::-1]
        skipped = [entry for entry in entries if entry.status == "skipped"]
        assert [entry.reason for entry in skipped] == ["skipped on request"]
        for one, other in itertools.pairwise(entries):
            assert one.until < other.timestamp


async def test_a_slot_that_is_backfilled_while_it_is_due_has_one_outcome() -> None:
    @workflow(id="job", schedule=True)
    async def job() -> None: ...

    async with polos.testing.clock(START) as t:
        id = await schedules.create(t.client, "job", every=timedelta(minutes=1))
        await schedules.pause(t.client, id)
        await t.advance(minutes=5, seconds=30)
        slots = await schedules.backfill(t.client, id, t.now - timedelta(minutes=4), t.now)
        assert len(slots) == 4
        await schedules.resume(t.client, id)
        await t.advance(minutes=2)
        entries = (await schedules.history(t.client, id))[::-1]
        for one, other in itertools.pairwise(entries):
            assert one.until < other.timestamp
