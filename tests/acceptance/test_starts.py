"""Runs with a delay or a key, many at once, and from the command line; their handles."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

import polos.testing
from polos import Invocation, PolosClient, Worker, WorkflowContext, runs, workflow

Command = Callable[..., Any]

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

        result = await asyncio.to_thread(command, *arguments, "--delay", "2h")
        (id,) = result.lines
        delayed = await runs.get(client, id)
        assert delayed.due_at is not None
        assert delayed.due_at - delayed.created_at >= timedelta(hours=1, minutes=59)
        shown = await asyncio.to_thread(command, "runs", "show", id)
        assert any(line.startswith("due ") for line in shown.lines)
        # A run that is due later is not stuck.
        assert "none is stuck" in (await asyncio.to_thread(command, "doctor")).out


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (("grete",), 3, "`greet`"),
        (("greet", "--payload", "{"), 2, "--payload: `{` isn't JSON"),
        (("greet", "--delay", "soon"), 2, "--delay: `soon` isn't a duration"),
        (("greet", "--at", "soon"), 2, "--at: `soon` isn't a time"),
        (("greet", "--at", "now", "--delay", "1s"), 2, "given together with at"),
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
