"""Handlers that wait for other runs in every way, on workers with few permits and threads."""

from __future__ import annotations

import itertools
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from polos import PolosClient, SyncWorkflowContext, Worker, WorkflowContext, runs, workflow

DEPTH = 3
TIMEOUT = 60


def register(client: Callable[[], PolosClient]) -> dict[str, Any]:
    """Register a workflow for every way in which a handler can wait for another run.

    Each calls the workflow of the same name with one less, down to 0, and counts the levels.
    """
    made: dict[str, Any] = {}

    def add(function: Any) -> Any:
        made[function.__name__] = workflow(id=function.__name__)(function)
        return function

    @add
    async def async_step(ctx: WorkflowContext, level: int) -> int:
        return 0 if level == 0 else 1 + await ctx.step.invoke("async_step", level - 1)

    @add
    async def async_gather(ctx: WorkflowContext, level: int) -> int:
        if level == 0:
            return 0
        found = await ctx.step.gather(
            ctx.step.invoke("async_gather", level - 1, name="a"),
            ctx.step.invoke("async_gather", level - 1, name="b"),
        )
        return 1 + max(found)

    @add
    async def async_run(ctx: WorkflowContext, level: int) -> int:
        return 0 if level == 0 else 1 + await made["async_run"].run(client(), level - 1)

    @add
    async def async_handle(ctx: WorkflowContext, level: int) -> int:
        if level == 0:
            return 0
        handle = await made["async_handle"].invoke(client(), level - 1)
        return 1 + await handle.result(TIMEOUT)

    @add
    async def async_in_async_step(ctx: WorkflowContext, level: int) -> int:
        async def wait() -> int:
            return 1 + await made["async_in_async_step"].run(client(), level - 1)

        return 0 if level == 0 else await ctx.step.run("wait", wait)

    @add
    async def async_in_sync_step(ctx: WorkflowContext, level: int) -> int:
        def wait() -> int:
            handle = runs.sync.invoke(client(), "async_in_sync_step", level - 1)
            return 1 + int(handle.sync.result())

        return 0 if level == 0 else await ctx.step.run("wait", wait)

    @add
    def sync_step(ctx: SyncWorkflowContext, level: int) -> int:
        return 0 if level == 0 else 1 + ctx.step.invoke("sync_step", level - 1)

    @add
    def sync_handle(ctx: SyncWorkflowContext, level: int) -> int:
        if level == 0:
            return 0
        return 1 + int(runs.sync.invoke(client(), "sync_handle", level - 1).sync.result())

    @add
    def sync_in_sync_step(ctx: SyncWorkflowContext, level: int) -> int:
        def wait() -> int:
            handle = runs.sync.invoke(client(), "sync_in_sync_step", level - 1)
            return 1 + int(handle.sync.result(TIMEOUT))

        return 0 if level == 0 else ctx.step.run("wait", wait)

    @add
    def sync_in_async_step(ctx: SyncWorkflowContext, level: int) -> int:
        async def wait() -> int:
            return 1 + await made["sync_in_async_step"].run(client(), level - 1)

        return 0 if level == 0 else ctx.step.run("wait", wait)

    @add
    def sync_threads(ctx: SyncWorkflowContext, level: int) -> int:
        found: list[int] = []

        def wait(name: str) -> None:
            found.append(ctx.step.invoke("sync_threads", level - 1, name=name))

        threads = [threading.Thread(target=wait, args=[name]) for name in ("a", "b")]
        if level == 0:
            return 0
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return 1 + max(found)

    return made


@asynccontextmanager
async def workers(database: Any, count: int, **options: Any) -> AsyncIterator[PolosClient]:
    async with AsyncExitStack() as stack:
        clients = [stack.enter_context(PolosClient(database)) for _ in range(count)]
        for client in clients:
            await stack.enter_async_context(Worker(client, **options))
        yield clients[0]


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize(
    ("threads", "concurrency"), list(itertools.product([1, 2, 5], [1, 2, 5])), ids=str
)
async def test_waiting_handlers_complete_with_any_number_of_permits_and_threads(
    database: Path | str, threads: int, concurrency: int, count: int
) -> None:
    current: list[PolosClient] = []
    made = register(lambda: current[0])
    async with workers(database, count, threads=threads, concurrency=concurrency) as client:
        current.append(client)
        handles = [
            (name, level, await one.invoke(client, level))
            for name, one in made.items()
            for level in range(DEPTH + 1)
        ]
        ended = {(name, level): await handle.result(TIMEOUT) for name, level, handle in handles}
    assert ended == {(name, level): level for name, level, _ in handles}


async def test_a_hundred_sync_parents_with_default_options(database: Path | str) -> None:
    current: list[PolosClient] = []
    made = register(lambda: current[0])
    async with workers(database, 1) as client:
        current.append(client)
        handles = [
            await made[name].invoke(client, 1)
            for name in ("sync_step", "sync_handle")
            for _ in range(100)
        ]
        assert [await handle.result(TIMEOUT) for handle in handles] == [1] * 200
