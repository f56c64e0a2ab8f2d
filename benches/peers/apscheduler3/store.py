"""Makes a database with jobs that are not due, on which the measured program starts."""

import time

import setup
import stored

import side

options = side.options(count=1_000)


def main() -> None:
    begun = time.perf_counter()
    scheduler = setup.scheduler(options.folder, "sqlite", synced=False)
    scheduler.start(paused=True)
    for number in range(options.count):
        minute, hour, day, month = side.yearly(number)
        when = {"trigger": "cron", "minute": minute, "hour": hour, "day": day, "month": month}
        scheduler.add_job(stored.job, id=str(number), **when)
    scheduler.shutdown()
    side.report(seconds=time.perf_counter() - begun)


async def _run() -> None:
    main()


if __name__ == "__main__":
    import asyncio

    asyncio.run(_run())
