"""Steps per second of concurrent workflows with trivial async steps.

The time is measured from the moment at which all workflows may continue until the last step has
returned.
"""

import asyncio
import time

import setup
from dbos import DBOS

import side

options = side.options(url="", runs=100, steps=10, batches=1, wal=0)


class Batch:
    """Workflows that wait for each other."""

    def __init__(self) -> None:
        self.entered = 0
        self.all_entered = asyncio.Event()
        self.gate = asyncio.Event()


batch: Batch


@DBOS.step()
async def trivial(number: int) -> int:
    return number


@DBOS.workflow()
async def handler() -> float:
    current = batch
    current.entered += 1
    if current.entered == options.runs:
        current.all_entered.set()
    await current.gate.wait()
    for number in range(options.steps):
        await trivial(number)
    return time.perf_counter()


async def main() -> None:
    global batch
    setup.configure(options.folder, wal=bool(options.wal), store=options.url)
    DBOS.launch()
    seconds = 0.0
    for _ in range(options.batches):
        batch = Batch()
        tasks = [asyncio.create_task(handler()) for _ in range(options.runs)]
        await batch.all_entered.wait()
        begun = time.perf_counter()
        batch.gate.set()
        seconds += max(await asyncio.gather(*tasks)) - begun
    DBOS.destroy()
    count = options.runs * options.steps * options.batches
    side.report(steps_per_s=side.rate(count, seconds), step_us=seconds / count * 1e6)


asyncio.run(main())
