"""Kinds of handlers, their payloads and results, and their context."""

from __future__ import annotations

import asyncio
import functools
import gc
import logging
import threading
import weakref
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any, TypedDict
from uuid import UUID

import pytest
from pydantic import BaseModel

import polos.testing
from polos import (
    InvalidArgumentError,
    PolosClient,
    RunCancelledError,
    RunFailedError,
    RunHandle,
    RunTimeoutError,
    SchedulePayload,
    SyncWorkflowContext,
    Worker,
    Workflow,
    WorkflowContext,
    runs,
    schedules,
    workflow,
)
from polos._core.requests import Request
from polos._runtime.active_run import ActiveRun
from polos._runtime.run_requests import RunRequests


class Order(BaseModel):
    number: int
    total: Decimal = Decimal("0")


@dataclass
class Point:
    x: int
    y: int = 0


class Address(TypedDict):
    city: str


def worker(client: PolosClient, **options: Any) -> Worker:
    return Worker(client, app="tests", **options)


# --- shapes ----------------------------------------------------------------------------------


async def test_a_handler_takes_nothing_the_context_or_the_payload_too(client: PolosClient) -> None:
    @workflow
    async def nothing() -> str:
        return "nothing"

    @workflow
    async def context(ctx: WorkflowContext) -> str:
        return ctx.workflow_id

    @workflow
    async def both(ctx: WorkflowContext, payload: dict[str, int]) -> str:
        return f"{ctx.workflow_id} {payload['n']}"

    async with worker(client):
        assert await nothing.run(client) == "nothing"
        assert await context.run(client) == "context"
        assert await both.run(client, {"n": 1}) == "both 1"


async def test_sync_handlers_of_every_arity_run_in_a_thread(client: PolosClient) -> None:
    @workflow
    def nothing() -> str:
        return threading.current_thread().name

    @workflow
    def context(ctx: SyncWorkflowContext) -> str:
        return threading.current_thread().name

    @workflow
    def both(ctx: SyncWorkflowContext, payload: int) -> list[Any]:
        return [threading.current_thread().name, payload]

    async with worker(client):
        here = threading.current_thread().name
        assert await nothing.run(client) != here
        assert await context.run(client) != here
        assert (await both.run(client, 7))[1] == 7


async def test_bare_and_with_options_give_the_functions_name_as_id() -> None:
    @workflow
    async def bare() -> None: ...

    @workflow()
    async def called() -> None: ...

    assert isinstance(bare, Workflow)
    assert (bare.id, bare.schedule, called.id) == ("bare", None, "called")


async def test_a_workflow_is_still_the_plain_function() -> None:
    @workflow(id="adder")
    async def add(ctx: Any, payload: int) -> int:
        """Adds one."""
        return payload + 1

    @workflow
    def double(ctx: Any, payload: int) -> int:
        return payload * 2

    assert await add(None, 1) == 2
    assert await add(ctx=None, payload=2) == 3
    assert double(None, 2) == 4
    assert (add.__name__, add.__doc__) == ("add", "Adds one.")


async def test_partials_bound_methods_and_callable_objects_are_handlers(
    client: PolosClient,
) -> None:
    async def greet(greeting: str, ctx: WorkflowContext, payload: str) -> str:
        return f"{greeting} {payload}"

    class Greeter:
        async def greet(self, ctx: WorkflowContext, payload: str) -> str:
            return f"bound {payload}"

        async def __call__(self, ctx: WorkflowContext, payload: str) -> str:
            return f"called {payload}"

    made = [
        workflow(id="partial")(functools.partial(greet, "partial")),
        workflow(id="bound")(Greeter().greet),
        workflow(id="called")(Greeter()),
    ]
    async with worker(client):
        assert [await w.run(client, "Ada") for w in made] == [
            "partial Ada", "bound Ada", "called Ada",
        ]  # fmt: skip


# --- payloads --------------------------------------------------------------------------------


