"""Which failures are retried: `retry_on` and `PermanentError`, of runs and of steps."""

from __future__ import annotations

import asyncio
import builtins
import logging
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import process_functions as f
import pytest

import polos.testing
from polos import (
    Backoff,
    InvalidArgumentError,
    PermanentError,
    PolosClient,
    RunHandle,
    StepError,
    SyncWorkflowContext,
    Worker,
    WorkflowContext,
    runs,
    workflow,
)
from polos.testing import VirtualTime

START = "2026-01-01T00:30+00:00"


# The options of a step in a separate process that is retried for some failures.
IN_A_PROCESS: dict[str, Any] = {"process": True, "backoff": 0, "retry_on": OSError}


class NotFound(Exception):
    """Not worth a retry."""


class Declined(PermanentError):
    """A permanent failure that the application defines."""


class Locked(ConnectionError):
    """An exception that can be recorded but not rebuilt."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.lock = threading.Lock()


class LockedForever(PermanentError):
    """The same, permanent."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.lock = threading.Lock()


def is_busy(error: Exception) -> bool:
    """A function for `retry_on`."""
    return "busy" in str(error)


async def outcome(t: VirtualTime, handle: RunHandle[Any]) -> tuple[str, int, str | None]:
    """Wait for all retries; return the run's status, its attempt, and why it wasn't retried."""
    await t.advance(hours=1)
    run = await runs.get(t.client, handle.id)
    return run.status, run.attempt, None if run.error is None else run.error.not_retried


# --- runs ------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_async", [True, False], ids=["async", "sync"])
@pytest.mark.parametrize(
    ("retry_on", "error", "attempts", "reason"),
    [
        (None, NotFound("x"), 3, None),
        (OSError, ConnectionError("x"), 3, None),
        ((KeyError, OSError), ConnectionError("x"), 3, None),
        (OSError, NotFound("x"), 1, "`retry_on` does not include `NotFound`"),
        ((KeyError, OSError), ValueError("x"), 1, "`retry_on` does not include `ValueError`"),
        (is_busy, NotFound("busy"), 3, None),
        (is_busy, NotFound("gone"), 1, "`retry_on` returned false for `NotFound`"),
        (None, PermanentError("x"), 1, "it is a `PermanentError`"),
        (None, Declined("x"), 1, "it is a `Declined`"),
        (Exception, Declined("x"), 1, "it is a `Declined`"),
        (lambda error: True, Declined("x"), 1, "it is a `Declined`"),
    ],
)
async def test_a_run_is_retried_only_for_the_failures_that_its_workflow_names(
    retry_on: Any, error: Exception, attempts: int, reason: str | None, is_async: bool
) -> None:
    calls: list[int] = []

    if is_async:

        @workflow(id="failing", retries=2, retry_on=retry_on)
        async def failing(ctx: WorkflowContext) -> None:
            calls.append(ctx.attempt)
            raise error
    else:

        @workflow(id="failing", retries=2, retry_on=retry_on)
        def failing(ctx: SyncWorkflowContext) -> None:
            calls.append(ctx.attempt)
            raise error

    async with polos.testing.clock(START) as t:
        handle = await failing.invoke(t.client)
        assert await outcome(t, handle) == ("failed", attempts, reason)
    assert len(calls) == attempts


async def test_retry_on_applies_to_each_failure_again() -> None:
    errors = [ConnectionError("down"), NotFound("no such user")]

    @workflow(retries=5, retry_on=OSError)
    async def failing() -> None:
        raise errors.pop(0)

    async with polos.testing.clock(START) as t:
        handle = await failing.invoke(t.client)
        reason = "`retry_on` does not include `NotFound`"
        assert await outcome(t, handle) == ("failed", 2, reason)


async def test_the_log_and_on_failure_say_that_a_failure_is_not_retried(
    caplog: pytest.LogCaptureFixture,
) -> None:
    failures: list[str] = []

    @workflow(id="failing", retries=3, on_failure=lambda failure: failures.append(failure.run_id))
    async def failing() -> None:
        raise PermanentError("the card was declined")

    async with polos.testing.clock(START) as t:
        handle = await failing.invoke(t.client)
        await t.advance(hours=1)
    (line,) = [record for record in caplog.records if "failed in attempt" in record.message]
    assert line.levelno == logging.ERROR
    assert line.message.endswith(
        "failed in attempt 1 of 4; it is not retried: it is a `PermanentError`"
    )
    assert failures == [handle.id]


