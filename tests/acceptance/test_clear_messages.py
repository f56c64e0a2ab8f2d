"""Invalid calls are refused where they are written; problems are logged at the right level."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import re
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from pydantic import BaseModel

import polos
import polos.testing
from polos import (
    InvalidArgumentError,
    InvalidScheduleError,
    PolosClient,
    SchedulePayload,
    Worker,
    WorkerError,
    WorkflowContext,
    limits,
    runs,
    schedules,
    workflow,
)
from polos.exceptions import PolosError

START = "2026-01-01T00:00+00:00"
HOUR = timedelta(hours=1)


# --- steps -----------------------------------------------------------------------------------


async def fetch(url: str) -> str:
    return url


def counts() -> Iterator[int]:
    yield 1


async def counts_async() -> Any:
    yield 1


@functools.wraps(counts)
def listed() -> list[int]:
    return list(counts())


MISTAKES = [
    (
        lambda: fetch("x"),
        "step `a`: a call of `fetch` was given, expected the function and its arg",
    ),
    (lambda: [].append(1), "step `a`: `None` (what a call returned?) given, expected a function"),
    (lambda: 5, "step `a`: `5` given, expected a function and its arguments: write `ctx.step.run("),
    (lambda: counts, "step `a`: `counts` is a generator function"),
    (lambda: counts_async, "step `a`: `counts_async` is a generator function"),
    (lambda: functools.partial(counts), "step `a`: `counts` is a generator function"),
]


@pytest.mark.parametrize(("make", "message"), MISTAKES)
@pytest.mark.parametrize("kind", ["async", "sync"])
async def test_what_is_no_step_function_is_refused_at_once(
    make: Any, message: str, kind: str
) -> None:
    errors: list[Exception] = []

    def note(error: Exception) -> None:
        errors.append(error)

    if kind == "async":

        @workflow(id="wrong")
        async def wrong(ctx: WorkflowContext) -> None:
            try:
                await ctx.step.run("a", make(), retries=5, backoff=HOUR)
            except InvalidArgumentError as error:
                note(error)
            assert await ctx.step.run("a", listed) == [1]
    else:

        @workflow(id="wrong")
        def wrong_sync(ctx: polos.SyncWorkflowContext) -> None:
            try:
                ctx.step.run("a", make(), retries=5, backoff=HOUR)
            except InvalidArgumentError as error:
                note(error)
            assert ctx.step.run("a", listed) == [1]

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        async with polos.testing.clock(START) as t:
            handle: Any = await runs.invoke(t.client, "wrong")
            assert await handle.result() is None
            assert [step.name for step in (await runs.get(t.client, handle.id)).steps] == ["a"]
    assert len(errors) == 1
    assert message in str(errors[0])


async def test_the_key_of_a_step_outside_of_one_says_where_it_is_for() -> None:
    @workflow
    async def outside(ctx: WorkflowContext) -> None:
        await ctx.step.run("a", fetch, ctx.step_key)

    async with polos.testing.clock(START) as t:
        handle = await outside.invoke(t.client)
        with pytest.raises(
            LookupError,
            match=r"read it inside the function that the step executes \(`def charge\(\)",
        ):
            await handle.result()


async def test_an_option_that_the_function_has_as_well_is_warned_of_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def get(url: str, timeout: float = 1, retries: int = 0) -> float:
        return timeout

    @workflow
    async def shadowed(ctx: WorkflowContext) -> list[float]:
        first = await ctx.step.run("get", get, "x", timeout=5)
        await ctx.step.run("again", get, "x", timeout=5)
        await ctx.step.run("other", fetch, "x", timeout=5)
        return [first, await ctx.step.run("both", functools.partial(get, "x", timeout=7))]

    async with polos.testing.clock(START) as t:
        assert await shadowed.run(t.client) == [1, 7]
    [warning] = [r.getMessage() for r in caplog.records if "is an option of" in r.getMessage()]
    assert warning.startswith(
        "step `get`: `timeout=` is an option of `ctx.step.run` and is not passed"
    )
    assert "functools.partial(get, timeout=...)" in warning


@pytest.mark.parametrize("delay", [timedelta.max, 1e300, float("nan"), "5", True])
async def test_an_invalid_delay_is_refused(delay: Any) -> None:
    @workflow
    async def sleeper(ctx: WorkflowContext) -> None:
        await ctx.step.sleep("long", delay)

    async with polos.testing.clock(START) as t:
        with pytest.raises(InvalidArgumentError, match=r"step `long`, delay: .* given, expected"):
            await sleeper.run(t.client)


async def test_durations_are_seconds_or_timedeltas() -> None:
    @workflow(schedule={"every": 3_600, "jitter": 0.0, "catch_up_window": 60})
    async def hourly(ctx: WorkflowContext) -> None:
        await ctx.step.sleep("a while", 60)
        await ctx.step.sleep("half", 0.5)
        await ctx.step.sleep("back", timedelta(seconds=-1))

    async with polos.testing.clock(START) as t:
        await t.advance(hours=2, minutes=2)
        assert len(await t.runs(workflow=hourly, status="succeeded")) == 2
        id = await schedules.create(t.client, hourly, every=1.5, key="dense")
        assert (await schedules.get(t.client, id)).every == timedelta(seconds=1.5)


async def test_the_name_of_a_child_is_a_keyword() -> None:
    @workflow
    async def child(ctx: WorkflowContext, payload: int) -> int:
        return payload

    calls: list[Any] = [("a", child, 5), ("a", child), (child, 5, "a"), (5,), (child.fn, 5)]
    errors = []

    @workflow
    async def parent(ctx: WorkflowContext) -> int:
        errors.clear()  # it is executed again when the child has ended
        for arguments in calls:
            try:
                await ctx.step.invoke(*arguments)
            except InvalidArgumentError as error:
                errors.append(str(error))
        return await ctx.step.invoke(child, 5, name="a")

    async with polos.testing.clock(START) as t:
        assert await parent.run(t.client) == 5
    assert len(errors) == len(calls)
    for text in errors[:3]:
        assert "`ctx.step.invoke(wf, payload, name=...)`" in text
    for text in errors[3:]:
        assert "expected a function decorated with `@workflow`, or the id of one" in text


# --- payloads --------------------------------------------------------------------------------


class Order(BaseModel):
    id: int


def handler_for(hint: Any) -> Any:
    async def handler(ctx: WorkflowContext, payload: Any) -> None: ...

    handler.__annotations__["payload"] = hint
    return handler


@pytest.mark.parametrize(
    ("hint", "payload", "message"),
    [
        (Order, None, "takes a payload, `.*Order`, and none was given; pass one"),
        (int, None, "takes a payload, `int`, and none was given"),
        (SchedulePayload, None, r"and none was given; .*`schedules\.trigger\(client, id\)`"),
    ],
)
async def test_a_missing_payload_is_refused(
    client: PolosClient, hint: Any, payload: Any, message: str
) -> None:
    made: Any = workflow(id="needy")(handler_for(hint))
    for start in (made.invoke, made.run):
        with pytest.raises(InvalidArgumentError, match=message):
            await start(client)
    with pytest.raises(InvalidArgumentError, match=message):
        await runs.invoke(client, "needy")
    assert await runs.list(client) == []


@pytest.mark.parametrize("hint", [Order | None, Any, object, None, "Unknown"])
async def test_none_is_a_payload_where_it_may_be(client: PolosClient, hint: Any) -> None:
    made: Any = workflow(id="modest")(handler_for(hint))
    await made.invoke(client)


async def test_a_payload_that_nothing_takes_is_refused(client: PolosClient) -> None:
    @workflow
    async def alone() -> None: ...

    @workflow
    async def with_context(ctx: WorkflowContext) -> None: ...

    for made in (alone, with_context):
        with pytest.raises(InvalidArgumentError, match="takes no payload, and one of type `int`"):
            await runs.invoke(client, made, 5)


# --- schedules -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["key", "timezone", "overlap", "catch_up", "max_catch_up", "catch_up_window", "jitter"],
)
async def test_none_is_refused_where_the_type_excludes_it(client: PolosClient, name: str) -> None:
    @workflow(schedule=True)
    async def job() -> None: ...

    options: dict[str, Any] = {"cron": "0 9 * * *", name: None}
    with pytest.raises(InvalidScheduleError) as one:
        await schedules.create(client, job, **options)
    with pytest.raises(InvalidScheduleError) as many:
        await schedules.create_many(client, [{"workflow": job, **options}])
    assert str(many.value) == f"schedules[0]: {one.value}"
    assert "`None`" in str(one.value)
    assert await schedules.list(client) == []
    nothing = dict.fromkeys(("every", "at", "start_at", "end_at", "max_runs", "skip", "input"))
    await schedules.create(client, job, "0 9 * * *", **nothing)


@pytest.mark.parametrize("zone", ["Asia/Tokyo", "America/New_York", "UTC"])
def test_slots_end_with_the_year_9999(zone: str) -> None:
    after = datetime(9999, 12, 31, 1, tzinfo=timezone.utc)
    found = schedules.preview("0 * * * *", zone, 100, after)
    assert found
    assert all(slot.year == 9999 for slot in found)
    assert schedules.explain("0 * * * *", zone, 100, after).upcoming == tuple(found)


# --- workers and clients ---------------------------------------------------------------------


def test_a_worker_takes_workflows_and_no_ids(client: PolosClient) -> None:
    @workflow(id="known")
    async def job() -> None: ...

    for given, message in (
        (
            ["known"],
            "`known` given, expected a function decorated.*decorated function `job` itself",
        ),
        (["unknown"], "`unknown` given, expected a function decorated with"),
        ("known", "`known` given, expected a list of workflows"),
        (job, "given, expected a list of workflows"),
        ([job.fn], "given, expected a function decorated with"),
        (5, "`5` given, expected a list of workflows"),
    ):
        with pytest.raises(InvalidArgumentError, match=f"workflows: .*{message}"):
            Worker(client, workflows=given)  # type: ignore[arg-type]


async def test_run_inside_a_loop_says_what_to_write(client: PolosClient) -> None:
    @workflow
    async def job() -> None: ...

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(WorkerError, match=r"`await Worker\(client\)\.run\(\)` instead"):
            polos.run(client)


def test_run_without_workflows_says_so(client: PolosClient) -> None:
    with pytest.raises(WorkerError, match="no workflow is registered in this process"):
        polos.run(client)


async def test_clients_and_workers_close_in_every_way(database: Any) -> None:
    client = PolosClient(database)
    await schedules.list(client)
    async with contextlib.aclosing(Worker(client, app="tests")) as worker:
        await worker.start()
        assert worker.is_running
    assert not worker.is_running
    await client.close()
    await client.close()
    with pytest.raises(PolosError):
        await schedules.list(client)


async def test_a_worker_says_what_it_works_on(
    client: PolosClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    @workflow(id="one")
    async def one() -> None: ...

    @workflow(id="two")
    async def two() -> None: ...

    async with Worker(client, app="shop"):
        pass
    [line] = [r for r in caplog.records if "started" in r.getMessage()]
    assert (line.levelname, line.name) == ("INFO", "polos.worker")
    assert line.getMessage() == (
        f"worker of `shop` started: database `{client.database}`, project `default`, 2 workflows: "
        f"`one`, `two`"
    )


async def test_a_failed_attempt_is_a_warning_and_the_last_one_an_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    @workflow(retries=2)
    async def failing() -> None:
        raise ValueError("no")

    async with polos.testing.clock(START) as t:
        await failing.invoke(t.client)
        await t.advance(hours=1)
    output = [(r.levelname, r.getMessage()) for r in caplog.records if "attempt" in r.getMessage()]
    assert [level for level, _ in output] == ["WARNING", "WARNING", "ERROR"]
    assert output[0][1].endswith("failed in attempt 1 of 3; it will be retried")
    assert output[2][1].endswith("failed in attempt 3")


@pytest.mark.parametrize("how", ["restart", "suspension"])
async def test_missed_slots_are_a_warning(caplog: pytest.LogCaptureFixture, how: str) -> None:
    @workflow(schedule={"every": HOUR, "catch_up": "none"})
    async def hourly() -> None: ...

    async with polos.testing.clock(START) as t:
        await t.advance(hours=1)
        if how == "restart":
            await t.stop()
            await t.advance(hours=10)
            await t.restart()
        else:
            await t.set_to(t.now + timedelta(hours=10))
    output = [r for r in caplog.records if " missed (" in r.getMessage()]
    assert output
    assert {record.levelname for record in output} == {"WARNING"}


def test_nothing_is_deprecated_in_the_newest_python() -> None:
    program = """
        import asyncio, warnings
        warnings.simplefilter("error")
        import polos, polos.testing
        from polos import WorkflowContext, workflow

        async def fetch():
            return 1

        async def alert(failure): ...

        @workflow(on_failure=alert)
        async def job(ctx: WorkflowContext):
            return await ctx.step.run("a", fetch)

        async def main():
            async with polos.testing.clock("2026-01-01T00:00+00:00") as t:
                print(await job.run(t.client))

        # What Python 3.14 does: a warning, which applications may have made an error.
        def deprecated(fn):
            raise DeprecationWarning("asyncio.iscoroutinefunction")

        asyncio.iscoroutinefunction = deprecated
        asyncio.run(main())
    """
    import textwrap

    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.stdout, done.stderr) == ("1\n", "")


class LogWaiter(logging.Handler):
    """Sets an event when a record with a given text is logged."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text
        self.messages: list[str] = []
        self.event = asyncio.Event()

    def emit(self, record: logging.LogRecord) -> None:
        if self.text in record.getMessage():
            self.messages.append(record.getMessage())
            self.event.set()