async def test_payloads_arrive_as_what_the_handler_is_annotated_with(client: PolosClient) -> None:
    @workflow
    async def of_model(ctx: WorkflowContext, payload: Order) -> str:
        return repr(payload)

    @workflow
    async def of_dataclass(ctx: WorkflowContext, payload: Point) -> str:
        return repr(payload)

    @workflow
    async def of_typed_dict(ctx: WorkflowContext, payload: Address) -> str:
        return repr(payload)

    @workflow
    async def of_optional(ctx: WorkflowContext, payload: Order | None) -> str:
        return repr(payload)

    @workflow
    async def of_datetime(ctx: WorkflowContext, payload: datetime) -> str:
        return repr(payload)

    @workflow
    async def of_list(ctx: WorkflowContext, payload: list[Order]) -> str:
        return repr(payload)

    @workflow
    async def unannotated(ctx, payload):  # type: ignore[no-untyped-def]
        return repr(payload)

    when = datetime(2026, 1, 2, tzinfo=timezone.utc)
    order = Order(number=1, total=Decimal("2.50"))
    async with worker(client):
        assert await of_model.run(client, order) == repr(order)
        assert await of_model.run(client, {"number": 1, "total": "2.50"}) == repr(order)
        assert await of_dataclass.run(client, Point(1, 2)) == "Point(x=1, y=2)"
        assert await of_dataclass.run(client, {"x": 3}) == "Point(x=3, y=0)"
        assert await of_typed_dict.run(client, {"city": "Oslo"}) == "{'city': 'Oslo'}"
        assert await of_optional.run(client, None) == "None"
        assert await of_optional.run(client) == "None"
        assert await of_optional.run(client, order) == repr(order)
        assert await of_datetime.run(client, when) == repr(when)
        assert await of_list.run(client, [order]) == repr([order])
        assert await unannotated.run(client, {"a": [1]}) == "{'a': [1]}"
        assert await unannotated.run(client, order) == repr(order)
        assert await unannotated.run(client) == "None"


async def test_a_payload_that_doesnt_fit_is_refused_before_anything_is_written(
    client: PolosClient,
) -> None:
    @workflow
    async def ship(ctx: WorkflowContext, payload: Order) -> None: ...

    with pytest.raises(InvalidArgumentError, match=r"payload of workflow `ship`.*number"):
        await ship.invoke(client, {"total": 1})  # type: ignore[arg-type]
    assert await runs.list(client) == []


@pytest.mark.parametrize("annotation", ["SchedulePayload", "SchedulePayload | None", "Any"])
async def test_a_scheduled_handler_may_annotate_its_slot_in_several_ways(annotation: str) -> None:
    seen: list[Any] = []
    namespace: dict[str, Any] = {"seen": seen, "SchedulePayload": SchedulePayload, "Any": Any}
    exec(f"async def handler(ctx, payload: {annotation!r}): seen.append(payload)", namespace)
    workflow(id="annotated", schedule="0 9 * * *")(namespace["handler"])

    async with polos.testing.clock("2026-01-01T00:00+00:00") as t:
        await t.advance(days=1)

    (payload,) = seen
    assert isinstance(payload, SchedulePayload)
    assert payload.key == "global"


async def test_a_name_that_only_type_checkers_import_hides_nothing() -> None:
    seen: list[Any] = []

    @workflow(schedule="0 9 * * *")
    async def handler(ctx: NeverImported, payload: AlsoNever) -> AnotherOne:  # type: ignore[name-defined] # noqa: F821
        seen.append(payload)

    async with polos.testing.clock("2026-01-01T00:00+00:00") as t:
        await t.advance(days=1)
    assert isinstance(seen[0], SchedulePayload)


# --- results ---------------------------------------------------------------------------------


async def test_results_are_typed(client: PolosClient) -> None:
    @workflow
    async def order(ctx: WorkflowContext) -> Order:
        return Order(number=3)

    @workflow
    async def untyped():  # type: ignore[no-untyped-def]
        return {"point": Point(1), "pair": (1, 2), "when": timedelta(seconds=1)}

    @workflow
    async def falsy() -> list[Any]:
        return [0, "", [], False, None]

    async with worker(client):
        assert await order.run(client) == Order(number=3)
        handle = await order.invoke(client)
        assert await handle.result() == Order(number=3)
        assert (await runs.get(client, handle.id)).result == Order(number=3)
        assert await untyped.run(client) == {
            "point": Point(1),
            "pair": (1, 2),
            "when": timedelta(seconds=1),
        }
        assert await falsy.run(client) == [0, "", [], False, None]


class OutOfStockError(Exception):
    def __init__(self, item: str, *, left: int) -> None:
        super().__init__(f"{item} is out of stock")
        self.item = item
        self.left = left


