"""Workers without work on one PostgreSQL server: what they send, and their connections.

Each has a client and connections of its own, as if it were a process of its own.
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
