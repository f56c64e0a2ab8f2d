"""One schedule a second: due -> first line of the coroutine."""

import asyncio
import time

import setup
from apscheduler import current_job
from apscheduler.triggers.interval import IntervalTrigger

import side

options = side.options(fires=20)
late: list[float] = []
enough = asyncio.Event()


async def job() -> None:
    now = time.time()
    due = current_job.get().scheduled_fire_time
    late.append((now - due.timestamp()) * 1e3)
    if len(late) == options.fires:
        enough.set()


async def main() -> None:
    first = side.whole_second(1.0)
    async with setup.scheduler(options.folder) as scheduler:
        await scheduler.configure_task("job", func=job, max_running_jobs=options.fires)
        trigger = IntervalTrigger(seconds=1, start_time=side.aware(first))
        await scheduler.add_schedule("job", trigger, id="lone")
        await scheduler.start_in_background()
        await asyncio.wait_for(enough.wait(), options.fires + 30)
        await scheduler.stop()
    fired = late[: options.fires]
    side.report(lateness_ms=fired, early=sum(each < 0 for each in fired))


asyncio.run(main())