async def test_result_raises_the_exception_that_the_run_failed_with(client: PolosClient) -> None:
    @workflow
    async def ship() -> None:
        try:
            raise KeyError("shelf")
        except KeyError as error:
            raise OutOfStockError("pen", left=0) from error

    async with worker(client):
        with pytest.raises(OutOfStockError, match="pen is out of stock") as caught:
            await ship.run(client)
    assert (caught.value.item, caught.value.left) == ("pen", 0)
    assert isinstance(caught.value.__cause__, RunFailedError | KeyError)


async def test_result_waits_no_longer_than_requested_and_the_run_continues(
    client: PolosClient,
) -> None:
    proceed = asyncio.Event()

    @workflow
    async def slow() -> str:
        await proceed.wait()
        return "done"

    async with worker(client):
        handle = await slow.invoke(client)
        with pytest.raises(RunTimeoutError, match=handle.id):
            await handle.result(timeout=0.01)
        with pytest.raises(TimeoutError):
            await handle.result(timeout=timedelta(milliseconds=1))
        proceed.set()
        assert await handle.result() == "done"
        assert await handle.status() == "succeeded"


async def test_status_follows_the_run(client: PolosClient, eventually: Any) -> None:
    entered, proceed = asyncio.Event(), asyncio.Event()

    @workflow
    async def watched() -> None:
        entered.set()
        await proceed.wait()

    handle = await watched.invoke(client)
    assert await handle.status() == "queued"
    async with worker(client):
        await entered.wait()
        assert await handle.status() == "running"
        proceed.set()
        await handle.result()
    assert await handle.status() == "succeeded"
    with pytest.raises(LookupError):
        await RunHandle(client, "run_nobody_has_this").status()


async def test_a_cancelled_handler_gets_cancelled_error_and_its_cleanup_takes_no_steps(
    client: PolosClient,
) -> None:
    entered = asyncio.Event()
    cleanup: list[str] = []

    @workflow
    async def endless(ctx: WorkflowContext) -> None:
        entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            cleanup.append("begun")
            await ctx.step.run("cleanup", cleanup.append, "step")

    async with worker(client):
        handle = await endless.invoke(client)
        await entered.wait()
        await handle.cancel()
        with pytest.raises(RunCancelledError, match=handle.id):
            await handle.result()
        assert await handle.status() == "cancelled"
        assert await handle.cancel() == "cancelled"
    assert cleanup == ["begun"]
    assert (await runs.get(client, handle.id)).steps == ()


async def test_a_run_that_nobody_has_started_is_cancelled_at_once(client: PolosClient) -> None:
    @workflow
    async def queued() -> None: ...

    handle = await queued.invoke(client)
    assert await handle.cancel() == "cancelled"
    with pytest.raises(RunCancelledError):
        await handle.result()


async def test_an_idempotency_key_gives_the_first_run(client: PolosClient) -> None:
    calls: list[int] = []

    @workflow
    async def charge(ctx: WorkflowContext, payload: int) -> int:
        calls.append(payload)
        return payload

    async with worker(client):
        first = await charge.invoke(client, 1, idempotency_key="order-1")
        again = await charge.invoke(client, 2, idempotency_key="order-1")
        other = await charge.invoke(client, 3, idempotency_key="order-2")
        assert again.id == first.id != other.id
        assert [await h.result() for h in (first, again, other)] == [1, 1, 3]
        late = await charge.invoke(client, 4, idempotency_key="order-1")
        assert await late.result() == 1
    assert sorted(calls) == [1, 3]


# --- sync handlers ---------------------------------------------------------------------------

request: ContextVar[str] = ContextVar("request", default="none")


async def test_context_variables_reach_sync_handlers_and_sync_steps(client: PolosClient) -> None:
    @workflow
    def sync_handler(ctx: SyncWorkflowContext) -> list[str]:
        seen = [request.get()]
        request.set("sync")
        return [*seen, ctx.step.run("step", request.get), ctx.step.run("async", get_request)]

    @workflow
    async def async_handler(ctx: WorkflowContext) -> list[str]:
        seen = [request.get()]
        request.set("async")
        return [*seen, await ctx.step.run("step", request.get)]

    async def get_request() -> str:
        return request.get()

    request.set("outer")
    async with worker(client):
        assert await sync_handler.run(client) == ["outer", "sync", "sync"]
        assert await async_handler.run(client) == ["outer", "async"]
    assert request.get() == "outer"


