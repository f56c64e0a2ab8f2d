"""A scheduler on a database with many jobs that are not due: start, memory, and idle cost."""

import asyncio
from pathlib import Path


async def job() -> None:
    raise AssertionError("not due for a month")


async def main() -> None:
    options = side.options(idle=3.0)
    scheduler = setup.scheduler(options.folder, "sqlite")
    scheduler.start()
    ready = side.since_start()
    database = Path(options.folder) / "jobs.sqlite"
    figures = await asyncio.to_thread(rest.watched, database, options.idle)
    scheduler.shutdown(wait=False)
    side.report(ready_s=ready, **figures)


if __name__ == "__main__":
    import setup

    import rest
    import side

    asyncio.run(main())
