"""Skips on request, withdrawn skips, and the catch-up after a pause."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

import polos.testing
from polos import (
    InvalidArgumentError,
    InvalidStateError,
    PolosClient,
    ScheduleNotFoundError,
    SchedulePayload,
    WorkflowContext,
    schedules,
    workflow,
)
from polos.testing import VirtualTime

START = "2026-01-01T00:30+00:00"


def at(hour: int) -> datetime:
    return datetime(2026, 1, 1, hour, tzinfo=timezone.utc)


@pytest.fixture(autouse=True)
def hours() -> list[int]:
    """Return the hours for which ``job`` has run."""
    seen: list[int] = []

    @workflow(id="job", schedule=True)
    async def job(ctx: WorkflowContext, payload: SchedulePayload) -> None:
        seen.append(payload.timestamp.hour)

    return seen


async def outcomes(t: VirtualTime, id: str) -> dict[int, str]:
    """Return the outcome of each hour; check that each has one."""
    entries = await t.ledger(id)
    assert all(entry.count == 1 for entry in entries), entries
    found = {entry.timestamp.hour: str(entry.status) for entry in entries}
    assert len(found) == len(entries), entries
    return found


async def test_skipped_slots_do_not_run_and_those_taken_back_do(hours: list[int]) -> None:
    async with polos.testing.clock(START) as t:
        id = await schedules.create(t.client, "job", "0 * * * *")
        await schedules.skip(t.client, id, at=at(5))
        skipped = await schedules.skip(t.client, id, n=3)
        assert skipped.skipped == (at(1), at(2), at(3), at(5))
        assert skipped.upcoming == at(4)
        assert await schedules.upcoming(t.client, id, 2) == [at(4), at(6)]
        back = await schedules.unskip(t.client, workflow="job", at=at(2))
        assert back.skipped == (at(1), at(3), at(5))
        assert back.upcoming == at(2)
        await t.advance(hours=4)
        assert hours == [2, 4]
        assert (await schedules.unskip(t.client, id)).skipped == ()
        await t.advance(hours=2)
        assert hours == [2, 4, 5, 6]
        assert await outcomes(t, id) == {
            1: "skipped", 2: "ran", 3: "skipped", 4: "ran", 5: "ran", 6: "ran",
        }  # fmt: skip


async def test_the_errors_say_which_slots_there_are(client: PolosClient) -> None:
    id = await schedules.create(
        client,
        "job",
        "0 9 * * *",
        "Europe/Paris",
        start_at=datetime(2100, 1, 1, tzinfo=timezone.utc),
    )
    paris = ZoneInfo("Europe/Paris")
    with pytest.raises(
        InvalidArgumentError, match=r"before is 2100-03-01 09:00.* after is 2100-03-02"
    ):
        await schedules.skip(client, id, at=datetime(2100, 3, 1, 10, tzinfo=paris))
    with pytest.raises(InvalidArgumentError, match="no slot at"):
        await schedules.skip(client, id, at=datetime(2020, 3, 1, 10, tzinfo=paris))
    with pytest.raises(InvalidStateError, match="no coming slot is"):
        await schedules.unskip(client, id, at=datetime(2100, 3, 1, 9, tzinfo=paris))
    with pytest.raises(InvalidArgumentError, match="n: given together with `at`"):
        await schedules.skip(client, id, n=2, at=datetime(2100, 3, 1, 9, tzinfo=paris))
    with pytest.raises(InvalidArgumentError, match="n: `0` given"):
        await schedules.skip(client, id, n=0)
    with pytest.raises(InvalidArgumentError, match="time zone"):
        await schedules.skip(client, id, at=datetime(2100, 3, 1, 9))
    with pytest.raises(InvalidArgumentError, match="catch_up"):
        await schedules.resume(client, id, catch_up="never")  # type: ignore[arg-type]
    with pytest.raises(ScheduleNotFoundError):
        await schedules.unskip(client, "sch_nobody")


def test_skips_without_a_loop(client: PolosClient) -> None:
    id = schedules.sync.create(client, "job", "0 9 * * *")
    first, second = schedules.sync.upcoming(client, id, 2)
    assert schedules.sync.skip(client, id, at=second).skipped == (second,)
    assert schedules.sync.skip(client, id).skipped == (first, second)
    assert schedules.sync.unskip(client, id).skipped == ()
    assert schedules.sync.history(client, id) == []


@pytest.mark.parametrize(
    ("policy", "ran"), [("none", []), ("latest", [3]), ("all", [1, 2, 3]), (None, [3])]
)
async def test_a_pause_ends_by_the_policy_that_is_given(
    hours: list[int], policy: Any, ran: list[int]
) -> None:
    async with polos.testing.clock(START) as t:
        id = await schedules.create(t.client, "job", "0 * * * *")
        await schedules.pause(t.client, id)
        await t.advance(hours=3)
        resumed = await schedules.resume(t.client, id, catch_up=policy)
        assert (resumed.status, resumed.catch_up) == ("active", "latest")
        await t.advance(minutes=1)
        assert hours == ran
        await t.advance(hours=1)
        assert hours == [*ran, 4]
        entries = await t.ledger(id)
        assert sum(entry.count for entry in entries) == 4


async def test_a_policy_of_none_can_be_overridden_once(hours: list[int]) -> None:
    async with polos.testing.clock(START) as t:
        id = await schedules.create(t.client, "job", "0 * * * *", catch_up="none", overlap="allow")
        await schedules.pause(t.client, id)
        await t.advance(hours=2)
        await schedules.resume(t.client, id, catch_up="all")
        await t.advance(minutes=1)
        assert sorted(hours) == [1, 2]


def test_the_command_line_skips_and_takes_back(
    command: Any, client: PolosClient, own_database: Path | str
) -> None:
    id = schedules.sync.create(client, "job", "0 9 * * *", key="ada")
    first, second, third = schedules.sync.upcoming(client, id, 3)
    where = ("--database", own_database)
    result = command("schedules", "skip", "job/ada", "--count", 2, *where)
    assert result.out.startswith(f"skips 2 slots, {first:%Y-%m-%d %H:%M}"), result
    result = command("schedules", "skip", "job/ada", "--at", f"{third:%Y-%m-%d %H:%M}", *where)
    assert result.out.startswith(f"skips {third:%Y-%m-%d %H:%M}"), result
    assert f"{second:%Y-%m-%d %H:%M}" in command("schedules", "show", "job/ada", *where).out
    shown = command("schedules", "unskip", "job/ada", "--at", second.isoformat(), "--json", *where)
    assert shown.objects[0]["skipped"] == [slot.isoformat() for slot in (first, third)]
    result = command("schedules", "unskip", "job/ada", *where)
    assert result.out.startswith("2 slots no longer skipped; job/ada is next at"), result
    assert schedules.sync.get(client, id).skipped == ()
    result = command("schedules", "skip", "job/ada", "--count", 2, "--at", "now", *where)
    assert (result.code, "--count" in result.err) == (2, True), result


def test_the_command_line_resumes_without_the_slots_of_the_pause(
    command: Any, client: PolosClient, own_database: Path | str
) -> None:
    id = schedules.sync.create(client, "job", "0 9 * * *", key="ada")
    schedules.sync.pause(client, id)
    where = ("--database", own_database)
    result = command("schedules", "resume", "job/ada", "--catch-up", "never", *where)
    assert (result.code, "latest, all, or none" in result.err) == (2, True), result
    result = command("schedules", "resume", "job/ada", "--catch-up", "none", *where)
    assert result.code == 0, result
    assert schedules.sync.get(client, id).status == "active"