async def test_the_steps_of_a_sync_handler_block_it_and_are_recorded(client: PolosClient) -> None:
    @workflow
    def blocking(ctx: SyncWorkflowContext, payload: Order) -> dict[str, Any]:
        ctx.step.sleep("nap", timedelta(milliseconds=1))
        ctx.step.sleep_until("past", datetime(2020, 1, 1, tzinfo=timezone.utc))
        return {
            "fetched": ctx.step.run("fetch", lambda n: Order(number=n), payload.number + 1),
            "now": ctx.step.now("now"),
            "uuid": ctx.step.uuid("uuid"),
            "random": ctx.step.random("random"),
        }

    async with worker(client):
        handle = await blocking.invoke(client, Order(number=1))
        result = await handle.result()
    run = await runs.get(client, handle.id)
    assert result["fetched"] == Order(number=2)
    assert isinstance(result["uuid"], UUID)
    assert 0 <= result["random"] < 1
    assert [step.name for step in run.steps] == ["nap", "past", "fetch", "now", "uuid", "random"]
    assert {step.status for step in run.steps} == {"succeeded"}


async def test_a_sync_handler_that_fills_the_threads_still_gets_its_steps_executed(
    client: PolosClient,
) -> None:
    @workflow
    def square(ctx: SyncWorkflowContext, payload: int) -> int:
        return ctx.step.run("square", lambda: payload * payload)

    async with worker(client, threads=1):
        assert await square.run(client, 12, timeout=30) == 144


async def test_a_hundred_sync_handlers_share_the_threads(client: PolosClient) -> None:
    @workflow
    def square(ctx: SyncWorkflowContext, payload: int) -> int:
        return ctx.step.run("square", lambda: payload * payload)

    async with worker(client, threads=4):
        handles = [await square.invoke(client, n) for n in range(100)]
        assert [await handle.result(30) for handle in handles] == [n * n for n in range(100)]


# --- the context -----------------------------------------------------------------------------


async def test_the_context_describes_the_run() -> None:
    seen: dict[str, Any] = {}

    @workflow(id="describe", schedule=True)
    async def describe(ctx: WorkflowContext, payload: SchedulePayload) -> None:
        seen.update(
            run_id=ctx.run_id,
            workflow_id=ctx.workflow_id,
            schedule_id=ctx.schedule_id,
            key=ctx.key,
            attempt=ctx.attempt,
            input=ctx.input,
        )

    async with polos.testing.clock("2026-01-01T00:00+00:00") as t:
        data = {"limit": Decimal("1.5"), "tags": ["a"]}
        schedule = await schedules.create(t.client, describe, "0 9 * * *", key="ada", input=data)
        await t.advance(days=1)
        (run,) = await t.runs()

    assert seen == {
        "run_id": run.id,
        "workflow_id": "describe",
        "schedule_id": schedule,
        "key": "ada",
        "attempt": 1,
        "input": data,
    }


async def test_an_invoked_run_has_no_schedule(client: PolosClient) -> None:
    @workflow
    async def invoked(ctx: WorkflowContext) -> list[Any]:
        return [ctx.schedule_id, ctx.key, ctx.input, ctx.last_result]

    async with worker(client):
        assert await invoked.run(client) == [None, "global", None, None]


async def test_step_key_is_the_same_in_every_attempt_and_only_inside_of_steps(
    client: PolosClient,
) -> None:
    keys: list[str] = []

    @workflow
    async def charging(ctx: WorkflowContext) -> None:
        def charge() -> None:
            keys.append(ctx.step_key)
            if len(keys) < 3:
                raise ConnectionError

        with pytest.raises(LookupError, match="step"):
            _ = ctx.step_key
        await ctx.step.run("charge", charge, retries=5, backoff=0)
        with pytest.raises(LookupError, match="step"):
            _ = ctx.step_key

    async with worker(client):
        handle = await charging.invoke(client)
        await handle.result()
    assert keys == [f"{handle.id}:charge"] * 3