async def test_a_failure_without_retries_has_nothing_to_explain(
    caplog: pytest.LogCaptureFixture,
) -> None:
    @workflow(retry_on=OSError)
    async def failing() -> None:
        raise NotFound("x")

    async with polos.testing.clock(START) as t:
        handle = await failing.invoke(t.client)
        assert await outcome(t, handle) == ("failed", 1, None)
    assert "not retried" not in caplog.text


@pytest.mark.parametrize(
    ("retry_on", "attempts"), [(TimeoutError, 3), (polos.RunTimeoutError, 3), (NotFound, 1)]
)
async def test_a_run_that_takes_too_long_is_a_timeout_error(retry_on: Any, attempts: int) -> None:
    @workflow(retries=2, timeout=5, retry_on=retry_on)
    async def slow() -> None:
        await asyncio.Event().wait()

    async with polos.testing.clock(START) as t:
        handle = await slow.invoke(t.client)
        status, attempt, _ = await outcome(t, handle)
    assert (status, attempt) == ("failed", attempts)


async def test_a_permanent_error_keeps_its_cause(client: PolosClient) -> None:
    @workflow(id="failing", retries=2)
    async def failing() -> None:
        try:
            raise NotFound("no such user")
        except NotFound as error:
            raise PermanentError("the account is gone") from error

    async with Worker(client):
        handle = await failing.invoke(client)
        with pytest.raises(PermanentError, match="the account is gone"):
            await handle.result(30)
    run = await runs.get(client, handle.id)
    assert run.attempt == 1
    assert run.error is not None
    assert run.error.not_retried == "it is a `PermanentError`"
    assert run.error.cause is not None
    assert run.error.cause.type.endswith("NotFound")


@pytest.mark.parametrize(("retry_on", "attempts"), [(is_busy, 1), (Exception, 1), (None, 3)])
async def test_a_function_is_not_called_for_a_base_exception(retry_on: Any, attempts: int) -> None:
    @workflow(retries=2, retry_on=retry_on)
    async def failing() -> None:
        raise asyncio.CancelledError("busy")

    async with polos.testing.clock(START) as t:
        handle = await failing.invoke(t.client)
        status, attempt, _ = await outcome(t, handle)
    assert (status, attempt) == ("failed", attempts)


async def test_a_function_that_fails_decides_nothing(caplog: pytest.LogCaptureFixture) -> None:
    @workflow(retries=2, retry_on=lambda error: error.response.status >= 500)  # type: ignore[attr-defined]
    async def failing() -> None:
        raise NotFound("without a response")

    async with polos.testing.clock(START) as t:
        handle = await failing.invoke(t.client)
        assert await outcome(t, handle) == ("failed", 3, None)
    lines = [record for record in caplog.records if "`retry_on` failed" in record.message]
    assert [line.exc_info and line.exc_info[0] for line in lines] == [AttributeError] * 2


@pytest.mark.parametrize(("retry_on", "attempts"), [(OSError, 1), (MemoryError, 3), (None, 3)])
async def test_a_failure_that_cannot_be_described_is_a_memory_error(
    retry_on: Any, attempts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def describe(error: BaseException) -> dict[str, Any]:
        raise MemoryError

    @workflow(retries=2, retry_on=retry_on)
    async def failing() -> None:
        raise ConnectionError("x")

    monkeypatch.setattr("polos._runtime.reporter.error_record", describe)
    async with polos.testing.clock(START) as t:
        handle = await failing.invoke(t.client)
        status, attempt, _ = await outcome(t, handle)
    assert (status, attempt) == ("failed", attempts)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="exception groups")
