"""Runs per second of an empty workflow, queued and then executed, with and without a limit.

At most one run of each of `--keys` keys, and `--limit` runs in total, are in progress; 0 for no
limit.
"""

import asyncio
import time
from typing import Any

import side
from polos import Invocation, Limit, PolosClient, Worker, workflow

options = side.options(url="", count=1_000, limit=10, keys=0, concurrency=1_000, rounds=3)
limit: Any = None
if options.keys:
    limit = Limit("bench", options.limit or None, per_key=1)
elif options.limit:
    limit = options.limit

done = asyncio.Event()
left = 0


@workflow(id="nothing", concurrency=limit)
async def nothing() -> None:
    global left
    left -= 1
    if not left:
        done.set()


async def main() -> None:
    global left
    seconds = []
    async with PolosClient(side.database(options)) as client:
        for _ in range(options.rounds):
            left = options.count
            done.clear()
            keys = [f"user-{n % options.keys}" if options.keys else None for n in range(left)]
            invocations = [Invocation(None, key=key) for key in keys]
            await nothing.invoke_many(client, invocations)
            begun = time.perf_counter()
            async with Worker(client, concurrency=options.concurrency):
                await done.wait()
                seconds.append(time.perf_counter() - begun)
    side.report(runs_per_s=side.rate(options.count, min(seconds)))


asyncio.run(main())
