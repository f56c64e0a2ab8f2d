"""Schedules added to a running scheduler, one by one."""

import asyncio
import time

import setup
from apscheduler.triggers.cron import CronTrigger

import side

options = side.options(alone=200)


async def job() -> None:
    raise AssertionError("not due today")


async def main() -> None:
    async with setup.scheduler(options.folder) as scheduler:
        await scheduler.start_in_background()
        await scheduler.configure_task("job", func=job)
        begun = time.perf_counter()
        for number in range(options.alone):
            await scheduler.add_schedule("job", CronTrigger(hour=8, minute=0), id=str(number))
        spent = time.perf_counter() - begun
        await scheduler.stop()
    side.report(alone_per_s=side.rate(options.alone, spent))


asyncio.run(main())
