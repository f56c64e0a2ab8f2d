"""Jobs that are all due at one instant: due -> coroutines started."""

import asyncio
import time
from contextlib import suppress

import setup

import side

options = side.options(count=1_000, lead=1.0, jobs="memory", trigger="every")
starts: list[float] = []
all_started = asyncio.Event()


async def job() -> None:
    starts.append(time.time())
    if len(starts) == options.count:
        all_started.set()


async def main() -> None:
    due = side.next_due(options.lead, options.trigger)
    at = side.aware(due)
    when = {"trigger": "interval", "hours": 1, "start_date": at}
    if options.trigger == "cron":
        when = {"trigger": "cron", "minute": at.minute, "hour": at.hour}
    if options.jobs == "sqlite":
        filling = setup.scheduler(options.folder, options.jobs, synced=False)
        filling.start(paused=True)
        for number in range(options.count):
            filling.add_job(job, id=str(number), **when)
        filling.shutdown()
        scheduler = setup.scheduler(options.folder, options.jobs)
    else:
        scheduler = setup.scheduler(options.folder, options.jobs)
        for number in range(options.count):
            scheduler.add_job(job, id=str(number), **when)
    scheduler.start()
    side.due_in_time(due)
    with suppress(asyncio.TimeoutError):
        await asyncio.wait_for(all_started.wait(), due - time.time() + 90)
    scheduler.shutdown(wait=False)
    side.herd(due, starts, options.count)


asyncio.run(main())
