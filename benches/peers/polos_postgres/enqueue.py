"""Runs enqueued on a PostgreSQL server: in one transaction, and by callers at once."""

import asyncio
import time

import side
from polos import PolosClient, Worker, WorkflowContext, workflow

options = side.options(url="", count=20_000, at_once=1_000)


@workflow(id="nothing")
async def nothing(ctx: WorkflowContext, number: int) -> None:
    return None


async def main() -> None:
    async with PolosClient(options.url) as client:
        # Registers the workflow; nothing must be executed during the measurement.
        async with Worker(client):
            pass
        begun = time.perf_counter()
        handles = await nothing.invoke_many(client, range(options.count))
        many = time.perf_counter() - begun
        assert len(handles) == options.count
        begun = time.perf_counter()
        for first in range(0, options.count, options.at_once):
            numbers = range(first, first + options.at_once)
            await asyncio.gather(*(nothing.invoke(client, number) for number in numbers))
        single = time.perf_counter() - begun
    side.report(
        many_per_s=side.rate(options.count, many), single_per_s=side.rate(options.count, single)
    )


asyncio.run(main())
