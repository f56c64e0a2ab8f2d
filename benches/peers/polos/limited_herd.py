"""The lateness of a schedule beside a herd under a limit."""

import asyncio
import time
from datetime import timedelta
from typing import Any

import side
from polos import PolosClient, SchedulePayload, Worker, workflow

options = side.options(url="", count=10_000, limit=50, hold=0.5, fires=10)
lateness: list[float] = []
enough = asyncio.Event()


@workflow(id="herd", concurrency=options.limit)
async def herd() -> None:
    await asyncio.sleep(options.hold)


@workflow(id="tick", schedule={"every": timedelta(seconds=1)})
async def tick(ctx: Any, payload: SchedulePayload) -> None:
    lateness.append((time.time() - payload.timestamp.timestamp()) * 1e3)
    if len(lateness) >= options.fires:
        enough.set()


async def main() -> None:
    async with PolosClient(side.database(options)) as client:
        if options.count:
            await herd.invoke_many(client, [None] * options.count)
        async with Worker(client, drain=0):
            await enough.wait()
    side.report(lateness_ms=sorted(late for late in lateness[1:] if late >= 0))


asyncio.run(main())
