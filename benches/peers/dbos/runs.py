"""A workflow that does nothing, called and finished: runs a second."""

import asyncio
import time

import setup
from dbos import DBOS

import side

options = side.options(url="", alone=150, at_once=100, batches=2)


@DBOS.workflow()
async def nothing() -> None:
    return None


async def main() -> None:
    setup.configure(options.folder, store=options.url)
    DBOS.launch()
    begun = time.perf_counter()
    for _ in range(options.alone):
        await nothing()
    alone = time.perf_counter() - begun
    begun = time.perf_counter()
    for _ in range(options.batches):
        await asyncio.gather(*(nothing() for _ in range(options.at_once)))
    together = time.perf_counter() - begun
    DBOS.destroy()
    side.report(
        alone_per_s=side.rate(options.alone, alone),
        together_per_s=side.rate(options.at_once * options.batches, together),
    )


asyncio.run(main())
