"""Code that uses ``ctx`` after the end of its run."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from polos import (
    InvalidStateError,
    PolosClient,
    PolosError,
    SyncWorkflowContext,
    Worker,
    WorkflowContext,
    workflow,
)


async def take_step(ctx: WorkflowContext) -> None:
    await ctx.step.run("late", print)


async def take_sleep(ctx: WorkflowContext) -> None:
    await ctx.step.sleep("late", timedelta(hours=1))


async def take_time(ctx: WorkflowContext) -> None:
    await ctx.step.now("late")


async def take_patch(ctx: WorkflowContext) -> None:
    await ctx.patched("late")


@pytest.mark.parametrize("use", [take_step, take_sleep, take_time, take_patch])
@pytest.mark.parametrize("is_failing", [False, True])
async def test_a_task_that_outlives_its_run_gets_an_error(
    client: PolosClient, use: Callable[[WorkflowContext], Awaitable[None]], is_failing: bool
) -> None:
    has_ended = asyncio.Event()
    late: list[asyncio.Task[None]] = []

    async def use_late(ctx: WorkflowContext) -> None:
        await has_ended.wait()
        await use(ctx)

    @workflow(id="leaves-a-task")
    async def leaves_a_task(ctx: WorkflowContext) -> None:
        late.append(asyncio.create_task(use_late(ctx)))
        if is_failing:
            raise ValueError("wrong")

    async with Worker(client):
        handle = await leaves_a_task.invoke(client)
        if is_failing:
            with pytest.raises(ValueError, match="wrong"):
                await handle.result()
        else:
            await handle.result()
        has_ended.set()
        outcome = "failed" if is_failing else "succeeded"
        expected = rf"run `{handle.id}` has ended \(attempt 1 {outcome}\)"
        with pytest.raises(InvalidStateError, match=expected):
            await late[0]


async def test_a_step_in_progress_when_the_handler_returns_is_reported(
    client: PolosClient,
) -> None:
    has_begun, has_ended = asyncio.Event(), asyncio.Event()
    late: list[asyncio.Task[Any]] = []

    async def work() -> None:
        has_begun.set()
        await has_ended.wait()

    @workflow(id="leaves-a-step")
    async def leaves_a_step(ctx: WorkflowContext) -> None:
        late.append(asyncio.create_task(ctx.step.run("late", work)))
        await has_begun.wait()

    async with Worker(client):
        handle = await leaves_a_step.invoke(client)
        await handle.result()
        has_ended.set()
        with pytest.raises(InvalidStateError, match="has ended"):
            await late[0]


async def test_a_thread_that_outlives_its_run_gets_an_error(
    client: PolosClient,
) -> None:
    left: list[SyncWorkflowContext] = []

    @workflow(id="leaves-a-thread")
    def leaves_a_thread(ctx: SyncWorkflowContext) -> None:
        left.append(ctx)

    def use_late() -> None:
        left[0].step.run("late", print)

    async with Worker(client):
        await leaves_a_thread.run(client)
        with pytest.raises(PolosError, match="has ended"):
            await asyncio.to_thread(use_late)
