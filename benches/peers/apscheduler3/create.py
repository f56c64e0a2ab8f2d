"""Jobs added to a running scheduler one by one, which is the only way."""

import asyncio
import time

import setup

import side

options = side.options(alone=300)


async def job() -> None:
    raise AssertionError("not due today")


async def main() -> None:
    scheduler = setup.scheduler(options.folder, "sqlite")
    scheduler.start()
    begun = time.perf_counter()
    for number in range(options.alone):
        scheduler.add_job(job, trigger="cron", hour=8, minute=0, id=str(number))
    spent = time.perf_counter() - begun
    scheduler.shutdown(wait=False)
    side.report(alone_per_s=side.rate(options.alone, spent))


asyncio.run(main())
