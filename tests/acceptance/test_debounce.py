"""Calls in quick succession become one run, with the payload of the last call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import polos.testing
from polos import Debounce, PolosClient, Worker, WorkflowContext, runs, workflow

START = "2026-03-01T12:00Z"


async def test_calls_in_quick_succession_are_one_run_with_the_last_payload() -> None:
    calls: list[int] = []

    @workflow(id="index")
    async def index(ctx: WorkflowContext, version: int) -> None:
        calls.append(version)

    async with polos.testing.clock(START, workflows=[index]) as t:
        debounce = Debounce("u7", delay=2, at_most=60)
        first = await index.invoke(t.client, 1, debounce=debounce)
        for version in range(2, 6):
            await t.advance(seconds=1)
            handle = await index.invoke(t.client, version, debounce=debounce)
            assert handle.id == first.id
        other = await index.invoke(t.client, 100, debounce=Debounce("u8", delay=2))
        assert other.id != first.id
        assert (await runs.get(t.client, first.id)).due_at == t.now + timedelta(seconds=2)
        await t.advance(seconds=2)
        assert calls == [5, 100]
        again = await index.invoke(t.client, 6, debounce=debounce)
        assert again.id != first.id
        await t.advance(seconds=2)
        assert calls == [5, 100, 6]


async def test_the_start_is_never_later_than_at_most_after_the_first_call() -> None:
    starts: list[tuple[str, int]] = []

    @workflow(id="index")
    async def index(ctx: WorkflowContext, version: int) -> None:
        starts.append((f"{t.now:%M:%S}", version))

    async with polos.testing.clock(START, workflows=[index]) as t:
        for version in range(15):
            await index.invoke(t.client, version, debounce=Debounce("u7", delay=2, at_most=10))
            await t.advance(seconds=1)
        await t.advance(minutes=1)
        # At 00:10 the run was about to start or had started.
        assert starts[0] == ("00:10", 9)
        assert starts[1][1] == 14
        assert len(starts) == 2


async def test_the_priority_is_that_of_the_newest_call() -> None:
    starts: list[str] = []

    @workflow(id="index", priority=2)
    async def index(ctx: WorkflowContext, version: str) -> None:
        starts.append(f"{version} {ctx.key}")

    async with polos.testing.clock(START, workflows=[index]) as t:
        debounce = Debounce("u7", delay=10)
        seen = []
        for priority in (9, 0, None, 8):
            handle = await index.invoke(
                t.client, f"p{priority}", debounce=debounce, key=f"k{priority}", priority=priority
            )
            seen.append((await runs.get(t.client, handle.id)).priority)
        assert seen == [9, 0, 2, 8]
        await t.advance(seconds=10)
        # The key is that of the first call.
        assert starts == ["p8 k9"]


async def test_calls_that_wait_survive_a_crash() -> None:
    calls: list[str] = []

    @workflow(id="index")
    async def index(ctx: WorkflowContext, version: str) -> None:
        calls.append(version)

    async with polos.testing.clock(START, workflows=[index]) as t:
        debounce = Debounce("u7", delay=60)
        await index.invoke(t.client, "first", debounce=debounce)
        await index.invoke(t.client, "last", debounce=debounce)
        await t.crash()
        await t.advance(minutes=10)
        await t.restart()
        await t.advance(seconds=1)
        assert calls == ["last"]


CALLER = """
    import os
    import sys

    from polos import Debounce, PolosClient, runs

    with PolosClient(os.environ["DATABASE"]) as client:
        print("ready", flush=True)
        sys.stdin.readline()
        for number in range(int(os.environ["CALLS"])):
            payload = [os.environ["NAME"], number]
            runs.sync.invoke(client, "index", payload, debounce=Debounce("u7", delay=0.002))
"""


async def test_two_processes_at_the_moment_of_the_claim_lose_no_last_payload(
    start: Callable[..., Any], database: Path | str
) -> None:
    calls: list[list[Any]] = []

    @workflow(id="index")
    async def index(ctx: WorkflowContext, version: list[Any]) -> None:
        calls.append(version)

    count = 60
    env = {"DATABASE": str(database), "CALLS": str(count)}
    async with PolosClient(database) as client, Worker(client):
        callers = [start(CALLER, name=f"{name}.py", env={**env, "NAME": name}) for name in "ab"]
        for caller in callers:
            await asyncio.to_thread(caller.wait_for_line, "ready")
        for caller in callers:
            caller.send_line("")
        for caller in callers:
            assert await asyncio.to_thread(caller.ends) == 0
        ended = await runs.list(client, workflow="index", limit=None)
        await asyncio.wait_for(asyncio.gather(*(runs.handle(client, run.id) for run in ended)), 60)
    # Each run has one of the payloads, none is executed twice, and the last call counts.
    assert len({(name, number) for name, number in calls}) == len(calls) == len(ended)
    assert calls[-1][1] == count - 1
    for name in "ab":
        numbers = [number for caller, number in calls if caller == name]
        assert numbers == sorted(numbers)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: Debounce("u7", delay=-1), "debounce delay: `-1` given, expected 0 seconds"),
        (lambda: Debounce("u7", delay=5, at_most=2), "at_most: `2` given with delay `5`"),
        (lambda: Debounce("", delay=1), "debounce key: "),
        (lambda: Debounce("u7", delay="2 s"), "debounce delay: `2 s` given"),  # type: ignore[arg-type]
    ],
)
def test_a_debounce_that_makes_no_sense_is_rejected(
    make: Callable[[], Debounce], reason: str
) -> None:
    with pytest.raises(polos.InvalidArgumentError) as refused:
        make()
    assert reason in str(refused.value)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"debounce": "u7"}, "debounce: `u7` given, expected a `Debounce`"),
        ({"debounce": Debounce("u7", delay=1), "delay": 5}, "delay: `5` given together with"),
        (
            {"debounce": Debounce("u7", delay=1), "idempotency_key": "x"},
            "idempotency_key: `x` given together with debounce",
        ),
    ],
)
async def test_options_that_contradict_a_debounce_are_rejected(
    client: PolosClient, options: dict[str, Any], reason: str
) -> None:
    @workflow(id="index")
    async def index() -> None: ...

    with pytest.raises(polos.InvalidArgumentError) as refused:
        await index.invoke(client, **options)
    assert reason in str(refused.value)
    assert await runs.list(client) == []


def test_the_blocking_version_debounces_too(client: PolosClient) -> None:
    @workflow(id="index")
    async def index(ctx: WorkflowContext, version: int) -> None: ...

    some = [
        runs.sync.invoke(client, index, version, debounce=Debounce("u7", delay=60))
        for version in (1, 2)
    ]
    assert some[0].id == some[1].id
    assert runs.sync.get(client, some[0].id).payload == 2