async def test_waiting_for_a_run_without_a_worker_is_warned_of(
    client: PolosClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("polos._runtime.waiting_notice._SECONDS", 0.0)
    heard = LogWaiter("is awaited, but no live worker has registered that workflow")
    logging.getLogger("polos.run").addHandler(heard)
    try:

        @workflow(id="abandoned")
        async def abandoned() -> int:
            return 5

        waiting = asyncio.ensure_future(abandoned.run(client))
        await asyncio.wait_for(heard.event.wait(), 60)
        async with Worker(client):
            assert await waiting == 5
            assert await abandoned.run(client) == 5
        assert len(heard.messages) == 1
        assert "workflow `abandoned`" in heard.messages[0]
    finally:
        logging.getLogger("polos.run").removeHandler(heard)


def test_an_abbreviation_that_is_a_zone_without_daylight_saving_is_no_suggestion() -> None:
    for given, place in (("est", "America/New_York"), ("Mst", "America/Denver")):
        with pytest.raises(polos.InvalidTimezoneError, match=f"name a place: `{place}`"):
            schedules.preview("0 9 * * *", given)


# --- clients ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call",
    [
        lambda: runs.sync.invoke("polos.db", "report"),  # type: ignore[arg-type]
        lambda: runs.sync.send(None, "run_1", "approval"),  # type: ignore[arg-type]
        lambda: runs.handle("run_1", "run_1"),  # type: ignore[arg-type]
        lambda: limits.sync.list(7),  # type: ignore[arg-type]
        lambda: schedules.sync.get("report", "sch_1"),  # type: ignore[arg-type]
    ],
)
def test_what_is_no_client_is_named_without_an_example_of_something_else(
    call: Callable[[], object],
) -> None:
    with pytest.raises(InvalidArgumentError) as refused:
        call()
    message = str(refused.value)
    assert re.match(r"client: `.*` given, expected a `PolosClient` as the first argument", message)
    assert "`PolosClient(...)` makes one" in message
    assert "schedules.create" not in message
