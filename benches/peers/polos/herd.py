"""Schedules that are all due at one instant: due -> handlers started."""

import asyncio
import time
from datetime import timedelta

import side
from polos import PolosClient, Worker, schedules, workflow

options = side.options(url="", count=1_000, lead=1.0, trigger="every")
starts: list[float] = []
all_started = asyncio.Event()


@workflow(id="herd", schedule=True)
async def handler() -> None:
    starts.append(time.time())
    if len(starts) == options.count:
        all_started.set()


async def main() -> None:
    due = side.next_due(options.lead, options.trigger)
    at = side.aware(due)
    when = {"every": timedelta(hours=1), "start_at": at}
    if options.trigger == "cron":
        when = {"cron": f"{at.minute} {at.hour} * * *"}
    herd = {"workflow": handler, **when}
    async with PolosClient(side.database(options)) as client:
        await schedules.create_many(client, [{**herd, "key": str(n)} for n in range(options.count)])
        async with Worker(client):
            side.due_in_time(due)
            await asyncio.wait_for(all_started.wait(), due - time.time() + 60)
    side.herd(due, starts, options.count)


asyncio.run(main())
