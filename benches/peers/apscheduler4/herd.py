"""Schedules that are all due at one instant: due -> coroutines started."""

import asyncio
import time

import setup
from apscheduler.triggers.interval import IntervalTrigger

import side

options = side.options(count=1_000, lead=1.0)
starts: list[float] = []
all_started = asyncio.Event()


async def job() -> None:
    starts.append(time.time())
    if len(starts) == options.count:
        all_started.set()


async def main() -> None:
    due = side.whole_second(options.lead)
    async with setup.scheduler(options.folder) as scheduler:
        await scheduler.configure_task("job", func=job, max_running_jobs=options.count)
        for number in range(options.count):
            trigger = IntervalTrigger(hours=1, start_time=side.aware(due))
            await scheduler.add_schedule("job", trigger, id=str(number))
        await scheduler.start_in_background()
        side.due_in_time(due)
        try:
            await asyncio.wait_for(all_started.wait(), due - time.time() + 90)
        finally:
            side.herd(due, starts, options.count)
        await scheduler.stop()


asyncio.run(main())
