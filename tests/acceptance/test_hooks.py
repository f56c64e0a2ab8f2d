"""Hooks of the application: on_success, on_failure, on_missed, on_skipped, and on_late."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from pydantic import BaseModel

from polos import (
    InvalidArgumentError,
    LateRun,
    MissedSlots,
    PolosClient,
    RunFailedError,
    RunFailure,
    RunSuccess,
    RunTimeoutError,
    SchedulePayload,
    SkippedSlots,
    Worker,
    WorkflowContext,
    runs,
    schedules,
    workflow,
)
from polos._runtime.hook_calls import HookCalls
from polos.testing import Moment, VirtualTime, clock


class Sum(BaseModel):
    """The result of a workflow."""

    total: int


class Refused(Exception):
    """An exception with a field."""

    def __init__(self, text: str, code: int = 0) -> None:
        super().__init__(text)
        self.code = code


async def test_on_failure_is_called_once_when_no_retry_is_left() -> None:
    calls: list[RunFailure] = []

    @workflow(id="flaky", retries=2, backoff=1, on_failure=calls.append)
    async def flaky() -> None:
        raise KeyError("nothing here")

    async with clock("2026-03-01T12:00+00:00") as t:
        handle = await flaky.invoke(t.client)
        await t.advance(seconds=0.1)
        assert calls == []
        await t.advance(minutes=1)
        with pytest.raises(KeyError):
            await handle.result()
    (failure,) = calls
    assert (failure.workflow_id, failure.run_id, failure.attempt) == ("flaky", handle.id, 3)
    assert repr(failure.error) == "KeyError('nothing here')"
    assert failure.timestamp is None


async def test_on_failure_gets_timeouts_with_the_slot_in_the_schedules_zone() -> None:
    calls = asyncio.Queue[RunFailure]()

    @workflow(
        id="endless",
        schedule={"cron": "0 9 * * *", "timezone": "Asia/Tokyo"},
        timeout=60,
        on_failure=calls.put,
    )
    async def endless() -> None:
        await asyncio.Event().wait()

    async with clock("2026-03-01T12:00+00:00") as t:
        await t.advance(days=1)
        failure = await calls.get()
    assert isinstance(failure.error, RunTimeoutError)
    assert failure.timestamp is not None
    assert failure.timestamp.isoformat() == "2026-03-02T09:00:00+09:00"


async def test_a_hook_that_raises_affects_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
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


async def test_on_missed_gets_the_slots_that_no_worker_could_run() -> None:
    calls: list[MissedSlots] = []
    fired: list[Any] = []

    @workflow(id="report", schedule=True, on_missed=calls.append)
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
    (missed,) = calls
    assert (missed.workflow_id, missed.schedule_id, missed.key) == ("report", id, "user")
    assert (missed.count, missed.timestamp, missed.until) == (
        5,
        datetime(2026, 3, 1, 12, 10, tzinfo=timezone.utc),
        datetime(2026, 3, 1, 12, 50, tzinfo=timezone.utc),
    )
    assert [slot.minute for slot in fired] == [0]


async def test_on_success_is_called_once_with_the_result() -> None:
    calls: list[RunSuccess] = []

    @workflow(id="flaky", retries=1, backoff=1, schedule="0 9 * * *", on_success=calls.append)
    async def flaky(ctx: Any) -> dict[str, int]:
        if ctx.attempt == 1:
            raise KeyError("nothing here")
        return {"sent": 3}

    async with clock("2026-03-01T08:30+00:00") as t:
        await t.advance(hours=1)
        (run,) = await runs.list(t.client)
    (success,) = calls
    assert (success.workflow_id, success.run_id, success.attempt) == ("flaky", run.id, 2)
    assert (success.schedule_id, success.key) == (run.schedule_id, "global")
    assert success.timestamp == datetime(2026, 3, 1, 9, tzinfo=timezone.utc)
    assert success.result == {"sent": 3}


async def test_a_worker_has_hooks_for_all_workflows_beside_their_own() -> None:
    calls: list[tuple[str, str, str]] = []

    def note(place: str) -> Any:
        return lambda event: calls.append((place, type(event).__name__, event.workflow_id))

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
    assert sorted(calls) == [
        ("middleware", "RunSuccess", "good"),
        ("own", "RunFailure", "bad"),
        ("own", "RunSuccess", "good"),
        ("worker", "RunFailure", "bad"),
        ("worker", "RunSuccess", "good"),
    ]


async def test_the_workers_hook_gets_missed_slots_of_its_workflows() -> None:
    calls: list[MissedSlots] = []

    @workflow(id="job", schedule={"every": timedelta(minutes=10), "catch_up": "none"})
    async def job() -> None:
        pass

    async with clock("2026-03-01T12:00+00:00", on_missed=calls.append) as t:
        (schedule,) = await schedules.list(t.client)
        await schedules.pause(t.client, schedule)
        await t.advance(minutes=35)
        await schedules.resume(t.client, schedule)
        await t.advance(seconds=1)
    assert [(each.workflow_id, each.count) for each in calls] == [("job", 3)]


async def test_missed_slots_are_told_by_the_next_worker_if_theirs_dies() -> None:
    begun = asyncio.Event()
    calls: list[MissedSlots] = []

    async def hook(missed: MissedSlots) -> None:
        calls.append(missed)
        if not begun.is_set():
            begun.set()
            await asyncio.Event().wait()

    @workflow(id="job", schedule={"every": timedelta(minutes=10), "catch_up": "none"})
    async def job() -> None: ...

    async with clock("2026-03-01T12:00+00:00", on_missed=hook) as t:
        (schedule,) = await schedules.list(t.client)
        await schedules.pause(t.client, schedule)
        await t.advance(minutes=35)
        await schedules.resume(t.client, schedule)
        await t.advance(seconds=1)
        await begun.wait()
        await t.crash()
        await t.restart()
        await t.advance(minutes=1)
        first, again = calls
        assert first == again
        assert (again.count, again.schedule_id) == (3, schedule.id)
        await t.advance(hours=1)
    assert len(calls) == 2


async def test_slots_that_were_due_when_their_schedule_was_changed_are_missed() -> None:
    calls: list[MissedSlots] = []

    @workflow(id="job", schedule=True, on_missed=calls.append)
    async def job() -> None: ...

    async with clock("2026-03-01T12:00+00:00") as t:
        id = await schedules.create(t.client, job, "*/10 * * * *")
        await schedules.pause(t.client, id)
        await t.advance(minutes=25)
        await schedules.update(t.client, id, cron="0 * * * *")
        await t.advance(seconds=1)
    (missed,) = calls
    assert (missed.count, missed.reason) == (2, "the schedule was changed")


async def test_missed_slots_start_one_run_of_a_workflow() -> None:
    calls: list[MissedSlots] = []

    @workflow(id="notify", retries=1, backoff=1)
    async def notify(ctx: WorkflowContext, missed: MissedSlots) -> None:
        calls.append(missed)
        if ctx.attempt == 1:
            raise OSError("no route to the pager")

    rule = {"every": timedelta(minutes=10), "catch_up": "none"}

    @workflow(id="job", schedule=rule, on_missed=notify)
    async def job() -> None: ...

    async with clock("2026-03-01T12:00+00:00") as t:
        (schedule,) = await schedules.list(t.client)
        await schedules.pause(t.client, schedule)
        await t.advance(minutes=35)
        await schedules.resume(t.client, schedule)
        await t.advance(seconds=30)
        (run,) = await runs.list(t.client, workflow="notify")
    assert (run.status, run.attempt, run.key, run.origin) == ("succeeded", 2, "global", "hook")
    assert [(each.workflow_id, each.count) for each in calls] == [("job", 3), ("job", 3)]


async def test_no_hook_is_called_while_the_database_is_down() -> None:
    calls: list[RunSuccess] = []
    outage = ExitStack()
    clocks: list[VirtualTime] = []

    async def hook(success: RunSuccess) -> None:
        calls.append(success)

    @workflow(id="report", on_success=hook)
    async def report() -> None:
        outage.enter_context(clocks[0].outage())

    async with clock("2026-03-01T12:00+00:00") as t:
        clocks.append(t)
        await report.invoke(t.client)
        await t.advance(minutes=1)
        assert calls == []
        outage.close()
        await t.advance(minutes=1)
        assert len(calls) == 1


@pytest.mark.parametrize("when", ["before_commit", "after_commit"])
async def test_a_hook_is_called_once_and_only_if_the_outcome_is_recorded(when: Moment) -> None:
    calls: list[RunSuccess] = []
    executions = 0

    @workflow(id="report", schedule={"cron": "0 9 * * *", "timezone": "Asia/Tokyo"})
    async def report() -> Sum:
        nonlocal executions
        executions += 1
        return Sum(total=executions)

    async with clock("2026-03-01T12:00+00:00", on_success=calls.append) as t:
        t.crash_at(workflow=report, when=when)
        await t.advance(hours=12, minutes=1)
        (run,) = await runs.list(t.client)
        assert calls == []
        await t.restart()
        await t.advance(minutes=10)
    (success,) = calls
    assert executions == (2 if when == "before_commit" else 1)
    assert success.result == Sum(total=executions)
    assert (success.run_id, success.schedule_id, success.key) == (run.id, run.schedule_id, "global")
    assert success.timestamp is not None
    assert success.timestamp.isoformat() == "2026-03-02T09:00:00+09:00"


async def test_the_next_worker_calls_the_hook_of_a_failure_with_its_exception() -> None:
    calls: list[RunFailure] = []

    @workflow(id="report", retries=1, backoff=1, on_failure=calls.append)
    async def report() -> None:
        raise Refused("card", code=402)

    async with clock("2026-03-01T12:00+00:00") as t:
        handle = await report.invoke(t.client)
        await t.advance(seconds=0.1)
        t.crash_at(workflow=report, when="after_commit")
        await t.advance(minutes=5)
        assert calls == []
        await t.restart()
        await t.advance(minutes=5)
        with pytest.raises(Refused):
            await handle.result()
    (failure,) = calls
    assert (failure.run_id, failure.attempt) == (handle.id, 2)
    assert (failure.timestamp, failure.schedule_id) == (None, None)
    assert isinstance(failure.error, Refused)
    assert (failure.error.args, failure.error.code) == (("card",), 402)
    assert isinstance(failure.error.__cause__, RunFailedError)
    assert "raise Refused" in failure.error.__cause__.traceback


async def test_a_failure_whose_exception_cannot_be_rebuilt_is_passed_as_its_record() -> None:
    calls: list[RunFailure] = []

    class Local(Exception):
        pass

    @workflow(id="report", on_failure=calls.append)
    async def report() -> None:
        raise Local("nobody else knows it") from None

    async with clock("2026-03-01T12:00+00:00") as t:
        t.crash_at(workflow=report, when="after_commit")
        await report.invoke(t.client)
        await t.advance(minutes=1)
        await t.restart()
        await t.advance(minutes=1)
    (failure,) = calls
    assert isinstance(failure.error, (Local, RunFailedError))
    assert "nobody else knows it" in str(failure.error)


async def test_a_worker_that_drains_waits_for_the_hooks_of_its_runs(
    own_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("polos.worker._HOOKS", 0.0)
    begun, release = asyncio.Event(), asyncio.Event()
    calls: list[RunSuccess] = []
    finish = HookCalls.finish

    async def slow(success: RunSuccess) -> None:
        begun.set()
        await release.wait()
        calls.append(success)

    async def finish_released(
        self: HookCalls, timeout: timedelta, forced: asyncio.Event | None = None
    ) -> None:
        # The hook ends when somebody has time to wait for it, and not before.
        if timeout:
            release.set()
        await finish(self, timeout, forced)

    monkeypatch.setattr(HookCalls, "finish", finish_released)

    @workflow(id="report", on_success=slow)
    async def report() -> None:
        pass

    async with PolosClient(own_database) as client:
        worker = Worker(client, drain=60)
        await worker.start()
        await report.run(client)
        await begun.wait()
        await worker.close()
        assert len(calls) == 1
        async with Worker(client):
            pass
    assert len(calls) == 1, "it is not called again"


async def test_a_hook_that_outlasts_the_drain_is_called_again_by_the_next_worker(
    own_database: str,
) -> None:
    calls: asyncio.Queue[str] = asyncio.Queue()
    is_stuck = True

    async def hook(success: RunSuccess) -> None:
        await calls.put(success.run_id)
        if is_stuck:
            await asyncio.Event().wait()

    @workflow(id="report", on_success=hook)
    async def report() -> None:
        pass

    async with PolosClient(own_database) as client:
        async with Worker(client, drain=0):
            handle = await report.invoke(client)
            await handle.result()
            assert await calls.get() == handle.id
        is_stuck = False
        async with Worker(client):
            assert await calls.get() == handle.id
        async with Worker(client):
            pass
    assert calls.empty()


@pytest.mark.parametrize("crashes", [False, True])
async def test_a_workflow_as_a_hook_is_a_run_of_its_own(crashes: bool) -> None:
    calls: list[RunFailure] = []

    @workflow(id="notify", retries=1, backoff=1)
    async def notify(ctx: Any, failure: RunFailure) -> None:
        calls.append(failure)
        if len(calls) == 1:
            raise OSError("no route to the pager")

    @workflow(id="report", schedule="0 9 * * *", on_failure=notify)
    async def report() -> None:
        raise Refused("card", code=402)

    async with clock("2026-03-01T08:30+00:00", on_failure=notify) as t:
        if crashes:
            t.crash_at(workflow=report, when="after_commit")
        await t.advance(hours=1)
        if crashes:
            await t.restart()
        await t.advance(hours=1)
        (failed,) = await runs.list(t.client, workflow=report)
        (run,) = await runs.list(t.client, workflow=notify)
    assert (run.origin, run.key, run.status, run.attempt) == ("hook", "global", "succeeded", 2)
    first, second = calls
    assert first.run_id == second.run_id == failed.id
    assert first.timestamp == datetime(2026, 3, 1, 9, tzinfo=timezone.utc)
    assert isinstance(second.error, Refused)
    assert (second.error.args, second.error.code) == (("card",), 402)


async def test_every_recorded_call_can_be_a_run() -> None:
    calls: list[Any] = []

    @workflow(id="notify")
    async def notify(ctx: Any, event: Any) -> None:
        calls.append(event)

    @workflow(
        id="report",
        schedule={"cron": "0 * * * *", "overlap": "skip"},
        on_success=notify,
        on_skipped=notify,
        on_late=notify,
        late_after=timedelta(minutes=5),
    )
    async def report() -> Sum:
        return Sum(total=3)

    async with clock("2026-03-01T11:30+00:00") as t:
        (schedule,) = await schedules.list(t.client)
        await schedules.skip(t.client, schedule.id)
        await t.advance(hours=2)
        await t.crash()
        await t.advance(minutes=50)
        await t.restart()
        await t.advance(minutes=1)
    kinds = [type(event).__name__ for event in calls]
    assert sorted(kinds) == ["LateRun", "RunSuccess", "RunSuccess", "SkippedSlots"]
    assert [event.result for event in calls if type(event) is RunSuccess] == [Sum(total=3)] * 2


async def test_the_run_of_a_hook_starts_no_further_hook() -> None:
    calls: list[RunFailure] = []

    @workflow(id="notify")
    async def notify(ctx: Any, failure: RunFailure) -> None:
        calls.append(failure)
        raise OSError("no route to the pager")

    @workflow(id="report")
    async def report() -> None:
        raise ValueError

    async with clock("2026-03-01T12:00+00:00", on_failure=notify) as t:
        await report.invoke(t.client)
        await t.advance(minutes=1)
        await t.advance(minutes=1)
    assert [failure.workflow_id for failure in calls] == ["report"]


def test_a_workflow_that_cannot_be_a_hook_is_refused(client: PolosClient) -> None:
    @workflow(id="blind")
    async def blind() -> None: ...

    with pytest.raises(InvalidArgumentError, match="on_failure: workflow `blind` given, whose"):
        workflow(id="job", on_failure=blind)(print)


class OwnFailure(BaseModel):
    workflow_id: str
    attempt: int
    severity: str = "high"


class OtherFailure(BaseModel):
    workflow_id: str
    severity: str


@pytest.mark.parametrize("hint", [object, Any, RunFailure, RunFailure | None, OwnFailure, dict])
def test_a_workflow_whose_payload_can_be_the_event_is_a_hook(hint: Any) -> None:
    async def notify(ctx: Any, event: Any) -> None: ...

    notify.__annotations__["event"] = hint
    workflow(id="job", on_failure=workflow(id="notify")(notify))(print)


@pytest.mark.parametrize(
    ("hint", "reason"),
    [
        (int, "its payload is `int`. Annotate the payload with `polos.RunFailure`"),
        (RunSuccess, "its payload is `.*RunSuccess`, which requires `result` too"),
        (RunSuccess | int, "its payload is `.*RunSuccess | int`, which requires `result` too"),
        (OtherFailure, "its payload is `.*OtherFailure`, which requires `severity` too"),
    ],
)
def test_a_workflow_whose_payload_cannot_be_the_event_is_refused(
    hint: Any, reason: str, client: PolosClient
) -> None:
    async def notify(ctx: Any, event: Any) -> None: ...

    notify.__annotations__["event"] = hint
    hook = workflow(id="notify")(notify)
    with pytest.raises(InvalidArgumentError, match=f"`job`, on_failure: .*passed.*; {reason}"):
        workflow(id="job", on_failure=hook)(print)
    with pytest.raises(InvalidArgumentError, match=reason):
        Worker(client, on_failure=hook)


@pytest.mark.parametrize("name", ["on_success", "on_failure", "on_missed"])
def test_a_hook_that_is_no_function_is_refused(client: PolosClient, name: str) -> None:
    with pytest.raises(InvalidArgumentError, match=f"{name}: `3` given, expected a function"):
        Worker(client, **{name: 3})  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match=f"`job`, {name}: `3` given"):
        workflow(id="job", **{name: 3})(print)  # type: ignore[call-overload]


def _yields(event: Any) -> Any:
    yield event


async def _async_yields(event: Any) -> Any:
    yield event


@pytest.mark.parametrize(
    ("hook", "reason"),
    [
        (_yields, "a generator function"),
        (_async_yields, "a generator function"),
        (lambda: None, "which cannot be called with the event alone"),
        (lambda event, more: None, "missing a required argument: 'more'"),
        (lambda *, event: None, "too many positional arguments"),
        (RunFailure, "which cannot be called with the event alone"),
    ],
)
def test_a_function_that_no_event_can_be_passed_to_is_refused(hook: Any, reason: str) -> None:
    with pytest.raises(InvalidArgumentError, match=f"`job`, on_failure: .* given, .*{reason}"):
        workflow(id="job", on_failure=hook)(print)


async def test_on_skipped_is_called_once_for_each_skip() -> None:
    calls: list[SkippedSlots] = []
    for_all: list[SkippedSlots] = []

    @workflow(
        id="report",
        schedule={"cron": "0 * * * *", "overlap": "skip", "skip": ["2026-03-02"]},
        on_skipped=calls.append,
    )
    async def report(ctx: Any, slot: SchedulePayload) -> None:
        if slot.timestamp == _utc(1, 13):
            await ctx.step.sleep("busy", timedelta(minutes=90))

    async with clock("2026-03-01T11:30+00:00", on_skipped=for_all.append) as t:
        (schedule,) = await schedules.list(t.client)
        await schedules.skip(t.client, schedule.id)
        await t.advance(hours=2)
        assert [(each.timestamp.hour, each.reason) for each in calls] == [
            (12, "skipped on request")
        ]
        await t.advance(hours=1)
        await t.advance(days=2)
    slots = [(each.timestamp, each.until, each.count) for each in calls[1:]]
    assert slots[0] == (_utc(1, 14), _utc(1, 14), 1)
    assert (slots[1][0], slots[-1][1]) == (_utc(2, 0), _utc(2, 23))
    assert sum(count for _, _, count in slots[1:]) == 24
    assert {(each.workflow_id, each.schedule_id, each.key) for each in calls} == {
        ("report", schedule.id, "global")
    }
    assert for_all == calls


def _utc(day: int, hour: int, minute: int = 0) -> datetime:
    return datetime(2026, 3, day, hour, minute, tzinfo=timezone.utc)


async def test_on_late_is_called_once_while_the_run_has_not_started(
    caplog: pytest.LogCaptureFixture,
) -> None:
    calls: list[LateRun] = []

    @workflow(
        id="report",
        schedule={"cron": "0 * * * *", "overlap": "buffer_all"},
        on_late=calls.append,
        late_after=timedelta(minutes=5),
    )
    async def report(ctx: Any) -> None:
        await ctx.step.sleep("busy", timedelta(minutes=70))

    async with clock("2026-03-01T11:30+00:00") as t:
        await t.advance(hours=1, minutes=34)
        assert calls == [], "the first run started in time, and the second is not late yet"
        await t.advance(minutes=2)
        (late,) = calls
        (waiting,) = await runs.list(t.client, status="queued")
        await t.advance(minutes=20)
    assert calls == [late]
    assert (late.workflow_id, late.run_id, late.key) == ("report", waiting.id, "global")
    assert (late.schedule_id, late.timestamp) == (waiting.schedule_id, _utc(1, 13))
    assert late.deadline == _utc(1, 13, 5)
    assert f"run {late.run_id} of workflow `report` (key `global`) was to start by" in caplog.text


async def test_a_run_that_is_created_too_late_is_late() -> None:
    calls: list[LateRun] = []

    @workflow(id="report", schedule=True)
    async def report() -> None:
        pass

    async with clock("2026-03-01T11:30+00:00", on_late=calls.append, late_after=300) as t:
        await schedules.create(t.client, workflow=report, at=_utc(1, 11, 28), key="in time")
        await schedules.create(t.client, workflow=report, at=_utc(1, 11, 20), key="late")
        await t.advance(minutes=1)
        assert len(await runs.list(t.client, status="succeeded")) == 2
    assert [(late.key, late.timestamp, late.deadline) for late in calls] == [
        ("late", _utc(1, 11, 20), _utc(1, 11, 25))
    ]


async def test_a_recorded_hook_that_raises_is_not_called_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    calls = 0

    def bad_hook(_: SkippedSlots) -> None:
        nonlocal calls
        calls += 1
        raise OSError("no route to the pager")

    @workflow(id="report", schedule="0 * * * *", on_skipped=bad_hook)
    async def report() -> None:
        pass

    async with clock("2026-03-01T11:30+00:00") as t:
        (schedule,) = await schedules.list(t.client)
        await schedules.skip(t.client, schedule.id)
        await t.advance(hours=3)
    assert calls == 1
    assert "on_skipped of workflow `report` failed" in caplog.text


async def test_a_worker_that_starts_later_calls_the_hook_of_a_skip(own_database: str) -> None:
    calls: asyncio.Queue[SkippedSlots] = asyncio.Queue()

    @workflow(id="report", schedule="0 0 1 1 *", on_skipped=calls.put)
    async def report() -> None:
        pass

    async with PolosClient(own_database) as client:
        async with Worker(client):
            (schedule,) = await schedules.list(client)
        await schedules.skip(client, schedule.id)
        async with Worker(client):
            skipped = await calls.get()
        async with Worker(client):
            pass
    assert (skipped.schedule_id, skipped.reason) == (schedule.id, "skipped on request")
    assert calls.empty()


def test_late_after_is_needed_and_checked() -> None:
    with pytest.raises(InvalidArgumentError, match="on_late: a function given without"):
        workflow(id="w", on_late=print)(lambda: None)
    with pytest.raises(InvalidArgumentError, match="late_after: `0` given, expected more than 0"):
        workflow(id="w", late_after=0)(lambda: None)
    with pytest.raises(InvalidArgumentError, match="late_after: `soon` given"):
        Worker(PolosClient("unused.db"), late_after="soon")  # type: ignore[arg-type]
