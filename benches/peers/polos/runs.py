"""A workflow that does nothing, invoked and finished: runs a second."""

import asyncio
import time

import side
from polos import PolosClient, Worker, workflow

options = side.options(url="", alone=500, at_once=100, batches=20)


@workflow(id="nothing")
async def nothing() -> None:
    return None


async def main() -> None:
    async with PolosClient(side.database(options)) as client, Worker(client):
        begun = time.perf_counter()
        for _ in range(options.alone):
            await nothing.run(client)
        alone = time.perf_counter() - begun
        begun = time.perf_counter()
        for _ in range(options.batches):
            await asyncio.gather(*(nothing.run(client) for _ in range(options.at_once)))
        together = time.perf_counter() - begun
    side.report(
        alone_per_s=side.rate(options.alone, alone),
        together_per_s=side.rate(options.at_once * options.batches, together),
    )


asyncio.run(main())
