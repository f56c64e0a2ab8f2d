"""Runs without a scheduler: a row is on disk before its task starts, and its end before the caller
has the result.
"""

import asyncio
import itertools
import time
from pathlib import Path

import side
from writer import Writer

options = side.options(alone=500, at_once=100, batches=20)

TABLE = "CREATE TABLE run (id INTEGER PRIMARY KEY, state TEXT, result TEXT)"
BEGIN = "INSERT INTO run VALUES (?, 'running', NULL)"
END = "UPDATE run SET state = 'succeeded', result = 'null' WHERE id = ?"

numbers = itertools.count(1)


async def nothing() -> None:
    return None


async def run(writer: Writer) -> None:
    number = next(numbers)
    await writer.write(BEGIN, (number,))
    await asyncio.create_task(nothing())
    await writer.write(END, (number,))


async def main() -> None:
    writer = Writer(Path(options.folder) / "baseline.db", TABLE)
    begun = time.perf_counter()
    for _ in range(options.alone):
        await run(writer)
    alone = time.perf_counter() - begun
    begun = time.perf_counter()
    for _ in range(options.batches):
        await asyncio.gather(*(run(writer) for _ in range(options.at_once)))
    together = time.perf_counter() - begun
    writer.close()
    side.report(
        alone_per_s=side.rate(options.alone, alone),
        together_per_s=side.rate(options.at_once * options.batches, together),
    )


asyncio.run(main())
