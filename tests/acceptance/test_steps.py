"""Steps: retries, timeouts, names, recorded values, many at once."""

from __future__ import annotations

import asyncio
import functools
import threading
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest

import polos.testing
from polos import (
    Backoff,
    DuplicateStepError,
    InvalidArgumentError,
    PolosClient,
    StepError,
    StepSerializationError,
    Worker,
    WorkflowContext,
    runs,
    workflow,
)

START = "2026-01-01T00:00+00:00"


def worker(client: PolosClient) -> Worker:
    return Worker(client, app="tests", drain=0)


async def test_a_step_takes_functions_of_every_kind(client: PolosClient) -> None:
    async def fetch(a: int, *, b: int) -> int:
        return a + b

    @dataclass
    class Adder:
        n: int

        def add(self, a: int) -> int:
            return self.n + a

        async def __call__(self, a: int) -> int:
            return self.n + a

    @workflow
    async def all_kinds(ctx: WorkflowContext) -> list[int]:
        return [
            await ctx.step.run("async", fetch, 1, b=2),
            await ctx.step.run("partial", functools.partial(fetch, 2), b=2),
            await ctx.step.run("lambda", lambda: 5),
            await ctx.step.run("lambda-of-async", lambda: fetch(3, b=3)),
            await ctx.step.run("method", Adder(3).add, 4),
            await ctx.step.run("object", Adder(4), 4),
            await ctx.step.run("builtin", sum, [4, 5]),
        ]

    async with worker(client):
        assert await all_kinds.run(client, timeout=30) == [3, 4, 5, 6, 7, 8, 9]


async def test_sync_steps_run_in_threads_and_async_ones_on_the_loop(client: PolosClient) -> None:
    async def on_loop() -> str:
        return threading.current_thread().name

    @workflow
    async def where(ctx: WorkflowContext) -> list[str]:
        here = threading.current_thread().name
        return [
            here,
            await ctx.step.run("async", on_loop),
            await ctx.step.run("sync", lambda: threading.current_thread().name),
        ]

    async with worker(client):
        here, of_async, of_sync = await where.run(client, timeout=30)
    assert of_async == here != of_sync


async def test_a_failing_step_is_tried_again_with_growing_waits() -> None:
    tried: list[float] = []

    def flaky() -> str:
        tried.append((t.now - begin).total_seconds())
        if len(tried) < 4:
            raise ConnectionError("down")
        return "up"

    @workflow
    async def patient(ctx: WorkflowContext) -> str:
        return await ctx.step.run("flaky", flaky, retries=5, backoff=Backoff(2, jitter=0))

    async with polos.testing.clock(START) as t:
        begin = t.now
        handle = await patient.invoke(t.client)
        await t.advance(seconds=1)
        (step,) = (await runs.get(t.client, handle.id)).steps
        assert (step.status, step.attempt) == ("waiting", 1)
        assert step.wakes_at == begin + timedelta(seconds=2)
        await t.advance(minutes=1)
        assert await handle.result() == "up"
        (step,) = (await runs.get(t.client, handle.id)).steps
    assert tried == [0, 2, 6, 14]
    assert (step.status, step.attempt, step.result) == ("succeeded", 4, "up")


async def test_the_last_failure_is_a_step_error_with_its_cause() -> None:
    @workflow
    async def hopeless(ctx: WorkflowContext) -> list[Any]:
        def fail() -> None:
            raise ConnectionError("down")

        with pytest.raises(StepError) as caught:
            await ctx.step.run("fail", fail, retries=2, backoff=1)
        error = caught.value
        return [error.step, error.attempts, type(error.__cause__).__name__, str(error)]

    async with polos.testing.clock(START) as t:
        handle = await hopeless.invoke(t.client)
        await t.advance(minutes=1)
        assert await handle.result() == [
            "fail", 3, "ConnectionError",
            "step `fail` failed 3 times, last with ConnectionError: down",
        ]  # fmt: skip


async def test_retry_on_says_what_is_worth_a_retry() -> None:
    tried: list[str] = []

    def fail() -> None:
        tried.append("")
        raise KeyError("no such user")

    @workflow
    async def choosy(ctx: WorkflowContext) -> None:
        await ctx.step.run("fail", fail, retries=5, retry_on=(ConnectionError, TimeoutError))

    async with polos.testing.clock(START) as t:
        handle = await choosy.invoke(t.client)
        await t.advance(minutes=1)
        with pytest.raises(StepError, match="failed once"):
            await handle.result()
    assert len(tried) == 1


