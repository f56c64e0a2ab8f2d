"""Runs that are invoked in a process with a worker, which claims them when they are created."""

from __future__ import annotations

import asyncio
from typing import Any

from polos import PolosClient, RunHandle, Worker, WorkflowContext, runs, workflow


async def test_as_many_run_as_there_are_permits_and_the_others_wait(client: PolosClient) -> None:
    begun: asyncio.Queue[int] = asyncio.Queue()
    gate = asyncio.Event()

    @workflow
    async def waits(ctx: WorkflowContext, number: int) -> int:
        begun.put_nowait(number)
        await gate.wait()
        return number

    async with Worker(client, app="tests", concurrency=2):
        handles = [await waits.invoke(client, number) for number in range(4)]
        assert {await begun.get(), await begun.get()} == {0, 1}
        assert [await handle.status() for handle in handles] == [
            "running", "running", "queued", "queued",
        ]  # fmt: skip
        first = await runs.get(client, handles[0].id)
        assert first.started_at is not None
        assert first.attempt == 1
        gate.set()
        assert [await handle.result(30) for handle in handles] == [0, 1, 2, 3]


async def test_without_a_worker_here_it_waits_for_one(client: PolosClient) -> None:
    @workflow
    async def quick() -> str:
        return "done"

    handle = await quick.invoke(client)
    assert await handle.status() == "queued"
    async with Worker(client, app="tests"):
        assert await handle.result(30) == "done"


async def test_a_worker_of_another_client_on_the_same_database_has_it_too(
    client: PolosClient, database: Any
) -> None:
    @workflow
    async def quick() -> str:
        return "done"

    with PolosClient(database) as other:
        async with Worker(other, app="tests"):
            assert await quick.run(client, timeout=30) == "done"


async def test_many_at_once_are_no_more_than_there_are_permits(client: PolosClient) -> None:
    in_progress = 0
    most = 0

    @workflow
    async def counted() -> None:
        nonlocal in_progress, most
        in_progress += 1
        most = max(most, in_progress)
        await asyncio.sleep(0)
        in_progress -= 1

    async with Worker(client, app="tests", concurrency=5):
        await asyncio.gather(*(counted.run(client, timeout=60) for _ in range(200)))
    assert 2 <= most <= 5


async def test_runs_invoked_in_a_handler_get_the_remaining_permits(client: PolosClient) -> None:
    @workflow
    async def leaf(ctx: WorkflowContext, number: int) -> int:
        return number

    @workflow
    async def root(ctx: WorkflowContext) -> list[int]:
        return [await ctx.step.invoke(leaf, n, name=f"child-{n}") for n in range(3)]

    async with Worker(client, app="tests", concurrency=1):
        assert await root.run(client, timeout=30) == [0, 1, 2]


APP = """
    import asyncio
    import os
    import sys

    from polos import PolosClient, Worker, WorkflowContext, workflow

    @workflow(id="in-the-middle")
    async def in_the_middle(ctx: WorkflowContext) -> str:
        print("begun")
        if sys.argv[1] == "first":
            await asyncio.Event().wait()
        return f"{sys.argv[1]}, attempt {ctx.attempt}"

    async def main():
        async with PolosClient() as client, Worker(client, app="app", lease=2):
            print("ready")
            if sys.argv[1] == "first":
                print((await in_the_middle.invoke(client)).id)
            await asyncio.Event().wait()

    asyncio.run(main())
"""


async def test_a_run_continues_elsewhere_after_its_process_was_killed(
    start: Any, client: PolosClient
) -> None:
    first = start(APP, "first")
    first.wait_for_line("ready")
    first.wait_for_line("begun")
    run = (await runs.list(client, workflow="in-the-middle"))[0]
    assert run.status == "running"
    first.kill()
    start(APP, "second")
    handle: RunHandle[str] = RunHandle(client, run.id, str)
    assert await handle.result(30) == "second, attempt 1"
