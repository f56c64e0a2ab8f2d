"""Event loops other than asyncio's own."""

from __future__ import annotations

import asyncio
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from polos import PolosClient, SchedulePayload, Worker, WorkflowContext, schedules, workflow


async def same(number: int) -> int:
    return number


@pytest.mark.skipif(sys.platform == "win32", reason="uvloop has no Windows")
def test_a_worker_works_on_uvloop(database: Path) -> None:
    import uvloop

    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, uvloop.Loop)
        fired: asyncio.Queue[SchedulePayload] = asyncio.Queue()

        @workflow(id="tick", schedule=True)
        async def tick(ctx: WorkflowContext, payload: SchedulePayload) -> None:
            fired.put_nowait(payload)

        @workflow(id="total")
        async def total(ctx: WorkflowContext, numbers: list[int]) -> int:
            assert asyncio.get_running_loop() is loop
            parts = [
                await ctx.step.run(f"add-{place}", same, number)
                for place, number in enumerate(numbers)
            ]
            await ctx.step.sleep("rest", timedelta(milliseconds=1))
            return await ctx.step.run("sum", sum, parts)  # sync: in a thread

        async with PolosClient(database) as client, Worker(client):
            assert await total.run(client, [1, 2, 3]) == 6
            totals = await asyncio.gather(*(total.run(client, [n, n]) for n in range(50)))
            assert totals == [2 * n for n in range(50)]
            id = await schedules.create(client, tick, every=timedelta(seconds=1))
            payload = await asyncio.wait_for(fired.get(), 30)
            assert payload.schedule_id == id

    loop = uvloop.new_event_loop()
    try:
        loop.run_until_complete(main())
    finally:
        loop.close()


class LoopWithoutSockets(asyncio.SelectorEventLoop):
    """Can't watch file descriptors, like the usual loop on Windows."""

    def add_reader(self, fd: Any, callback: Any, *args: Any) -> None:
        raise NotImplementedError

    def remove_reader(self, fd: Any) -> bool:
        raise NotImplementedError


def test_a_worker_works_on_a_loop_that_cannot_watch_a_socket(database: Path) -> None:
    async def main() -> None:
        @workflow(id="total")
        async def total(ctx: WorkflowContext, numbers: list[int]) -> int:
            parts = [
                await ctx.step.run(f"add-{place}", same, number)
                for place, number in enumerate(numbers)
            ]
            return await ctx.step.run("sum", sum, parts)

        async with PolosClient(database) as client, Worker(client):
            assert await total.run(client, [1, 2, 3]) == 6
            totals = await asyncio.gather(*(total.run(client, [n, n]) for n in range(20)))
            assert totals == [2 * n for n in range(20)]

    loop = LoopWithoutSockets()
    try:
        loop.run_until_complete(main())
    finally:
        loop.close()


def test_a_loop_that_cannot_watch_a_socket_may_be_closed_during_requests(
    database: Path,
) -> None:
    """Later answers are dropped, and the next loop gets its own answers."""
    with PolosClient(database) as client:
        for _ in range(3):
            loop = LoopWithoutSockets()
            task = loop.create_task(schedules.list(client))
            loop.run_until_complete(asyncio.sleep(0))
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            loop.close()
        loop = LoopWithoutSockets()
        try:
            assert loop.run_until_complete(schedules.list(client)) == []
        finally:
            loop.close()
