"""Hooks of the application: on_success, on_failure, and on_missed."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from polos import (
    InvalidArgumentError,
    MissedSlots,
    PolosClient,
    RunFailure,
    RunSuccess,
    RunTimeoutError,
    Worker,
    runs,
    schedules,
    workflow,
)
from polos.testing import clock


async def test_on_failure_is_told_once_when_no_retry_is_left() -> None:
    told: list[RunFailure] = []

    @workflow(id="flaky", retries=2, backoff=1, on_failure=told.append)
    async def flaky() -> None:
        raise KeyError("nothing here")

    async with clock("2026-03-01T12:00+00:00") as t:
        handle = await flaky.invoke(t.client)
        await t.advance(seconds=0.1)
        assert told == []
        await t.advance(minutes=1)
        with pytest.raises(KeyError):
            await handle.result()
    (failure,) = told
    assert (failure.workflow_id, failure.run_id, failure.attempt) == ("flaky", handle.id, 3)
    assert repr(failure.error) == "KeyError('nothing here')"
    assert failure.timestamp is None


async def test_on_failure_hears_of_timeouts_with_the_slot_in_the_schedules_zone() -> None:
    told = asyncio.Queue[RunFailure]()

    @workflow(
        id="endless",
        schedule={"cron": "0 9 * * *", "timezone": "Asia/Tokyo"},
        timeout=60,
        on_failure=told.put,
    )
    async def endless() -> None:
        await asyncio.Event().wait()

    async with clock("2026-03-01T12:00+00:00") as t:
        await t.advance(days=1)
        failure = await told.get()
    assert isinstance(failure.error, RunTimeoutError)
    assert failure.timestamp is not None
    assert failure.timestamp.isoformat() == "2026-03-02T09:00:00+09:00"


async def test_a_hook_that_raises_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    def bad_hook(_: RunFailure) -> None:
        raise SystemExit(3)

    runs = 0

    @workflow(id="failing", schedule={"every": timedelta(minutes=1)}, on_failure=bad_hook)
    async def failing() -> None:
        nonlocal runs
        runs += 1
        raise ValueError

    async with clock("2026-03-01T12:00+00:00") as t:
        await t.advance(minutes=3)
    assert runs == 3
    assert "on_failure of workflow `failing` failed" in caplog.text


async def test_on_missed_is_told_which_slots_nobody_could_run() -> None:
    told: list[MissedSlots] = []
    fired: list[Any] = []

    @workflow(id="report", schedule=True, on_missed=told.append)
    async def report(ctx: Any, payload: Any) -> None:
        fired.append(payload.timestamp)

    async with clock("2026-03-01T12:00+00:00") as t:
        id = await schedules.create(
            t.client, workflow=report, every=timedelta(minutes=10), key="user"
        )
        await schedules.pause(t.client, id)
        await t.advance(hours=1, minutes=5)
        await schedules.resume(t.client, id)
        await t.advance(seconds=1)
    (missed,) = told
    assert (missed.workflow_id, missed.schedule_id, missed.key) == ("report", id, "user")
    assert (missed.count, missed.timestamp, missed.until) == (
        5,
        datetime(2026, 3, 1, 12, 10, tzinfo=timezone.utc),
        datetime(2026, 3, 1, 12, 50, tzinfo=timezone.utc),
    )
    assert [slot.minute for slot in fired] == [0]


async def test_on_success_is_told_once_with_the_result() -> None:
    told: list[RunSuccess] = []

    @workflow(id="flaky", retries=1, backoff=1, schedule="0 9 * * *", on_success=told.append)
    async def flaky(ctx: Any) -> dict[str, int]:
        if ctx.attempt == 1:
            raise KeyError("nothing here")
        return {"sent": 3}

    async with clock("2026-03-01T08:30+00:00") as t:
        await t.advance(hours=1)
        (run,) = await runs.list(t.client)
    (success,) = told
    assert (success.workflow_id, success.run_id, success.attempt) == ("flaky", run.id, 2)
    assert (success.schedule_id, success.key) == (run.schedule_id, "global")
    assert success.timestamp == datetime(2026, 3, 1, 9, tzinfo=timezone.utc)
    assert success.result == {"sent": 3}


async def test_a_worker_has_hooks_for_all_workflows_beside_their_own() -> None:
    told: list[tuple[str, str, str]] = []

    def note(place: str) -> Any:
        return lambda event: told.append((place, type(event).__name__, event.workflow_id))

    class Watcher:
        async def __call__(self, call_next: Any, ctx: Any) -> Any:
            return await call_next()

        async def on_success(self, event: RunSuccess) -> None:
            note("middleware")(event)

    @workflow(id="good", on_success=note("own"))
    async def good() -> None:
        pass

    @workflow(id="bad", on_failure=note("own"))
    async def bad() -> None:
        raise OSError("no")

    async with clock(
        "2026-03-01T12:00+00:00",
        middleware=[Watcher()],
        on_success=note("worker"),
        on_failure=note("worker"),
    ) as t:
        await good.run(t.client)
        with pytest.raises(OSError, match="no"):
            await bad.run(t.client)
    assert sorted(told) == [
        ("middleware", "RunSuccess", "good"),
        ("own", "RunFailure", "bad"),
        ("own", "RunSuccess", "good"),
        ("worker", "RunFailure", "bad"),
        ("worker", "RunSuccess", "good"),
    ]


async def test_the_worker_is_told_of_missed_slots_of_its_workflows() -> None:
    told: list[MissedSlots] = []

    @workflow(id="job", schedule={"every": timedelta(minutes=10), "catch_up": "none"})
    async def job() -> None:
        pass

    async with clock("2026-03-01T12:00+00:00", on_missed=told.append) as t:
        (schedule,) = await schedules.list(t.client)
        await schedules.pause(t.client, schedule)
        await t.advance(minutes=35)
        await schedules.resume(t.client, schedule)
        await t.advance(seconds=1)
    assert [(each.workflow_id, each.count) for each in told] == [("job", 3)]


@pytest.mark.parametrize("name", ["on_success", "on_failure", "on_missed"])
def test_a_hook_that_is_no_function_is_refused(client: PolosClient, name: str) -> None:
    with pytest.raises(InvalidArgumentError, match=f"{name}: `3` given, expected a function"):
        Worker(client, **{name: 3})  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match=f"`job`, {name}: `3` given"):
        workflow(id="job", **{name: 3})(print)  # type: ignore[call-overload]
