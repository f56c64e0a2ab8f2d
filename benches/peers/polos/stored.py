"""A worker on a database with many schedules that are not due: start, memory, and idle cost."""

import asyncio
from pathlib import Path

import rest
import side
from polos import PolosClient, Worker, workflow

options = side.options(idle=3.0)


@workflow(id="stored", schedule=True)
async def stored() -> None:
    raise AssertionError("not due for a month")


async def main() -> None:
    database = Path(options.folder) / "polos.db"
    async with PolosClient(database) as client, Worker(client):
        ready = side.since_start()
        figures = await asyncio.to_thread(rest.watched, database, options.idle)
    side.report(ready_s=ready, **figures)


asyncio.run(main())