@pytest.mark.parametrize(
    ("retry_on", "errors", "attempts"),
    [
        (None, [NotFound("x"), ConnectionError("x")], 3),
        (None, [NotFound("x"), Declined("x")], 1),
        (OSError, [ConnectionError("x"), TimeoutError("x")], 3),
        (OSError, [ConnectionError("x"), NotFound("x")], 1),
        (Exception, [ConnectionError("x"), NotFound("x")], 3),
        (Exception, [ConnectionError("x"), Declined("x")], 1),
        (is_busy, [NotFound("busy"), ConnectionError("busy")], 3),
        (is_busy, [NotFound("busy"), ConnectionError("x")], 1),
    ],
)
async def test_a_group_is_retried_only_if_each_of_its_members_is(
    retry_on: Any, errors: list[Exception], attempts: int
) -> None:
    group: Any = getattr(builtins, "ExceptionGroup", None)

    @workflow(retries=2, retry_on=retry_on)
    async def failing() -> None:
        raise group("several", [errors[0], group("inner", errors[1:])])

    async with polos.testing.clock(START) as t:
        handle = await failing.invoke(t.client)
        status, attempt, _ = await outcome(t, handle)
    assert (status, attempt) == ("failed", attempts)


# --- steps -----------------------------------------------------------------------------------


@pytest.mark.parametrize("is_async", [True, False], ids=["async", "sync"])
@pytest.mark.parametrize(
    ("retry_on", "error", "attempts", "reason"),
    [
        (Exception, NotFound("x"), 3, None),
        ((ConnectionError, TimeoutError), ConnectionError("x"), 3, None),
        (OSError, NotFound("x"), 1, "`retry_on` does not include `NotFound`"),
        (is_busy, NotFound("busy"), 3, None),
        (is_busy, NotFound("gone"), 1, "`retry_on` returned false for `NotFound`"),
        (Exception, Declined("x"), 1, "it is a `Declined`"),
    ],
)
async def test_a_step_is_retried_only_for_the_failures_that_it_names(
    retry_on: Any, error: Exception, attempts: int, reason: str | None, is_async: bool
) -> None:
    def fail() -> None:
        raise error

    if is_async:

        @workflow(id="stepping")
        async def stepping(ctx: WorkflowContext) -> None:
            await ctx.step.run("fail", fail, retries=2, retry_on=retry_on)
    else:

        @workflow(id="stepping")
        def stepping(ctx: SyncWorkflowContext) -> None:
            ctx.step.run("fail", fail, retries=2, retry_on=retry_on)

    async with polos.testing.clock(START) as t:
        handle = await stepping.invoke(t.client)
        await t.advance(hours=1)
        (step,) = await t.steps(handle)
        assert step.error is not None
        found = (step.status, step.attempt, step.error.not_retried)
        assert found == ("failed", attempts, reason)


@pytest.mark.parametrize(
    ("retry_on", "error", "attempts", "reason"),
    [
        (ConnectionError, ConnectionError("x"), 3, None),
        (ConnectionError, NotFound("x"), 1, "`retry_on` does not include `NotFound`"),
        (is_busy, NotFound("busy"), 3, None),
        (is_busy, NotFound("x"), 1, "`retry_on` returned false for `NotFound`"),
        (None, Declined("x"), 1, "it is a `Declined`"),
        (None, NotFound("x"), 3, None),
        (ConnectionError, Locked("x"), 3, None),
        (NotFound, Locked("x"), 1, "`retry_on` does not include `Locked`"),
        (None, LockedForever("x"), 1, "it is a `LockedForever`"),
    ],
)
@pytest.mark.parametrize("is_child", [False, True], ids=["step", "child"])
async def test_retry_on_looks_at_the_cause_of_a_step_error(
    retry_on: Any, error: Exception, attempts: int, reason: str | None, is_child: bool
) -> None:
    def fail() -> None:
        raise error

    @workflow(id="child")
    async def child(ctx: WorkflowContext) -> None:
        await ctx.step.run("fail", fail)

    @workflow(id="stepping", retries=2, retry_on=retry_on)
    async def stepping(ctx: WorkflowContext) -> None:
        await (ctx.step.invoke(child) if is_child else ctx.step.run("fail", fail))

    async with polos.testing.clock(START) as t:
        handle = await stepping.invoke(t.client)
        assert await outcome(t, handle) == ("failed", attempts, reason)


