"""Whatever a handler does, its run fails, and the worker and other runs continue."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

import polos._runtime.reporter
import polos.testing
from polos import (
    Backoff,
    PolosClient,
    RunFailedError,
    RunFailure,
    RunHandle,
    RunTimeoutError,
    SerializationError,
    StepError,
    SyncWorkflowContext,
    Worker,
    WorkflowContext,
    runs,
    schedules,
    workflow,
)


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


class Unreadable(Exception):
    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError("don't look")


class Unpicklable(Exception):
    def __init__(self, a: object, b: object) -> None:
        super().__init__("holds a lock")
        self.lock = threading.Lock()

    def __reduce__(self) -> Any:
        raise TypeError("can't be pickled")


class OwnBase(BaseException):
    pass


def raises(error: BaseException | type[BaseException]) -> Callable[[], None]:
    def failing() -> None:
        raise error

    return failing


def recurses() -> None:
    recurses()


def groups() -> None:
    raise ExceptionGroup("two", [ValueError("a"), KeyError("b")])  # noqa: F821


# What a handler does, and the type and text of its run's error.
FAILURES: dict[str, tuple[Callable[[], Any], str, str]] = {
    "exception": (raises(ValueError("wrong")), "ValueError", "wrong"),
    "exception-without-text": (raises(LookupError), "LookupError", ""),
    "assertion": (raises(AssertionError("no")), "AssertionError", "no"),
    "own-base-exception": (raises(OwnBase("base")), "OwnBase", "base"),
    "keyboard-interrupt": (raises(KeyboardInterrupt("key")), "KeyboardInterrupt", "key"),
    "system-exit": (lambda: sys.exit(3), "SystemExit", "3"),
    "generator-exit": (raises(GeneratorExit("gen")), "GeneratorExit", "gen"),
    "cancelled-by-itself": (raises(asyncio.CancelledError("self")), "CancelledError", "self"),
    "stop-iteration": (raises(StopIteration(1)), "RuntimeError", "StopIteration"),
    "stop-async-iteration": (raises(StopAsyncIteration(1)), "", ""),
    "memory-error": (raises(MemoryError("full")), "MemoryError", "full"),
    "recursion-error": (recurses, "RecursionError", "recursion"),
    "unspeakable": (raises(Unprintable()), "Unprintable", "__str__ raised RuntimeError"),
    "nosy": (raises(Unreadable("look")), "Unreadable", "look"),
    "unpicklable": (raises(Unpicklable(1, 2)), "Unpicklable", "holds a lock"),
    "long-text": (raises(ValueError("x" * 1_000_000)), "ValueError", "characters"),
    "odd-text": (raises(ValueError("a\0b \ud800 😀")), "ValueError", "😀"),
    "timeout-of-its-own": (raises(TimeoutError("mine")), "TimeoutError", "mine"),
}
if sys.version_info >= (3, 11):
    FAILURES["exception-group"] = (groups, "ExceptionGroup", "two")


@asynccontextmanager
async def surviving_worker(client: PolosClient) -> AsyncIterator[None]:
    """Run a worker; check at the end that it still works."""

    @workflow(id="healthy")
    async def healthy() -> str:
        return "well"

    async with Worker(client, app="tests", drain=0):
        yield
        assert await asyncio.wait_for(healthy.run(client), 30) == "well"


@pytest.mark.parametrize("kind", ["async", "sync"])
@pytest.mark.parametrize("name", FAILURES)
async def test_a_handler_that_raises_fails_its_run_and_nothing_else(
    client: PolosClient, name: str, kind: str
) -> None:
    act, type_name, text = FAILURES[name]

    @workflow(id="failing-async")
    async def failing_async() -> None:
        act()

    @workflow(id="failing-sync")
    def failing_sync() -> None:
        act()

    async with surviving_worker(client):
        handle = await runs.invoke(client, f"failing-{kind}")
        with pytest.raises(Exception) as caught:  # noqa: PT011 - the table has the class
            await handle.result(30)
        run = await runs.get(client, handle.id)
    assert not isinstance(caught.value, RunTimeoutError)
    assert run.status == "failed"
    assert run.error is not None
    assert type_name in run.error.type
    assert text in run.error.message
    assert "test_failures.py" in (run.error.cause or run.error).traceback


# A function that raises GeneratorExit can't be distinguished from a closed coroutine.
@pytest.mark.parametrize("name", [name for name in FAILURES if name != "generator-exit"])
async def test_a_step_that_raises_fails_as_a_step_error(client: PolosClient, name: str) -> None:
    act, type_name, _ = FAILURES[name]

    @workflow(id="failing")
    async def failing(ctx: WorkflowContext) -> None:
        await ctx.step.run("act", act)

    async with surviving_worker(client):
        handle = await failing.invoke(client)
        with pytest.raises(Exception) as caught:  # noqa: PT011 - the table has the class
            await handle.result(30)
        run = await runs.get(client, handle.id)
    assert not isinstance(caught.value, RunTimeoutError)
    assert run.status == "failed"
    (step,) = run.steps
    assert step.status == "failed"
    assert step.error is not None
    assert type_name in step.error.type


async def test_a_failure_that_cannot_be_rebuilt_is_a_run_failed_error(
    client: PolosClient,
) -> None:
    @workflow
    async def failing() -> None:
        raise Unpicklable(1, 2)

    async with surviving_worker(client):
        handle = await failing.invoke(client)
        with pytest.raises(RunFailedError, match=r"failing.*holds a lock") as caught:
            await handle.result(30)
    assert caught.value.run_id == handle.id
    assert caught.value.error_type.endswith("Unpicklable")


async def test_a_failure_that_cannot_be_described_for_lack_of_memory_is_a_failure(
    client: PolosClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    @workflow(id="failing")
    async def failing() -> None:
        raise ValueError("not enough")

    def describe(error: BaseException) -> dict[str, Any]:
        raise MemoryError

    monkeypatch.setattr(polos._runtime.reporter, "error_record", describe)
    async with surviving_worker(client):
        handle = await failing.invoke(client)
        with pytest.raises(RunFailedError, match="no memory to record how the run failed"):
            await handle.result(30)


# --- results that can't be stored ------------------------------------------------------------


def itself() -> list[Any]:
    items: list[Any] = []
    items.append(items)
    return items


UNSTORABLE: dict[str, Callable[[], Any]] = {
    "object": object,
    "lock": threading.Lock,
    "function": lambda: print,
    "generator": lambda: (n for n in ()),
    "class": lambda: int,
    "list-of-itself": itself,
    "deep-inside": lambda: {"a": [{"b": {1, object()}}]},
    "too-large": lambda: "x" * 17_000_000,
}


@pytest.mark.parametrize("name", UNSTORABLE)
async def test_a_result_that_cant_be_stored_fails_the_run_at_once(
    client: PolosClient, name: str
) -> None:
    @workflow(id="odd", retries=5)
    async def odd() -> Any:
        return UNSTORABLE[name]()

    async with surviving_worker(client):
        handle = await odd.invoke(client)
        with pytest.raises(SerializationError, match="result"):
            await handle.result(30)
        run = await runs.get(client, handle.id)
    # Another execution would give the same result.
    assert (run.status, run.attempt) == ("failed", 1)


# --- handlers that hang ----------------------------------------------------------------------


async def test_a_handler_that_hangs_is_ended_by_its_timeout() -> None:
    cancelled: list[str] = []

    @workflow(timeout=30)
    async def hanging() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append("told")
            raise

    async with polos.testing.clock("2026-01-01T00:00+00:00") as t:
        handle = await hanging.invoke(t.client)
        await t.advance(seconds=29)
        assert await handle.status() == "running"
        await t.advance(seconds=2)
        with pytest.raises(RunTimeoutError, match="0:00:30"):
            await handle.result()
        run = await runs.get(t.client, handle.id)
    assert cancelled == ["told"]
    assert run.status == "failed"
    assert run.error is not None
    assert "RunTimeoutError" in run.error.type


async def test_a_handler_that_ignores_its_cancellation_is_given_up(
    caplog: pytest.LogCaptureFixture, ignores_cancellation: Any
) -> None:
    stubborn = workflow(id="stubborn", timeout=30)(ignores_cancellation)
    async with polos.testing.clock("2026-01-01T00:00+00:00") as t:
        handle = await stubborn.invoke(t.client)
        try:
            await t.advance(seconds=60)
            with pytest.raises(RunTimeoutError):
                await handle.result(5)
            assert "stubborn" in caplog.text
        finally:
            ignores_cancellation.is_over = True


async def test_a_sync_handler_that_hangs_in_its_thread_is_given_up(client: PolosClient) -> None:
    release = threading.Event()

    @workflow(timeout=0.1)
    def hanging() -> None:
        release.wait()

    async with surviving_worker(client):
        with pytest.raises(RunTimeoutError):
            await hanging.run(client, timeout=30)
        release.set()


async def test_a_timeout_is_for_one_attempt_and_retries_follow() -> None:
    attempts: list[int] = []

    @workflow(timeout=10, retries=2, backoff=Backoff(5, jitter=0))
    async def slow(ctx: WorkflowContext) -> str:
        attempts.append(ctx.attempt)
        if ctx.attempt < 3:
            await asyncio.Event().wait()
        return "in time"

    async with polos.testing.clock("2026-01-01T00:00+00:00") as t:
        handle = await slow.invoke(t.client)
        await t.advance(minutes=5)
        assert await handle.result() == "in time"
    assert attempts == [1, 2, 3]


async def test_a_handler_that_cancels_what_it_awaits_is_its_own_failure(
    client: PolosClient,
) -> None:
    @workflow
    async def careless() -> None:
        task = asyncio.ensure_future(asyncio.Event().wait())
        task.cancel()
        await task

    async with surviving_worker(client):
        handle = await careless.invoke(client)
        with pytest.raises(RunFailedError, match="CancelledError"):
            await handle.result(30)
    assert (await runs.get(client, handle.id)).status == "failed"


async def _cancel_oneself() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(0)


async def _await_a_cancelled_task() -> None:
    task = asyncio.ensure_future(asyncio.Event().wait())
    task.cancel()
    await task


async def _cancel_through_another_task() -> None:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().call_soon(task.cancel)
    await asyncio.Event().wait()


async def _raise_cancelled() -> None:
    raise asyncio.CancelledError


CANCELLATIONS = [
    _cancel_oneself,
    _await_a_cancelled_task,
    _cancel_through_another_task,
    _raise_cancelled,
]


@pytest.mark.parametrize("cancel", CANCELLATIONS)
async def test_a_cancellation_that_nobody_requested_is_a_failed_attempt(
    cancel: Callable[[], Any], client: PolosClient, caplog: pytest.LogCaptureFixture
) -> None:
    attempts: list[int] = []
    failures: list[int] = []

    def on_failure(failure: RunFailure) -> None:
        failures.append(failure.attempt)

    @workflow(retries=2, backoff=0.001, on_failure=on_failure)
    async def cancels(ctx: WorkflowContext) -> None:
        attempts.append(ctx.attempt)
        await cancel()

    async with surviving_worker(client):
        handle = await cancels.invoke(client)
        with pytest.raises(RunFailedError, match="CancelledError"):
            await handle.result(30)
    assert attempts == [1, 2, 3]
    assert failures == [3]
    levels = [record.levelname for record in caplog.records if "cancelled" in record.getMessage()]
    assert levels == ["WARNING", "WARNING", "ERROR"]


@pytest.mark.parametrize("limit", [None, 60])
async def test_a_step_in_a_thread_that_raises_cancelled_is_retried(
    limit: float | None, client: PolosClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def fetch() -> None:
        calls.append("fetch")
        raise asyncio.CancelledError("by itself")

    @workflow
    async def fetching(ctx: WorkflowContext) -> None:
        options = {"retries": 1, "backoff": 0.001, "retry_on": asyncio.CancelledError}
        await ctx.step.run("fetch", fetch, timeout=limit, **options)

    # Before Python 3.11, a task can't tell whether it was cancelled.
    monkeypatch.setattr("polos._runtime.active_run._cancelled_from_outside", lambda: True)
    async with surviving_worker(client):
        handle = await fetching.invoke(client)
        with pytest.raises(StepError, match=r"failed 2 times, last with .*CancelledError"):
            await handle.result(30)
        (step,) = (await runs.get(client, handle.id)).steps
    assert calls == ["fetch", "fetch"]
    assert (step.status, step.attempt) == ("failed", 2)


async def test_a_step_in_a_thread_whose_task_is_cancelled_has_not_failed(
    client: PolosClient,
) -> None:
    @workflow
    async def impatient(ctx: WorkflowContext) -> str:
        entered, go = asyncio.Event(), threading.Event()
        loop = asyncio.get_running_loop()

        def fetch() -> None:
            loop.call_soon_threadsafe(entered.set)
            go.wait()

        step = asyncio.ensure_future(ctx.step.run("fetch", fetch))
        await entered.wait()
        step.cancel()
        done, _ = await asyncio.wait({step})
        go.set()
        return f"cancelled: {all(task.cancelled() for task in done)}"

    async with surviving_worker(client):
        handle = await impatient.invoke(client)
        assert await handle.result(30) == "cancelled: True"
        assert not any(
            step.status == "failed" for step in (await runs.get(client, handle.id)).steps
        )


@pytest.mark.parametrize("cancels_tasks", [True, False])
def test_a_loop_that_ends_under_a_handler_leaves_the_run_to_other_workers(
    cancels_tasks: bool, database: Any
) -> None:
    @workflow(id="outlives-its-loop")
    async def outlives(ctx: WorkflowContext) -> str:
        if not entered.is_set():
            entered.set()
            await asyncio.Event().wait()
        return "done"

    entered = threading.Event()
    client = PolosClient(database)

    async def begin() -> str:
        worker = Worker(client)
        await worker.start()
        workers.append(worker)
        handle = await outlives.invoke(client)
        await asyncio.to_thread(entered.wait, 30)
        return handle.id

    workers: list[Worker] = []
    loop = asyncio.new_event_loop()
    run_id = loop.run_until_complete(begin())
    if cancels_tasks:
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
    loop.close()
    del loop
    gc.collect()
    core = workers.pop()._core
    assert core is not None
    core.deregister(5_000_000)  # as its process does at its end

    async def finish() -> str:
        async with Worker(client):
            handle: RunHandle[str] = RunHandle(client, run_id)
            return await handle.result(30)

    assert asyncio.run(finish()) == "done"
    client.close()


# --- a blocked loop --------------------------------------------------------------------------


def test_a_handler_that_blocks_the_loop_does_not_delay_schedules(
    database: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """The worker's loop is in another thread; this one watches the database."""
    blocked, proceed, stop = threading.Event(), threading.Event(), threading.Event()
    entered: list[int] = []

    @workflow(id="blocker")
    async def blocker(ctx: WorkflowContext) -> str:
        entered.append(ctx.attempt)
        blocked.set()
        proceed.wait(30)  # like time.sleep, this blocks the loop
        return "done"

    @workflow(id="ticker", schedule=True)
    async def ticker() -> None: ...

    async def work() -> None:
        async with Worker(PolosClient(database), app="tests", lease=0.5):
            await asyncio.get_running_loop().run_in_executor(None, stop.wait, 60)

    thread = threading.Thread(target=asyncio.run, args=(work(),))
    thread.start()
    try:
        with PolosClient(database) as client:
            handle = runs.sync.invoke(client, "blocker")
            assert blocked.wait(30)
            schedule = schedules.sync.create(
                client, "ticker", every=timedelta(seconds=1), overlap="allow"
            )
            deadline = time.monotonic() + 30
            claimed: list[Any] = []
            while len(claimed) < 2:
                assert time.monotonic() < deadline, "slots aren't claimed while the loop is blocked"
                history = schedules.sync.history(client, schedule)
                claimed = [entry for entry in history if entry.status == "ran"]
            # Claimed on time, and no other worker took the run, since the heartbeat continues.
            assert all(run.status == "running" for run in runs.sync.list(client, schedule=schedule))
            assert runs.sync.get(client, handle.id).status == "running"
            proceed.set()
            assert handle_result(client, handle.id) == "done"
    finally:
        proceed.set()
        stop.set()
        thread.join(30)
    assert entered == [1]


