"""Runs with a delay or a key, many at once, and from the command line; their handles."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

import polos.testing
from polos import (
    Invocation,
    PolosClient,
    RunHandle,
    SyncWorkflowContext,
    Worker,
    WorkflowContext,
    runs,
    workflow,
)
from polos.workflow import isolated_registry

Command = Callable[..., Any]


class Order(BaseModel):
    id: int


SECOND = timedelta(seconds=1)
START = "2026-03-01T12:00Z"


# --- delay, at, key --------------------------------------------------------------------------


async def test_a_delayed_run_starts_when_it_is_due_and_not_before() -> None:
    @workflow(id="remind")
    async def remind(ctx: WorkflowContext, who: str) -> str:
        return f"{ctx.key}: {who}"

    async with polos.testing.clock(START, workflows=[remind]) as t:
        now = t.now
        handle = await remind.invoke(t.client, "Ada", delay=timedelta(minutes=5), key="u7")
        later = await remind.invoke(t.client, "Bob", at=now + timedelta(hours=2))
        past = await remind.invoke(t.client, "Eve", at=now - timedelta(hours=2))
        await t.advance(minutes=4, seconds=59)
        waiting = await runs.get(t.client, handle.id)
        assert (waiting.status, waiting.due_at) == ("queued", now + timedelta(minutes=5))
        assert await past.status() == "succeeded"
        await t.advance(seconds=1)
        run = await runs.get(t.client, handle.id)
        assert (run.status, run.result, run.key) == ("succeeded", "u7: Ada", "u7")
        assert (run.started_at, run.due_at) == (now + timedelta(minutes=5), None)
        assert [found.id for found in await runs.list(t.client, key="u7")] == [handle.id]
        await t.advance(hours=2)
        assert (await runs.get(t.client, later.id)).started_at == now + timedelta(hours=2)


async def test_a_delayed_run_survives_a_restart_and_can_be_cancelled() -> None:
    @workflow(id="remind")
    async def remind() -> None: ...

    async with polos.testing.clock(START, workflows=[remind]) as t:
        kept = await remind.invoke(t.client, delay=60)
        cancelled = await remind.invoke(t.client, delay=60)
        await cancelled.cancel()
        await t.crash()
        await t.advance(minutes=5)
        await t.restart()
        await t.advance(seconds=1)
        assert await kept.status() == "succeeded"
        assert await cancelled.status() == "cancelled"


async def test_a_delayed_run_starts_in_another_process_than_the_callers(
    database: Path | str,
) -> None:
    @workflow(id="soon")
    async def soon(ctx: WorkflowContext, number: int) -> int:
        return number + 1

    async with PolosClient(database) as caller, PolosClient(database) as client, Worker(client):
        begun = datetime.now(timezone.utc)
        handle = await soon.invoke(caller, 1, delay=0.2)
        assert await asyncio.wait_for(handle, 30) == 2
        run = await runs.get(caller, handle.id)
        assert run.started_at is not None
        assert run.started_at >= begun + timedelta(seconds=0.2)


async def test_an_idempotency_key_keeps_the_first_start(client: PolosClient) -> None:
    @workflow(id="remind")
    async def remind() -> None: ...

    first = await remind.invoke(client, delay=3_600, idempotency_key="once")
    due = (await runs.get(client, first.id)).due_at
    again = await remind.invoke(client, delay=7_200, idempotency_key="once")
    assert again.id == first.id
    assert (await runs.get(client, first.id)).due_at == due


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"delay": -1}, "delay: `-1` given, expected 0 seconds and at most 100 years"),
        ({"delay": timedelta(seconds=-1)}, "at most 100 years"),
        (
            {"delay": float("nan")},
            "delay: `nan` given, expected a number of seconds or a timedelta",
        ),
        ({"delay": "5 min"}, "delay: `5 min` given, expected a number of seconds or a timedelta"),
        ({"at": datetime(2026, 1, 1)}, "at: 2026-01-01T00:00:00 has no time zone"),
        ({"at": 5}, "at: `5` given, expected an aware datetime"),
        (
            {"delay": 1, "at": datetime(2026, 1, 1, tzinfo=timezone.utc)},
            "delay: `1` given together with at: ",
        ),
        ({"key": ""}, "key: "),
        ({"key": 7}, "key: `7` of type `int` given"),
    ],
)
async def test_options_that_are_not_valid_are_rejected_at_the_call(
    client: PolosClient, options: dict[str, Any], reason: str
) -> None:
    @workflow(id="remind")
    async def remind(ctx: WorkflowContext, payload: Any = None) -> None: ...

    with pytest.raises(polos.InvalidArgumentError) as refused:
        await remind.invoke(client, **options)
    assert reason in str(refused.value)
    with pytest.raises(polos.InvalidArgumentError) as refused:
        await remind.invoke_many(client, [None, Invocation(None, **options)])
    assert str(refused.value).startswith("payloads[1]: ")
    assert reason in str(refused.value)
    assert await runs.list(client) == []


# --- many ------------------------------------------------------------------------------------


async def test_many_runs_start_with_one_call(database: Path | str) -> None:
    @workflow(id="double")
    async def double(ctx: WorkflowContext, number: int) -> tuple[str, int]:
        return ctx.key, 2 * number

    async with PolosClient(database) as client, Worker(client):
        some = [*range(50), Invocation(50, key="u7"), Invocation(51, delay=0.01)]
        handles = await double.invoke_many(client, some)
        results = await asyncio.wait_for(asyncio.gather(*handles), 30)
        expected = [("global", 2 * number) for number in range(52)]
        expected[50] = ("u7", 100)
        assert results == expected
        assert len(await runs.list(client, limit=None)) == 52


async def test_runs_of_one_call_keep_their_order(database: Path | str) -> None:
    started: list[int] = []

    @workflow(id="note")
    async def note(ctx: WorkflowContext, number: int) -> None:
        started.append(number)

    async with PolosClient(database) as client:
        async with Worker(client):
            pass  # It registers the workflow.
        past = datetime(2026, 3, 1, tzinfo=timezone.utc)
        handles = await note.invoke_many(client, [Invocation(n, at=past) for n in range(30)])
        listed = [run.id for run in await runs.list(client)]
        assert listed == [handle.id for handle in reversed(handles)]
        async with Worker(client, concurrency=1):
            await asyncio.wait_for(asyncio.gather(*handles), 30)
    assert started == [*range(30)]


async def test_many_runs_are_all_or_none(client: PolosClient) -> None:
    @workflow(id="double")
    async def double(ctx: WorkflowContext, number: int) -> int:
        return 2 * number

    unfit: Any = [1, 2, "three"]
    with pytest.raises(polos.InvalidArgumentError, match=r"^payloads\[2\]: payload of workflow"):
        await double.invoke_many(client, unfit)
    assert await runs.list(client) == []
    assert await double.invoke_many(client, []) == []
    with pytest.raises(polos.WorkflowNotFoundError, match="duble"):
        await runs.invoke_many(client, "duble", [1])


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("abc", "`abc` of type `str`"),
        (b"abc", "`bytes`"),
        ({"a": 1}, "`dict`"),
        (Order(id=1), "Order`"),
        (5, "`5` of type `int`"),
        (None, "`None` of type `NoneType`"),
        (Invocation("a"), "Invocation`"),
    ],
    ids=str,
)
async def test_what_is_not_a_list_of_payloads_is_rejected(
    client: PolosClient, given: Any, shown: str
) -> None:
    @workflow(id="any")
    async def any_payload(ctx: WorkflowContext, payload: Any) -> None: ...

    with pytest.raises(polos.InvalidArgumentError) as refused:
        await any_payload.invoke_many(client, given)
    message = str(refused.value)
    assert message.startswith("payloads: ")
    assert shown in message
    assert "expected a list (or another iterable) with the payload of each run" in message
    with pytest.raises(polos.InvalidArgumentError, match=r"^payloads: "):
        await asyncio.to_thread(runs.sync.invoke_many, client, any_payload, given)
    assert await runs.list(client) == []


async def test_payloads_may_come_from_any_other_iterable(client: PolosClient) -> None:
    @workflow(id="any")
    async def any_payload(ctx: WorkflowContext, payload: Any) -> None: ...

    for given in ((1, 2), {1, 2}, iter([1, 2]), range(2), {"a": 1, "b": 2}.values()):
        assert len(await any_payload.invoke_many(client, given)) == 2


async def test_repeated_idempotency_keys_in_one_call_are_one_run(client: PolosClient) -> None:
    @workflow(id="double")
    async def double(ctx: WorkflowContext, number: int) -> int:
        return 2 * number

    some = [Invocation(1, idempotency_key="a"), Invocation(2, idempotency_key="a"), Invocation(3)]
    ids = [handle.id for handle in await double.invoke_many(client, some)]
    assert ids[0] == ids[1] != ids[2]
    again = [handle.id for handle in await double.invoke_many(client, some[:1])]
    assert again == ids[:1]


def test_the_blocking_versions_do_the_same(client: PolosClient) -> None:
    @workflow(id="double")
    async def double(ctx: WorkflowContext, number: int) -> int:
        return 2 * number

    one = runs.sync.invoke(client, double, 1, delay=SECOND, key="u7")
    many = runs.sync.invoke_many(client, double, [2, Invocation(3, at=datetime.now(timezone.utc))])
    assert len({one.id, *(handle.id for handle in many)}) == 3
    assert runs.sync.handle(client, one.id).status() == "queued"


# --- handles ---------------------------------------------------------------------------------


async def test_a_handle_is_awaitable_and_can_be_made_from_an_id(database: Path | str) -> None:

    @workflow(id="double")
    async def double(ctx: WorkflowContext, number: int) -> tuple[int, int]:
        return number, 2 * number

    async with PolosClient(database) as client, Worker(client):
        started = await double.invoke(client, 4)
        assert await started == (4, 8)
        typed = runs.handle(client, started.id, double)
        assert await asyncio.wait_for(typed, 30) == (4, 8)
        plain = runs.handle(client, started.id)
        assert await plain.status() == "succeeded"
        with pytest.raises(polos.RunNotFoundError):
            await runs.handle(client, "run_nothing")
        with pytest.raises(polos.InvalidArgumentError, match="id: `7` given"):
            runs.handle(client, 7)  # type: ignore[call-overload]
        with pytest.raises(polos.InvalidArgumentError, match="workflow: `double` given"):
            runs.handle(client, started.id, "double")  # type: ignore[call-overload]


# --- payloads that the caller can't check ----------------------------------------------------


@pytest.mark.parametrize(
    ("name", "payload", "reason"),
    [
        ("text", None, "workflow `text` takes a payload, `str`, and none was given"),
        ("text", 5, "payload of workflow `text`: not a valid `str`"),
        ("nothing", 5, "workflow `nothing` takes no payload, and one of type `int` was given"),
        ("only-ctx", 5, "workflow `only-ctx` takes no payload, and one of type `int` was given"),
        ("in-a-thread", None, "workflow `in-a-thread` takes a payload, `str`, and none was given"),
    ],
)
async def test_a_run_started_by_id_fails_at_once_if_its_payload_does_not_fit(
    name: str, payload: Any, reason: str
) -> None:
    entered: list[str] = []

    @workflow(id="text", retries=3)
    async def text(ctx: WorkflowContext, payload: str) -> None:
        entered.append("text")

    @workflow(id="nothing", retries=3)
    async def nothing() -> None:
        entered.append("nothing")

    @workflow(id="only-ctx", retries=3)
    async def only_ctx(ctx: WorkflowContext) -> None:
        entered.append("only-ctx")

    @workflow(id="in-a-thread", retries=3)
    def in_a_thread(ctx: SyncWorkflowContext, payload: str) -> None:
        entered.append("in-a-thread")

    async with polos.testing.clock(START) as t:
        # As in a process that has not imported the workflow, such as the command line.
        with isolated_registry():
            handle: RunHandle[Any] = await runs.invoke(t.client, name, payload)
        await t.advance(hours=1)
        run = await runs.get(t.client, handle.id)
    assert run.error is not None
    assert (run.status, run.attempt, entered) == ("failed", 1, [])
    assert reason in run.error.message
    assert "start another run with one that fits" in run.error.message


async def test_a_run_started_by_id_gets_what_its_handler_can_be_called_with() -> None:
    received: list[Any] = []

    @workflow(id="optional")
    async def optional(ctx: WorkflowContext, payload: str = "none given") -> None:
        received.append(payload)

    @workflow(id="or-none")
    async def or_none(ctx: WorkflowContext, payload: str | None) -> None:
        received.append(payload)

    @workflow(id="anything")
    async def anything(ctx: WorkflowContext, payload: Any) -> None:
        received.append(payload)

    async with polos.testing.clock(START) as t:
        with isolated_registry():
            for name in ("optional", "or-none", "anything"):
                await runs.invoke(t.client, name)
                await runs.invoke(t.client, name, "text")
        await t.advance(seconds=1)
        assert {run.status for run in await t.runs()} == {"succeeded"}
    assert sorted(map(str, received)) == ["None"] * 3 + ["text"] * 3


# --- how long to wait for a result -----------------------------------------------------------


@pytest.mark.parametrize(
    "given", ["5", True, -1, timedelta(seconds=-1), float("nan"), float("inf")]
)
async def test_a_timeout_that_is_not_a_duration_is_rejected(
    client: PolosClient, given: Any
) -> None:
    @workflow(id="never")
    async def never() -> None: ...

    handle = await never.invoke(client)
    with pytest.raises(polos.InvalidArgumentError, match=r"^timeout: `.*` given, expected "):
        await handle.result(given)
    with pytest.raises(polos.InvalidArgumentError, match=r"^timeout: `.*` given, expected "):
        await asyncio.to_thread(handle.sync.result, given)
    with pytest.raises(polos.InvalidArgumentError, match=r"^timeout: `.*` given, expected "):
        await never.run(client, timeout=given)
    assert [run.id for run in await runs.list(client)] == [handle.id]


@pytest.mark.parametrize("zero", [0, 0.0, timedelta(0)])
async def test_a_timeout_of_zero_returns_a_result_that_is_there(zero: Any) -> None:
    @workflow(id="double")
    async def double(ctx: WorkflowContext, number: int) -> int:
        if number < 0:
            raise ValueError("negative")
        return 2 * number

    async with polos.testing.clock(START, workflows=[double]) as t:
        handle = await double.invoke(t.client, 21, delay=10)
        failing = await double.invoke(t.client, -1, delay=10)
        with pytest.raises(polos.RunTimeoutError, match="has not completed within 0"):
            await handle.result(zero)
        await t.advance(seconds=10)
        assert await handle.result(zero) == 42
        assert await asyncio.to_thread(handle.sync.result, zero) == 42
        with pytest.raises(ValueError, match="negative"):
            await failing.result(zero)


# --- the command line ------------------------------------------------------------------------


async def test_runs_start_starts_a_run(command: Command, own_database: Path | str) -> None:
    @workflow(id="greet")
    async def greet(ctx: WorkflowContext, who: dict[str, str]) -> str:
        return f"{ctx.key}: {who['name']}"

    async with PolosClient(own_database) as client, Worker(client):
        arguments = ("runs", "start", "greet", "--payload", '{"name": "Ada"}', "--key", "u7")
        result = await asyncio.to_thread(command, *arguments, "--wait", "--json")
        assert result.code == 0, result.err
        (found,) = result.objects
        assert (await runs.get(client, found["run_id"])).result == "u7: Ada"

        result = await asyncio.to_thread(command, *arguments, "--delay", "0", "--wait")
        assert result.code == 0, result.err
        result = await asyncio.to_thread(command, *arguments, "--delay", "2h")
        (id,) = result.lines
        delayed = await runs.get(client, id)
        assert delayed.due_at is not None
        assert delayed.due_at - delayed.created_at >= timedelta(hours=1, minutes=59)
        shown = await asyncio.to_thread(command, "runs", "show", id)
        assert any(line.startswith("due ") for line in shown.lines)
        # A run that is due later is not stuck.
        assert "none is stuck" in (await asyncio.to_thread(command, "doctor")).out


async def test_runs_start_takes_a_priority_and_debounces(
    command: Command, own_database: Path | str
) -> None:
    @workflow(id="index")
    async def index(ctx: WorkflowContext, text: str) -> None: ...

    async with PolosClient(own_database) as client, Worker(client):
        ids = []
        for text, priority in (("first", "9"), ("second", "7")):
            arguments = ("--payload", f'"{text}"', "--priority", priority, "--debounce", "u7")
            delays = ("--debounce-delay", "2h", "--debounce-at-most", "3h")
            result = await asyncio.to_thread(command, "runs", "start", "index", *arguments, *delays)
            ids += result.lines
        assert ids[0] == ids[1]
        run = await runs.get(client, ids[0])
        assert (run.payload, run.priority, run.status) == ("second", 7, "queued")
        assert run.due_at is not None
        assert run.due_at - run.created_at >= timedelta(hours=2)
        shown = await asyncio.to_thread(command, "runs", "show", ids[0])
        assert any(line.split() == ["priority", "7"] for line in shown.lines)
        shown = await asyncio.to_thread(command, "runs", "show", ids[0], "--json")
        assert [found["priority"] for found in shown.objects] == [7]


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (("grete",), 3, "`greet`"),
        (("greet", "--payload", "{"), 2, "--payload: `{` isn't JSON"),
        (("greet", "--delay", "soon"), 2, "--delay: `soon` isn't a duration"),
        (("greet", "--at", "soon"), 2, "--at: `soon` isn't a time"),
        (("greet", "--at", "now", "--delay", "1s"), 2, "given together with at"),
        (("greet", "--delay", "5"), 2, "`5` isn't a duration; expected one such as `90s`"),
        (("greet", "--priority", "10"), 2, "priority: `10` given, expected a whole number from 0"),
        (("greet", "--debounce", "u7"), 2, "--debounce: `u7` given without --debounce-delay"),
        (("greet", "--debounce-delay", "1s"), 2, "--debounce-delay: given without --debounce"),
        (("greet", "--debounce-at-most", "1s"), 2, "--debounce-at-most: given without --debounce"),
        (
            ("greet", "--debounce", "u7", "--debounce-delay", "1s", "--delay", "1s"),
            2,
            "given together with debounce",
        ),
    ],
)
def test_runs_start_says_what_is_wrong(
    command: Command,
    client: PolosClient,
    arguments: tuple[str, ...],
    code: int,
    reason: str,
) -> None:
    @workflow(id="greet")
    async def greet(ctx: WorkflowContext, who: Any = None) -> None: ...

    client._opened()
    runs.sync.invoke(client, greet)
    result = command("runs", "start", *arguments)
    assert (result.code, reason in result.err) == (code, True), result.err