@pytest.mark.parametrize(
    ("retry_on", "error", "attempts"),
    [(OSError, ConnectionError("x"), 3), (OSError, NotFound("x"), 1), (None, Declined("x"), 1)],
)
async def test_retry_on_looks_at_the_cause_of_an_awaited_runs_step_error(
    retry_on: Any, error: Exception, attempts: int
) -> None:
    def fail() -> None:
        raise error

    @workflow(id="other")
    async def other(ctx: WorkflowContext) -> None:
        await ctx.step.run("fail", fail)

    clients: list[PolosClient] = []

    @workflow(id="awaiting", retries=2, retry_on=retry_on)
    async def awaiting() -> None:
        await (await other.invoke(clients[0])).result()

    async with polos.testing.clock(START) as t:
        clients.append(t.client)
        handle = await awaiting.invoke(t.client)
        status, attempt, _ = await outcome(t, handle)
    assert (status, attempt) == ("failed", attempts)


@pytest.mark.parametrize("error", [Declined("x"), LockedForever("x")], ids=["whole", "by name"])
async def test_retry_on_gives_the_same_answer_for_a_recorded_cause(error: Exception) -> None:
    calls: list[str] = []

    def fail() -> None:
        calls.append("called")
        raise error

    @workflow(id="stepping", retries=2)
    async def stepping(ctx: WorkflowContext) -> None:
        await ctx.step.run("fail", fail, retries=2)

    async with polos.testing.clock(START) as t:
        t.crash_at(workflow=stepping)  # the step's failure is recorded, the run's is not
        handle = await stepping.invoke(t.client)
        await t.advance(seconds=1)
        await t.restart()
        status, attempt, why = await outcome(t, handle)
    assert (status, attempt) == ("failed", 1)
    assert why is not None
    assert type(error).__name__ in why
    assert calls == ["called"]


async def test_a_recorded_retry_applies_after_a_crash_although_the_code_has_changed() -> None:
    retry_on: list[Any] = [OSError]
    attempts: list[str] = []

    def fail() -> str:
        attempts.append("")
        if len(attempts) == 1:
            raise ConnectionError("down")
        return "done"

    @workflow
    async def stepping(ctx: WorkflowContext) -> str:
        policy = retry_on[0]
        return await ctx.step.run("fail", fail, retries=1, backoff=60, retry_on=policy)

    async with polos.testing.clock(START) as t:
        handle = await stepping.invoke(t.client)
        await t.advance(seconds=1)
        await t.crash()
        retry_on[0] = NotFound
        await t.restart()
        await t.advance(hours=1)
        assert await handle.result() == "done"


async def test_a_recorded_failure_applies_after_a_crash_although_the_code_has_changed() -> None:
    retry_on: list[Any] = [NotFound]
    attempts: list[str] = []

    def fail() -> None:
        attempts.append("")
        raise ConnectionError("down")

    @workflow
    async def stepping(ctx: WorkflowContext) -> None:
        policy = retry_on[0]
        await ctx.step.run("fail", fail, retries=1, backoff=60, retry_on=policy)

    async with polos.testing.clock(START) as t:
        t.crash_at("fail", when="after_commit")
        handle = await stepping.invoke(t.client)
        await t.advance(seconds=1)
        retry_on[0] = OSError
        await t.restart()
        await t.advance(hours=1)
        with pytest.raises(StepError, match="failed once"):
            await handle.result()
    assert len(attempts) == 1


@pytest.mark.parametrize("is_retried", [True, False])
async def test_the_recorded_decision_about_a_run_applies_after_a_crash(is_retried: bool) -> None:
    decision = [is_retried]
    attempts: list[int] = []

    @workflow(retries=1, backoff=60, retry_on=lambda error: decision[0])
    async def failing(ctx: WorkflowContext) -> None:
        attempts.append(ctx.attempt)
        if ctx.attempt == 1:
            raise ConnectionError("down")

    async with polos.testing.clock(START) as t:
        handle = await failing.invoke(t.client)
        await t.advance(seconds=1)
        await t.crash()
        decision[0] = not is_retried
        await t.restart()
        await t.advance(hours=1)
        assert await handle.status() == ("succeeded" if is_retried else "failed")
    assert attempts == ([1, 2] if is_retried else [1])


