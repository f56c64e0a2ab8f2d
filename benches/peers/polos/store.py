"""Makes a database with schedules that are not due, on which other programs start."""

import asyncio
import time
from pathlib import Path

import side
from polos import PolosClient, schedules, workflow

options = side.options(count=1_000)
CHUNK = 50_000


@workflow(id="stored", schedule=True)
async def stored() -> None:
    raise AssertionError("not due for a month")


def request(number: int) -> dict[str, object]:
    minute, hour, day, month = side.yearly(number)
    return {"workflow": stored, "cron": f"{minute} {hour} {day} {month} *", "key": str(number)}


async def main() -> None:
    begun = time.perf_counter()
    async with PolosClient(Path(options.folder) / "polos.db") as client:
        for start in range(0, options.count, CHUNK):
            numbers = range(start, min(start + CHUNK, options.count))
            await schedules.create_many(client, [request(number) for number in numbers])
    size = (Path(options.folder) / "polos.db").stat().st_size
    side.report(seconds=time.perf_counter() - begun, bytes_each=size / options.count)


asyncio.run(main())
