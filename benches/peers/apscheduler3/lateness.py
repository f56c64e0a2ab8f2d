"""One job a second: due -> first line of the coroutine."""

import asyncio
import time

import setup

import side

options = side.options(fires=20, jobs="memory")
late: list[float] = []
enough = asyncio.Event()
first = side.whole_second(1.0)


async def job() -> None:
    now = time.time()
    late.append((now - (first + len(late))) * 1e3)
    if len(late) == options.fires:
        enough.set()


async def main() -> None:
    scheduler = setup.scheduler(options.folder, options.jobs)
    scheduler.add_job(job, trigger="interval", seconds=1, start_date=side.aware(first), id="lone")
    scheduler.start()
    await asyncio.wait_for(enough.wait(), options.fires + 30)
    scheduler.shutdown(wait=False)
    fired = late[: options.fires]
    side.report(lateness_ms=fired, early=sum(each < 0 for each in fired))


asyncio.run(main())
