"""A backlog of runs that do nothing, executed by one worker on a PostgreSQL server."""

import asyncio
import time
from typing import Any

import side
from polos import PolosClient, Worker, WorkflowContext, runs, workflow

options = side.options(url="", count=20_000)
UNFINISHED: Any = ("queued", "running", "waiting")

left = options.count
executed = asyncio.Event()


@workflow(id="nothing")
async def nothing(ctx: WorkflowContext, number: int) -> None:
    global left
    left -= 1
    if left == 0:
        executed.set()


async def main() -> None:
    async with PolosClient(options.url) as client:
        # Registers the workflow; nothing is executed yet.
        async with Worker(client):
            pass
        await nothing.invoke_many(client, range(options.count))
        begun = time.perf_counter()
        async with Worker(client):
            await executed.wait()
            # The last completions are recorded together; each look costs little.
            while await runs.list(client, status=UNFINISHED, limit=1):  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            seconds = time.perf_counter() - begun
        finished = await runs.list(client, workflow="nothing", status="succeeded", limit=1)
        assert finished, "results are kept"
    side.report(per_s=side.rate(options.count, seconds))


asyncio.run(main())
