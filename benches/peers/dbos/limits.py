"""Workflows that do nothing, in a queue with a concurrency of 10: workflows a second.

A queue is polled once a second by default; here ten times a second.
"""

import asyncio
import time

import setup
from dbos import DBOS

import side

options = side.options(url="", count=1_000, limit=10, polling=0.1)


@DBOS.workflow()
async def nothing() -> None:
    return None


async def main() -> None:
    setup.configure(options.folder, store=options.url)
    DBOS.launch()
    queue = await DBOS.register_queue_async(
        "bench", global_concurrency=options.limit, polling_interval_sec=options.polling
    )
    begun = time.perf_counter()
    handles = [await queue.enqueue_async(nothing) for _ in range(options.count)]
    queued = time.perf_counter() - begun
    begun = time.perf_counter()
    for handle in handles:
        await handle.get_result()
    seconds = time.perf_counter() - begun
    DBOS.destroy()
    # The queue is processed while it is filled.
    side.report(runs_per_s=side.rate(options.count, queued + seconds))


asyncio.run(main())
