"""The input of a schedule is the payload of its runs, for handlers with their own payload type."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any, Literal

import pytest
from pydantic import BaseModel
from typing_extensions import TypedDict

import polos.testing
from polos import (
    InvalidScheduleError,
    PermanentError,
    PolosClient,
    Run,
    RunHandle,
    SchedulePayload,
    SyncWorkflowContext,
    Worker,
    WorkflowContext,
    runs,
    schedules,
    workflow,
)
from polos.workflow import isolated_registry

START = "2026-01-01T00:30+00:00"
HOURLY = "0 * * * *"


class Order(BaseModel):
    id: int
    note: str = ""


class OwnSlot(SchedulePayload):
    """The slot with an additional field."""

    @property
    def label(self) -> str:
        return f"{self.key} at {self.timestamp:%H:%M}"


@dataclass
class Point:
    x: int
    y: int = 0


class Amount(TypedDict):
    cents: int


# The handler's annotation, the given `input`, and what the handler gets.
TYPED: list[tuple[Any, Any, Any]] = [
    (Order, Order(id=4), Order(id=4)),
    (Order, {"id": 4, "note": "n"}, Order(id=4, note="n")),
    (Point, Point(1, 2), Point(1, 2)),
    (Point, {"x": 1}, Point(1)),
    (Amount, {"cents": 5}, {"cents": 5}),
    (dict[str, int], {"a": 1}, {"a": 1}),
    (dict, {"timestamp": 1}, {"timestamp": 1}),
    (list[Order], [{"id": 1}, Order(id=2)], [Order(id=1), Order(id=2)]),
    (int, 7, 7),
    (str, "text", "text"),
    (Literal["a", "b"], "b", "b"),
    (datetime, "2026-03-01T00:00:00+00:00", datetime(2026, 3, 1, tzinfo=timezone.utc)),
    (Order | None, Order(id=4), Order(id=4)),
    (Order | None, None, None),
]  # fmt: skip


def handler_for(hint: Any, received: list[Any]) -> Any:
    async def handler(ctx: WorkflowContext, payload: Any) -> None:
        received.append((payload, ctx.slot))

    handler.__annotations__["payload"] = hint
    return handler


async def ended(client: PolosClient, handle: RunHandle[Any]) -> Run:
    with suppress(PermanentError):
        await handle.result(60)
    return await runs.get(client, handle.id)


@pytest.mark.parametrize(("hint", "given", "expected"), TYPED, ids=str)
async def test_a_declared_input_is_the_payload(hint: Any, given: Any, expected: Any) -> None:
    received: list[Any] = []
    workflow(id="typed", schedule={"cron": HOURLY, "input": given})(handler_for(hint, received))
    async with polos.testing.clock(START) as t:
        await t.advance(hours=1)
        assert [run.status for run in await t.runs(workflow="typed")] == ["succeeded"]
    ((payload, slot),) = received
    assert payload == expected
    assert type(payload) is type(expected)
    assert slot.timestamp == datetime(2026, 1, 1, 1, tzinfo=timezone.utc)
    assert (slot.key, slot.upcoming - slot.timestamp) == ("global", timedelta(hours=1))


@pytest.mark.parametrize(("hint", "given", "expected"), TYPED, ids=str)
async def test_scheduled_and_invoked_runs_get_equal_payloads(
    client: PolosClient, hint: Any, given: Any, expected: Any
) -> None:
    received: list[Any] = []
    made: Any = workflow(id="typed", schedule=True)(handler_for(hint, received))
    id = await schedules.create(client, made, HOURLY, input=given)
    async with Worker(client, app="tests"):
        await made.run(client, given, timeout=60)
        await (await schedules.trigger(client, id)).result(60)
    (by_hand, no_slot), (scheduled, slot) = received
    assert by_hand == scheduled == expected
    assert type(by_hand) is type(scheduled)
    assert no_slot is None
    assert slot.schedule_id == id


@pytest.mark.parametrize(
    "hint",
    [
        SchedulePayload,
        SchedulePayload | None,
        Order | SchedulePayload,
        Any,
        object,
        "Unknown",
        None,
    ],
    ids=str,
)
async def test_the_slot_is_the_payload_where_it_may_be(hint: Any) -> None:
    received: list[Any] = []
    handler = handler_for(hint, received)
    if hint is None:
        del handler.__annotations__["payload"]
    workflow(id="slot", schedule={"cron": HOURLY, "input": {"id": 1}})(handler)
    async with polos.testing.clock(START) as t:
        await t.advance(hours=1)
    ((payload, slot),) = received
    assert isinstance(payload, SchedulePayload)
    assert payload == slot


async def test_a_class_derived_from_the_slot_gets_it() -> None:
    received: list[Any] = []
    workflow(id="own-slot", schedule=HOURLY)(handler_for(OwnSlot, received))
    async with polos.testing.clock(START) as t:
        await t.advance(hours=1)
    ((payload, _),) = received
    assert payload.label == "global at 01:00"


async def test_a_sync_handler_gets_it_too() -> None:
    received: list[Any] = []

    @workflow(schedule={"cron": HOURLY, "input": Order(id=4)})
    def sync(ctx: SyncWorkflowContext, order: Order) -> None:
        assert ctx.slot is not None
        received.append((order, ctx.slot.timestamp.hour))

    async with polos.testing.clock(START) as t:
        await t.advance(hours=1)
    assert received == [(Order(id=4), 1)]


async def test_a_run_that_is_resumed_or_retried_gets_the_same() -> None:
    received: list[Any] = []

    @workflow(schedule={"cron": HOURLY, "input": Order(id=4)}, retries=1)
    async def order(ctx: WorkflowContext, order: Order) -> None:
        received.append((order, ctx.slot))
        await ctx.step.sleep("pause", timedelta(days=1))
        if ctx.attempt == 1:
            raise OSError("again")

    async with polos.testing.clock(START) as t:
        await t.advance(hours=1)
        await t.crash()
        await t.restart()
        await t.advance(days=2)
        (first, *_) = await t.runs(workflow="order", status="succeeded")
        assert first.attempt == 2
    slots = {slot.timestamp for _, slot in received if slot is not None}
    of_first = [got for got in received if got[1].timestamp == min(slots)]
    assert len(of_first) >= 3
    assert all(got == (Order(id=4), of_first[0][1]) for got in of_first)


# --- what does not fit -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hint", "given", "message"),
    [
        (Order, None, r"takes `.*Order`, which its scheduled runs get .*`input=Order\(\.\.\.\)`"),
        (Order, {"note": "n"}, r"workflow `typed`: not a valid `.*Order`.*id"),
        (int, "many", "not a valid `int`"),
        (Literal["a"], "b", "not a valid"),
    ],
)
async def test_an_input_that_does_not_fit_is_refused(
    client: PolosClient, hint: Any, given: Any, message: str
) -> None:
    with pytest.raises(InvalidScheduleError, match=message), isolated_registry():
        workflow(id="typed", schedule={"cron": HOURLY, "input": given})(handler_for(hint, []))
    made: Any = workflow(id="typed", schedule=True)(handler_for(hint, []))
    fitting = {Order: Order(id=1), int: 1, Literal["a"]: "a"}[hint]
    id = await schedules.create(client, made, HOURLY, input=fitting)
    for workflow_or_id in (made, "typed"):
        with pytest.raises(InvalidScheduleError, match=message):
            await schedules.create(client, workflow_or_id, HOURLY, key="other", input=given)
    with pytest.raises(InvalidScheduleError, match=rf"schedules\[1\]: .*{message}"):
        await schedules.create_many(
            client,
            [
                {"workflow": "typed", "cron": HOURLY, "key": "a", "input": fitting},
                {"workflow": "typed", "cron": HOURLY, "key": "b", "input": given},
            ],
        )
    with pytest.raises(InvalidScheduleError, match=message):
        await schedules.update(client, id, input=given)
    assert [found.id for found in await schedules.list(client)] == [id]


async def test_a_type_that_is_defined_later_is_checked_later(
    client: PolosClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    workflow(id="later", schedule={"cron": HOURLY, "input": {}})(handler_for("DefinedLater", []))
    monkeypatch.setitem(globals(), "DefinedLater", Order)
    with pytest.raises(InvalidScheduleError, match=r"not a valid `.*Order`"):
        async with Worker(client, app="tests"):
            pass
    assert await schedules.list(client) == []


@pytest.mark.parametrize("given", [None, {"note": "n"}])
async def test_a_run_whose_input_does_not_fit_fails_at_once_and_names_the_schedule(
    client: PolosClient, given: Any
) -> None:
    """The program that created the schedule did not know the type."""
    with isolated_registry():
        workflow(id="typed", schedule=True)(handler_for(Any, []))
        id = await schedules.create(client, "typed", HOURLY, input=given)
    received: list[Any] = []
    workflow(id="typed", schedule=True, retries=5)(handler_for(Order, received))
    async with Worker(client, app="tests"):
        run = await ended(client, await schedules.trigger(client, id))
        assert (run.status, run.attempt, received) == ("failed", 1, [])
        assert run.error is not None
        assert (
            f"the input of schedule `{id}` is not a payload for its workflow" in run.error.message
        )
        assert "schedules.update(client, id, input=...)" in run.error.message
        await schedules.update(client, id, input=Order(id=5))
        run = await ended(client, await schedules.trigger(client, id))
        assert run.status == "succeeded"
    assert received[0][0] == Order(id=5)


async def test_a_triggered_run_gets_another_input_once(client: PolosClient) -> None:
    received: list[Any] = []
    workflow(id="typed", schedule=True)(handler_for(Order, received))
    id = await schedules.create(client, "typed", HOURLY, input=Order(id=1))
    async with Worker(client, app="tests"):
        for given in ({}, {"input": Order(id=2)}, {"input": {"id": 3}}, {}):
            run = await ended(client, await schedules.trigger(client, id, **given))
            assert run.status == "succeeded"
        for overlap in (None, "schedule"):
            handle = await schedules.trigger(client, id, input=Order(id=4), overlap=overlap)
            assert (await ended(client, handle)).status == "succeeded"
    assert [payload.id for payload, *_ in received] == [1, 2, 3, 1, 4, 4]
    assert (await schedules.get(client, id)).input == Order(id=1)


@pytest.mark.parametrize("given", [None, {"note": "n"}, 7])
async def test_an_input_that_does_not_fit_is_refused_at_the_trigger(
    client: PolosClient, given: Any
) -> None:
    workflow(id="typed", schedule=True)(handler_for(Order, []))
    id = await schedules.create(client, "typed", HOURLY, input=Order(id=1))
    with pytest.raises(InvalidScheduleError, match="`typed`"):
        await schedules.trigger(client, id, input=given)
    assert await runs.list(client) == []


async def test_without_a_type_any_input_or_none_is_passed_on(client: PolosClient) -> None:
    received: list[Any] = []

    @workflow(id="plain", schedule=True)
    async def plain(ctx: Any) -> None:
        received.append(ctx.input)

    id = await schedules.create(client, plain, HOURLY, input="usual")
    async with Worker(client, app="tests"):
        for given in ({}, {"input": "special"}, {"input": None}):
            await ended(client, await schedules.trigger(client, id, **given))
    assert received == ["usual", "special", None]


async def test_a_run_with_its_own_input_keeps_it_when_another_worker_continues_it(
    new_database: Any,
) -> None:
    """The schedule's input may have changed meanwhile."""
    received: list[Any] = []
    async with polos.testing.clock("2026-01-01T00:00+00:00") as t:

        @workflow(id="typed", schedule=True, retries=1)
        async def typed(ctx: WorkflowContext, order: Order) -> None:
            received.append(order.id)
            await ctx.step.sleep("night", timedelta(hours=8))

        id = await schedules.create(t.client, typed, "0 0 1 1 *", input=Order(id=1))
        handle = await schedules.trigger(t.client, id, input=Order(id=2))
        await t.advance(hours=1)
        await schedules.update(t.client, id, input=Order(id=3))
        await t.crash()
        await t.restart()
        await t.advance(hours=9)
        await handle.result()
    assert received == [2, 2]
