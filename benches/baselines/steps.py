"""Tasks that await their rows' commit, one step after another."""

import asyncio
import time
from pathlib import Path

import side
from writer import Writer

options = side.options(runs=100, steps=10, batches=20)

INSERT = "INSERT INTO step VALUES (?, ?, ?)"


async def run(writer: Writer, number: int) -> None:
    for step in range(options.steps):
        await writer.write(INSERT, (number, f"step-{step}", str(step)))


async def main() -> None:
    table = "CREATE TABLE step (run INTEGER, name TEXT, result TEXT)"
    writer = Writer(Path(options.folder) / "baseline.db", table)
    begun = time.perf_counter()
    for _ in range(options.batches):
        await asyncio.gather(*(run(writer, number) for number in range(options.runs)))
    spent = time.perf_counter() - begun
    writer.close()
    count = options.runs * options.steps * options.batches
    side.report(steps_per_s=side.rate(count, spent), step_us=spent / count * 1e6)


asyncio.run(main())