async def test_last_result_is_that_of_the_schedules_previous_finished_run() -> None:
    seen: list[Any] = []

    @workflow(id="counting", schedule=True)
    async def counting(ctx: WorkflowContext, payload: SchedulePayload) -> int:
        seen.append((ctx.key, ctx.last_result))
        return (ctx.last_result or 0) + 1

    async with polos.testing.clock("2026-01-01T00:30+00:00") as t:
        await schedules.create(t.client, counting, "0 * * * *", key="a")
        await t.advance(hours=2)
        await schedules.create(t.client, counting, "0 * * * *", key="b")
        await t.advance(hours=1)

    assert seen[:2] == [("a", None), ("a", 1)]
    assert sorted(seen[2:], key=str) == [("a", 2), ("b", None)]


async def test_log_records_carry_the_run(
    client: PolosClient, caplog: pytest.LogCaptureFixture
) -> None:
    @workflow
    async def logging_handler(ctx: WorkflowContext) -> str:
        ctx.log.info("hello %s", "there", extra={"order": 7})
        return ctx.run_id

    caplog.set_level(logging.INFO)
    async with worker(client):
        run_id = await logging_handler.run(client)
    (record,) = [record for record in caplog.records if record.getMessage() == "hello there"]
    details = vars(record)
    assert (details["run_id"], details["workflow"], details["key"], details["order"]) == (
        run_id, "logging_handler", "global", 7,
    )  # fmt: skip


async def test_last_result_is_read_from_the_database_once(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    asked: list[str] = []
    read = RunRequests.read

    def counted(run: RunRequests, request: Request[Any]) -> Any:
        asked.append(request.op)
        return read(run, request)

    monkeypatch.setattr(RunRequests, "read", counted)

    @workflow(id="counting", schedule="0 * * * *")
    async def counting(ctx: WorkflowContext) -> int:
        seen.append((ctx.last_result, ctx.last_result))
        return len(seen)

    async with polos.testing.clock("2026-01-01T00:30+00:00") as t:
        await t.advance(hours=2)
    assert seen == [(None, None), (1, 1)]
    assert asked.count("previous_result") == 2


async def test_nothing_is_logged_about_a_handler_that_ends_when_it_is_cancelled(
    caplog: pytest.LogCaptureFixture,
) -> None:
    @workflow
    async def obedient(ctx: WorkflowContext) -> None:
        await ctx.step.gather(ctx.step.sleep("a", 3_600), ctx.step.sleep("b", 3_600))

    async with polos.testing.clock("2026-01-01T00:30+00:00") as t:
        handle = await obedient.invoke(t.client)
        await t.advance(seconds=1)
        await handle.cancel()
        await t.advance(minutes=1)
        assert await handle.status() == "cancelled"
    assert "ignores its cancellation" not in caplog.text


async def test_a_run_that_cannot_be_started_affects_no_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The application's task factory may raise."""
    entered: list[str] = []

    @workflow
    async def job(ctx: WorkflowContext) -> None:
        entered.append(ctx.run_id)

    refused: list[str] = []

    def refuse_one(loop: Any, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
        if coroutine.__name__ == "execute" and not refused:
            refused.append("once")
            raise RuntimeError("no more tasks")
        return asyncio.Task(coroutine, loop=loop, **options)

    async with polos.testing.clock("2026-01-01T00:30+00:00") as t:
        await t.stop()
        handles = [await job.invoke(t.client) for _ in range(4)]
        asyncio.get_running_loop().set_task_factory(refuse_one)
        await t.restart()
        await t.advance(seconds=1)
        later = await job.invoke(t.client)
        await t.advance(seconds=1)
        statuses = [await handle.status() for handle in (*handles, later)]
    assert sorted(statuses) == ["running", *["succeeded"] * 4]
    assert len(entered) == 4
    assert "could not be started" in caplog.text


async def test_a_run_that_has_ended_is_freed_without_the_garbage_collector(
    client: PolosClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[weakref.ref[ActiveRun]] = []
    begin = ActiveRun.__init__

    def noted(active: ActiveRun, *args: Any) -> None:
        begin(active, *args)
        begun.append(weakref.ref(active))

    @workflow
    async def stepwise(ctx: WorkflowContext) -> int:
        async def five() -> int:
            return 5

        return await ctx.step.run("five", five)

    @workflow
    def in_a_thread(ctx: SyncWorkflowContext) -> int:
        return ctx.step.run("six", lambda: 6)

    monkeypatch.setattr(ActiveRun, "__init__", noted)
    gc.disable()
    try:
        async with worker(client):
            assert (await stepwise.run(client), await in_a_thread.run(client)) == (5, 6)
        assert [active() for active in begun] == [None, None]
    finally:
        gc.enable()