def handle_result(client: PolosClient, id: str) -> Any:
    return asyncio.run(polos.RunHandle(client, id).result(30))


# --- retries of runs -------------------------------------------------------------------------


async def test_a_failed_run_is_tried_again_after_its_backoff() -> None:
    started: list[tuple[int, float]] = []

    @workflow(retries=3, backoff=Backoff(10, factor=3, jitter=0))
    async def flaky(ctx: WorkflowContext) -> str:
        started.append((ctx.attempt, (t.now - begin).total_seconds()))
        if ctx.attempt < 4:
            raise ConnectionError(f"attempt {ctx.attempt}")
        return "there"

    async with polos.testing.clock("2026-01-01T00:00+00:00") as t:
        begin = t.now
        handle = await flaky.invoke(t.client)
        await t.advance(seconds=5)
        between = await runs.get(t.client, handle.id)
        await t.advance(minutes=10)
        assert await handle.result() == "there"
        run = await runs.get(t.client, handle.id)
    assert started == [(1, 0), (2, 10), (3, 40), (4, 130)]
    assert between.status in ("waiting", "queued")
    assert (run.status, run.attempt, run.error) == ("succeeded", 4, None)


async def test_a_run_fails_for_good_with_its_last_error() -> None:
    @workflow(retries=2, backoff=1)
    async def broken(ctx: WorkflowContext) -> None:
        raise ConnectionError(f"attempt {ctx.attempt}")

    async with polos.testing.clock("2026-01-01T00:00+00:00") as t:
        handle = await broken.invoke(t.client)
        await t.advance(minutes=10)
        with pytest.raises(ConnectionError, match="attempt 3"):
            await handle.result()
        assert (await runs.get(t.client, handle.id)).attempt == 3


