"""The cost of a fire on a database with many other schedules."""

import asyncio
import time
from datetime import timedelta
from pathlib import Path

import side
from polos import PolosClient, Worker, schedules, workflow

options = side.options(count=2_000, lead=1.0)
starts: list[float] = []
all_started = asyncio.Event()


@workflow(id="due", schedule=True)
async def due() -> None:
    starts.append(time.time())
    if len(starts) == options.count:
        all_started.set()


@workflow(id="stored", schedule=True)
async def stored() -> None:
    raise AssertionError("not due for a month")


async def main() -> None:
    instant = side.whole_second(options.lead)
    herd = {"workflow": due, "every": timedelta(hours=1), "start_at": side.aware(instant)}
    async with PolosClient(Path(options.folder) / "polos.db") as client:
        ids = await schedules.create_many(
            client, [{**herd, "key": str(n)} for n in range(options.count)]
        )
        async with Worker(client):
            side.due_in_time(instant)
            await asyncio.wait_for(all_started.wait(), instant - time.time() + 60)
        # The next round must find as many as this one.
        await asyncio.gather(*(schedules.delete(client, id) for id in ids))
    last = max(starts) - instant
    side.report(last_ms=last * 1e3, fire_us=last / options.count * 1e6, started=len(starts))


asyncio.run(main())