async def test_a_step_that_takes_too_long_fails_and_is_retried() -> None:
    cancelled: list[str] = []

    async def slow() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append("slow")
            raise

    @workflow
    async def limited(ctx: WorkflowContext) -> None:
        await ctx.step.run("slow", slow, timeout=5, retries=1, backoff=Backoff(1, jitter=0))

    async with polos.testing.clock(START) as t:
        handle = await limited.invoke(t.client)
        await t.advance(minutes=1)
        with pytest.raises(StepError, match=r"2 times.*TimeoutError.*slow.*0:00:05"):
            await handle.result()
    assert cancelled == ["slow"] * 2


async def test_a_sync_step_that_hangs_is_given_up(client: PolosClient) -> None:
    release = threading.Event()

    @workflow
    async def limited(ctx: WorkflowContext) -> None:
        await ctx.step.run("hang", release.wait, timeout=0.05)

    async with worker(client):
        with pytest.raises(StepError, match="TimeoutError"):
            await limited.run(client, timeout=30)
        release.set()


async def test_a_name_that_is_used_twice_is_a_clear_error(client: PolosClient) -> None:
    @workflow
    async def careless(ctx: WorkflowContext) -> None:
        for item in range(2):
            await ctx.step.run("load", str, item)

    @workflow
    async def numbered(ctx: WorkflowContext) -> list[str]:
        return [await ctx.step.run(f"load-{item}", str, item) for item in range(2)]

    async with worker(client):
        with pytest.raises(DuplicateStepError, match=r"`load` is used twice.*number"):
            await careless.run(client, timeout=30)
        assert await numbered.run(client, timeout=30) == ["0", "1"]


@pytest.mark.parametrize("name", ["", " a", "a\0", "x" * 256, 5, None])
async def test_invalid_step_names_are_refused(client: PolosClient, name: Any) -> None:
    @workflow
    async def odd(ctx: WorkflowContext) -> None:
        await ctx.step.run(name, str)

    async with worker(client):
        with pytest.raises(InvalidArgumentError, match="step name"):
            await odd.run(client, timeout=30)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"retries": -1}, "retries.*-1"),
        ({"retries": True}, "retries.*True"),
        ({"timeout": 0}, "timeout.*0"),
        ({"timeout": "5s"}, "timeout.*5s"),
        ({"retries": 1, "backoff": -1}, "backoff.*-1"),
    ],
)
async def test_invalid_step_options_are_refused(
    client: PolosClient, options: dict[str, Any], expected: str
) -> None:
    @workflow
    async def odd(ctx: WorkflowContext) -> None:
        await ctx.step.run("step", str, **options)

    async with worker(client):
        with pytest.raises(InvalidArgumentError, match=expected):
            await odd.run(client, timeout=30)


async def test_a_step_result_that_cant_be_stored_names_the_step_and_the_type(
    client: PolosClient,
) -> None:
    @workflow
    async def odd(ctx: WorkflowContext) -> None:
        await ctx.step.run("connect", threading.Lock)

    async with worker(client):
        with pytest.raises(StepSerializationError, match=r"`connect`.*lock") as caught:
            await odd.run(client, timeout=30)
    assert caught.value.step == "connect"


# --- several at once -------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["step", "asyncio"])
async def test_gathered_steps_run_at_the_same_time(client: PolosClient, how: str) -> None:
    all_there = asyncio.Barrier(3) if hasattr(asyncio, "Barrier") else None

    async def meet(n: int) -> int:
        if all_there is not None:
            await all_there.wait()
        return n

    @workflow
    async def gathering(ctx: WorkflowContext) -> list[int]:
        gather = ctx.step.gather if how == "step" else asyncio.gather
        return list(await gather(*(ctx.step.run(f"meet-{n}", meet, n) for n in range(3))))

    async with worker(client):
        handle = await gathering.invoke(client)
        assert await handle.result(30) == [0, 1, 2]
    assert len((await runs.get(client, handle.id)).steps) == 3