async def test_a_schedules_next_slot_comes_however_often_its_runs_fail() -> None:
    @workflow(schedule="0 * * * *")
    async def failing() -> None:
        raise ValueError("again")

    async with polos.testing.clock("2026-01-01T00:30+00:00") as t:
        await t.advance(hours=5)
        assert [run.status for run in await t.runs()] == ["failed"] * 5


async def test_retry_continues_from_the_first_unfinished_step(client: PolosClient) -> None:
    calls: list[str] = []
    is_repaired = False

    def second() -> str:
        calls.append("second")
        if not is_repaired:
            raise ConnectionError("down")
        return "up"

    @workflow
    async def two_steps(ctx: WorkflowContext) -> list[Any]:
        await ctx.step.run("first", calls.append, "first")
        return [ctx.attempt, await ctx.step.run("second", second)]

    async with surviving_worker(client):
        handle = await two_steps.invoke(client)
        with pytest.raises(polos.StepError):
            await handle.result(30)
        is_repaired = True
        assert await runs.retry(client, handle.id) in ("queued", "running")
        assert await handle.result(30) == [2, "up"]
        with pytest.raises(polos.InvalidStateError):
            await runs.retry(client, handle.id)
    assert calls == ["first", "second", "second"]


async def test_sync_handlers_fail_and_are_retried_alike(client: PolosClient) -> None:
    calls: list[int] = []

    @workflow(retries=2, backoff=0)
    def flaky(ctx: SyncWorkflowContext) -> str:
        ctx.step.run("once", calls.append, ctx.attempt)
        if ctx.attempt < 3:
            raise ConnectionError
        return "there"

    async with surviving_worker(client):
        assert await flaky.run(client, timeout=30) == "there"
    assert calls == [1]