async def test_steps_in_processes_follow_their_policies_on_a_database(
    client: PolosClient, tmp_path: Path
) -> None:
    @workflow(id="isolated", retries=1, backoff=0, retry_on=OSError)
    async def isolated(ctx: WorkflowContext, kind: str) -> Any:
        if kind == "down":
            path = str(tmp_path / "attempts")
            return await ctx.step.run("flaky", f.refuse_twice, path, **IN_A_PROCESS, retries=2)
        function = {"refused": f.refuse, "permanent": f.give_up}[kind]
        arguments = ["no"] if kind == "refused" else []
        return await ctx.step.run("final", function, *arguments, **IN_A_PROCESS, retries=3)

    async with Worker(client, app="tests", drain=0):
        assert await (await isolated.invoke(client, "down")).result(60) == 2
        for kind, why in [("refused", "does not include"), ("permanent", "PermanentError")]:
            handle = await isolated.invoke(client, kind)
            with pytest.raises(StepError):
                await handle.result(60)
            run = await runs.get(client, handle.id)
            [step] = run.steps
            assert (run.attempt, step.attempt) == (1, 1)
            assert step.error is not None
            assert why in str(step.error.not_retried)


async def test_a_run_and_its_step_follow_their_policies_on_a_database(client: PolosClient) -> None:
    calls: list[str] = []

    def fail(kind: str) -> None:
        calls.append(kind)
        raise ConnectionError("down") if kind == "down" else NotFound("no such user")

    @workflow(id="stepping", retries=1, backoff=0, retry_on=OSError)
    async def stepping(ctx: WorkflowContext, kind: str) -> None:
        short = Backoff(0)
        await ctx.step.run("fail", fail, kind, retries=1, backoff=short, retry_on=OSError)

    async with Worker(client):
        for kind in ("down", "gone"):
            handle = await stepping.invoke(client, kind)
            with pytest.raises(StepError):
                await handle.result(30)
    assert calls == ["down"] * 4 + ["gone"]


# --- invalid values --------------------------------------------------------------------------


async def retry_later(error: Exception) -> bool:
    return True


INVALID: list[tuple[Any, str]] = [
    (5, "`5` given, expected an exception class, a tuple of them, or a function"),
    ("OSError", "expected an exception class"),
    (int, "expected an exception class"),
    ((OSError, 5), "`5` given, expected an exception class"),
    ((), "an empty tuple given"),
    ([OSError, KeyError], r"write `\(OSError, KeyError,\)`"),
    (OSError("x"), "expected an exception class"),
    (Declined, "a `PermanentError` is never retried"),
    ((OSError, PermanentError), "a `PermanentError` is never retried"),
    (retry_later, "is an async function"),
    (lambda: True, "cannot be called with the exception alone"),
    (lambda error, attempt: True, "cannot be called with the exception alone"),
]


@pytest.mark.parametrize(("value", "message"), INVALID)
def test_an_invalid_value_is_rejected_at_the_decorator(value: Any, message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message) as caught:

        @workflow(id="failing", retries=2, retry_on=value)
        async def failing() -> None: ...

    assert str(caught.value).startswith("workflow `failing`, retry_on: ")


@pytest.mark.parametrize(("value", "message"), [*INVALID, (None, "expected an exception class")])
async def test_an_invalid_value_is_rejected_by_a_step(value: Any, message: str) -> None:
    called: list[str] = []

    @workflow
    async def stepping(ctx: WorkflowContext) -> None:
        await ctx.step.run("s", called.append, "x", retries=2, retry_on=value)

    async with polos.testing.clock(START) as t:
        handle = await stepping.invoke(t.client)
        await t.advance(seconds=1)
        with pytest.raises(InvalidArgumentError, match=message) as caught:
            await handle.result()
    assert str(caught.value).startswith("step `s`, retry_on: ")
    assert not called


@pytest.mark.parametrize(
    "value",
    [OSError, BaseException, (OSError, KeyError), is_busy, callable, "".endswith],
    ids=["class", "base", "tuple", "function", "in C", "method"],
)
def test_a_valid_value_is_kept(value: Callable[[Exception], bool]) -> None:
    @workflow(id="failing", retries=2, retry_on=value)
    async def failing() -> None: ...

    assert failing.retry_on is value
