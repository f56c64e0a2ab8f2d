"""Sleeping handlers: when they give up their task, and what they keep otherwise."""

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta

import polos.testing
from polos import PolosClient, SyncWorkflowContext, Worker, WorkflowContext, runs, workflow

START = "2026-01-01T00:30+00:00"
HOUR = timedelta(hours=1)


async def test_a_sleep_at_the_same_time_as_another_keeps_the_handler_in_memory() -> None:
    entered: list[str] = []

    @workflow
    async def patient(ctx: WorkflowContext) -> None:
        entered.append(ctx.run_id)
        await ctx.step.gather(ctx.step.sleep("short", HOUR), ctx.step.sleep("long", 2 * HOUR))

    async with polos.testing.clock(START) as t:
        handle = await patient.invoke(t.client)
        await t.advance(hours=3)
        await handle.result()
    assert len(entered) == 1


async def test_a_sleep_in_a_step_does_not_unwind_the_step() -> None:
    called: list[str] = []

    @workflow
    async def patient(ctx: WorkflowContext) -> str:
        async def wait_and_see() -> str:
            called.append("begun")
            await ctx.step.sleep("an hour", HOUR)
            return "seen"

        return await ctx.step.run("wait", wait_and_see)

    async with polos.testing.clock(START) as t:
        handle = await patient.invoke(t.client)
        await t.advance(hours=2)
        assert await handle.result() == "seen"
    assert called == ["begun"]


async def test_a_sync_handler_that_waits_beside_its_own_thread_is_called_once(
    client: PolosClient,
) -> None:
    entered: list[str] = []
    reached, proceed = threading.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    @workflow
    async def slow() -> None:
        reached.set()
        await proceed.wait()

    @workflow
    async def second() -> str:
        # Only after the parent waits for it, and has seen that it has not ended.
        while "second" not in [step.name for step in (await runs.get(client, entered[0])).steps]:
            pass
        for _ in range(100):
            await asyncio.sleep(0)
        return "done" if await runs.get(client, entered[0]) else ""

    @workflow
    def parent(ctx: SyncWorkflowContext) -> str:
        entered.append(ctx.run_id)
        thread = threading.Thread(target=ctx.step.invoke, args=(slow,))
        thread.start()
        assert reached.wait(30)
        answer = ctx.step.invoke(second)
        loop.call_soon_threadsafe(proceed.set)
        thread.join()
        return answer

    async with Worker(client, app="tests"):
        assert await parent.run(client, timeout=30) == "done"
    assert len(entered) == 1


async def test_a_handler_that_sleeps_in_memory_lends_its_permit_to_others() -> None:
    @workflow
    async def patient(ctx: WorkflowContext) -> None:
        await ctx.step.gather(ctx.step.sleep("a", HOUR), ctx.step.sleep("b", HOUR))

    @workflow
    async def quick() -> None: ...

    async with polos.testing.clock(START, concurrency=1) as t:
        first = await patient.invoke(t.client)
        await t.advance(minutes=1)
        second = await quick.invoke(t.client)
        await t.advance(seconds=1)
        assert [await first.status(), await second.status()] == ["running", "succeeded"]