async def test_a_failure_among_gathered_steps_cuts_no_other_off(
    client: PolosClient, eventually: Any
) -> None:
    finished: list[str] = []
    may_finish = asyncio.Event()

    async def fail() -> None:
        raise ValueError("one of them")

    async def finish() -> None:
        await may_finish.wait()
        finished.append("finished")

    @workflow
    async def gathering(ctx: WorkflowContext) -> None:
        await ctx.step.gather(ctx.step.run("fail", fail), ctx.step.run("finish", finish))

    @workflow
    async def another() -> None:
        for _ in range(50):  # the consequences of the failure end meanwhile
            await asyncio.sleep(0)

    async def has_failed() -> bool:
        steps = (await runs.get(client, handle.id)).steps
        return [step.status for step in steps] == ["failed"]

    async with worker(client):
        handle = await gathering.invoke(client)
        await eventually(has_failed)
        await another.run(client, timeout=30)
        assert await handle.status() == "running"
        may_finish.set()
        with pytest.raises(StepError, match="one of them"):
            await handle.result(30)
    steps = {step.name: step.status for step in (await runs.get(client, handle.id)).steps}
    assert finished == ["finished"]
    assert steps == {"fail": "failed", "finish": "succeeded"}


# --- recorded values and sleep ---------------------------------------------------------------


async def test_now_uuid_and_random_are_the_same_when_the_run_is_tried_again() -> None:
    seen: list[tuple[datetime, UUID, float]] = []

    @workflow(retries=1, backoff=60)
    async def recorded(ctx: WorkflowContext) -> None:
        values = (
            await ctx.step.now("now"),
            await ctx.step.uuid("uuid"),
            await ctx.step.random("random"),
        )
        seen.append(values)
        if ctx.attempt == 1:
            raise ConnectionError

    async with polos.testing.clock(START) as t:
        handle = await recorded.invoke(t.client)
        await t.advance(minutes=5)
        await handle.result()
    first, second = seen
    assert first == second
    assert first[0] == datetime(2026, 1, 1, tzinfo=timezone.utc)
    assert first[0].utcoffset() == timedelta(0)
    assert 0 <= first[2] < 1


async def test_sleeps_end_when_they_should_and_not_before() -> None:
    woken: dict[str, datetime] = {}

    @workflow
    async def sleeper(ctx: WorkflowContext) -> None:
        await ctx.step.sleep("a day", timedelta(days=1))
        woken.setdefault("a day", t.now)  # the handler is executed again after each sleep
        await ctx.step.sleep_until("march", datetime(2026, 3, 1, tzinfo=timezone.utc))
        woken.setdefault("march", t.now)
        await ctx.step.sleep_until("past", datetime(2026, 1, 1, tzinfo=timezone.utc))
        woken.setdefault("past", t.now)

    async with polos.testing.clock(START) as t:
        handle = await sleeper.invoke(t.client)
        await t.advance(days=90)
        await handle.result()
    march = datetime(2026, 3, 1, tzinfo=timezone.utc)
    assert woken == {
        "a day": datetime(2026, 1, 2, tzinfo=timezone.utc), "march": march, "past": march,
    }  # fmt: skip


async def test_a_naive_wake_up_time_is_refused(client: PolosClient) -> None:
    @workflow
    async def naive(ctx: WorkflowContext) -> None:
        await ctx.step.sleep_until("when", datetime(2026, 1, 1))

    async with worker(client):
        with pytest.raises(InvalidArgumentError, match="when"):
            await naive.run(client, timeout=30)


async def test_a_sleeping_run_can_be_cancelled() -> None:
    @workflow
    async def sleeper(ctx: WorkflowContext) -> None:
        await ctx.step.sleep("a year", timedelta(days=365))

    async with polos.testing.clock(START) as t:
        handle = await sleeper.invoke(t.client)
        await t.advance(days=1)
        await handle.cancel()
        await t.advance(seconds=1)
        assert await handle.status() == "cancelled"


async def test_a_step_that_the_handler_no_longer_waits_for_has_not_failed(
    client: PolosClient,
) -> None:
    begun = asyncio.Event()

    async def hang() -> None:
        begun.set()
        await asyncio.Event().wait()

    @workflow
    async def impatient(ctx: WorkflowContext) -> str:
        step = asyncio.ensure_future(ctx.step.run("hang", hang))
        await begun.wait()
        step.cancel()
        with pytest.raises(asyncio.CancelledError):
            await step
        return await ctx.step.run("instead", str, "done")

    async with worker(client):
        handle = await impatient.invoke(client)
        assert await handle.result(30) == "done"
    assert [step.name for step in (await runs.get(client, handle.id)).steps] == ["instead"]


async def test_a_step_whose_result_comes_while_it_is_being_ended_has_succeeded() -> None:
    async def slow() -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "just in time"
        return "never"

    @workflow
    async def limited(ctx: WorkflowContext) -> str:
        return await ctx.step.run("slow", slow, timeout=5)

    async with polos.testing.clock(START) as t:
        handle = await limited.invoke(t.client)
        await t.advance(minutes=1)
        assert await handle.result() == "just in time"
