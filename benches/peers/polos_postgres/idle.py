"""Idle workers on one PostgreSQL server: their statements and connections.

Each has its own client and connections, as if it were a separate process.
"""

import asyncio
import contextlib

import side
import wire
from polos import PolosClient, Worker, workflow

options = side.options(url="", workers=100, settle=25.0, seconds=30.0)


@workflow(id="nothing", schedule=True)
async def nothing() -> None:
    return None


async def main() -> None:
    with wire.Relay(options.url) as relay:
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(options.workers):
                client = await stack.enter_async_context(PolosClient(relay.url))
                await stack.enter_async_context(Worker(client))
            await asyncio.sleep(options.settle)
            before = relay.counts()
            await asyncio.sleep(options.seconds)
            after = relay.counts()
    per_s = {
        f"{name}_per_s": (after[name] - before[name]) / options.seconds
        for name in ("statements", "round_trips")
    }
    side.report(**per_s, connections_each=after["connections"] / options.workers)


asyncio.run(main())
