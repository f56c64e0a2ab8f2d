"""Rows that tasks await until they are on disk: one after another, and in 1,000 tasks at once."""

import asyncio
import time
from pathlib import Path

import side
from writer import Writer

options = side.options(alone=1_000, at_once=1_000, batches=3)

TABLE = "CREATE TABLE schedule (id INTEGER PRIMARY KEY, key TEXT, cron TEXT)"
INSERT = "INSERT INTO schedule (key, cron) VALUES (?, '0 8 * * *')"


async def main() -> None:
    writer = Writer(Path(options.folder) / "baseline.db", TABLE)
    begun = time.perf_counter()
    for number in range(options.alone):
        await writer.write(INSERT, (f"alone-{number}",))
    alone = time.perf_counter() - begun

    begun = time.perf_counter()
    for batch in range(options.batches):
        rows = ((f"{batch}-{number}",) for number in range(options.at_once))
        await asyncio.gather(*(writer.write(INSERT, row) for row in rows))
    together = time.perf_counter() - begun
    writer.close()
    side.report(
        alone_per_s=side.rate(options.alone, alone),
        together_per_s=side.rate(options.at_once * options.batches, together),
    )


asyncio.run(main())
