"""Code of the application around every execution of a handler."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import polos.testing
from polos import (
    InvalidArgumentError,
    InvalidStateError,
    PermanentError,
    PolosClient,
    SyncWorkflowContext,
    Worker,
    WorkflowContext,
    runs,
    workflow,
)
from polos.workflow import isolated_registry

START = "2026-01-01T00:30+00:00"


@pytest.fixture
def seen() -> list[str]:
    return []


@pytest.fixture
def outer(seen: list[str]) -> Any:
    async def outer(call_next: Callable[[], Any], ctx: WorkflowContext) -> Any:
        seen.append(f"outer {ctx.workflow_id} {ctx.attempt}")
        try:
            return await call_next()
        except BaseException as error:
            seen.append(f"outer saw {type(error).__name__}")
            raise
        finally:
            seen.append("outer left")

    return outer


@pytest.fixture
def inner(seen: list[str]) -> Any:
    async def inner(call_next: Callable[[], Any], ctx: WorkflowContext) -> Any:
        seen.append("inner")
        return f"<{await call_next()}>"

    return inner


async def test_it_wraps_async_handlers_in_order(
    client: PolosClient, seen: list[str], outer: Any, inner: Any
) -> None:
    @workflow
    async def greet(ctx: WorkflowContext, name: str) -> str:
        seen.append("handler")
        return f"hello {name}"

    async with Worker(client, app="tests", middleware=[outer, inner]):
        assert await greet.run(client, "ada", timeout=60) == "<hello ada>"
    assert seen == ["outer greet 1", "inner", "handler", "outer left"]


async def test_sync_handlers_have_both_kinds(
    client: PolosClient, seen: list[str], outer: Any
) -> None:
    local = threading.local()

    def session(call_next: Callable[[], Any], ctx: SyncWorkflowContext) -> Any:
        local.session = ctx.run_id
        try:
            return call_next()
        finally:
            seen.append("closed")

    @workflow
    def uses_session(ctx: SyncWorkflowContext) -> bool:
        seen.append("handler")
        return bool(local.session == ctx.run_id)

    @workflow
    def without_context() -> bool:
        return hasattr(local, "session")

    @workflow
    async def on_the_loop() -> bool:
        return hasattr(local, "session")

    async with Worker(client, app="tests", middleware=[session, outer]):
        assert await uses_session.run(client, timeout=60) is True
        assert seen == ["outer uses_session 1", "handler", "closed", "outer left"]
        assert await without_context.run(client, timeout=60) is True
        assert await on_the_loop.run(client, timeout=60) is False


async def test_an_object_or_a_partial_is_a_middleware_too(client: PolosClient) -> None:
    class Adds:
        def __init__(self, number: int) -> None:
            self.number = number

        async def __call__(self, call_next: Callable[[], Any], ctx: WorkflowContext) -> Any:
            return await call_next() + self.number

    async def add(number: int, call_next: Callable[[], Any], ctx: WorkflowContext) -> Any:
        return await call_next() + number

    @workflow
    async def zero() -> int:
        return 0

    async with Worker(client, app="tests", middleware=[Adds(1), partial(add, 2)]):
        assert await zero.run(client, timeout=60) == 3


async def test_it_sees_failures_and_every_execution(seen: list[str], outer: Any) -> None:
    @workflow(retries=1)
    async def wakes(ctx: WorkflowContext) -> str:
        await ctx.step.sleep("night", timedelta(hours=8))
        if ctx.attempt == 1:
            raise OSError("again")
        return "done"

    async with polos.testing.clock(START, middleware=[outer]) as t:
        assert await wakes.run(t.client) == "done"
    assert seen == [
        *("outer wakes 1", "outer saw HandlerParked", "outer left"),
        *("outer wakes 1", "outer saw OSError", "outer left"),
        *("outer wakes 2", "outer left"),
    ]


async def test_what_it_raises_is_the_failure_of_the_run(client: PolosClient) -> None:
    async def closed(call_next: Callable[[], Any], ctx: WorkflowContext) -> Any:
        raise PermissionError(f"{ctx.workflow_id} is closed")

    @workflow
    async def never() -> None: ...

    async with Worker(client, app="tests", middleware=[closed]):
        with pytest.raises(PermissionError, match="never is closed"):
            await never.run(client, timeout=60)


async def test_a_payload_that_does_not_fit_is_seen_too(
    client: PolosClient, seen: list[str], outer: Any
) -> None:
    with isolated_registry():
        workflow(id="later")(_anything)
        handle = await runs.invoke(client, "later", "text")

    @workflow(id="later")
    async def later(ctx: WorkflowContext, number: int) -> None: ...

    async with Worker(client, app="tests", middleware=[outer]):
        with pytest.raises(PermanentError):
            await handle.result(60)
    assert seen == ["outer later 1", "outer saw PermanentError", "outer left"]


async def _anything(ctx: WorkflowContext, payload: Any) -> None: ...


async def test_the_handler_is_called_once(client: PolosClient) -> None:
    async def twice(call_next: Callable[[], Any], ctx: WorkflowContext) -> Any:
        await call_next()
        return await call_next()

    entries = []

    @workflow
    async def counted() -> None:
        entries.append(1)

    async with Worker(client, app="tests", middleware=[twice]):
        with pytest.raises(InvalidStateError, match="middleware `twice` called `call_next` twice"):
            await counted.run(client, timeout=60)
    assert entries == [1]


def _one(call_next: Any) -> None: ...


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (5, "middleware: `5` given, expected a list"),
        ("app:name", "expected a list"),
        (
            [5],
            r"middleware: `5` given, expected functions `async def middleware\(call_next, ctx\)`",
        ),
        ([Worker], "expected functions"),
        ([_one], r"cannot be called with `\(call_next, ctx\)`"),
    ],
)
async def test_an_invalid_middleware_is_refused(
    client: PolosClient, given: Any, message: str
) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        Worker(client, middleware=given)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("guarded_1", "--middleware: `guarded_1` given, expected `module:name`"),
        ("guarded_2:nobody", "--middleware: `guarded_2` has no `nobody`"),
        ("guarded_3.nowhere:timed", "no module `guarded_3.nowhere` here or installed"),
    ],
)
def test_an_unknown_name_is_refused(
    command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    app = f"{name[:9]}.py"  # each its own, because a module is imported once
    Path(app).write_text("import polos\n\n@polos.workflow\nasync def job(): ...\n")
    result = command("run", app, "--middleware", name)
    assert result.code == 2
    assert message in result.err
