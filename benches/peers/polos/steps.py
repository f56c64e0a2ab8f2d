"""Steps per second of concurrent runs with trivial async steps.

The time is measured from the moment at which all handlers may continue until the last step has
returned.
"""

import asyncio
import time

import side
from polos import PolosClient, Worker, WorkflowContext, workflow

options = side.options(url="", runs=100, steps=10, batches=20)


class Batch:
    """Handlers that wait for each other."""

    def __init__(self) -> None:
        self.entered = 0
        self.all_entered = asyncio.Event()
        self.gate = asyncio.Event()


async def trivial(number: int) -> int:
    return number


batch: Batch


@workflow(id="steps")
async def handler(ctx: WorkflowContext) -> float:
    current = batch
    current.entered += 1
    if current.entered == options.runs:
        current.all_entered.set()
    await current.gate.wait()
    for number in range(options.steps):
        await ctx.step.run(f"step-{number}", trivial, number)
    return time.perf_counter()


async def main() -> None:
    global batch
    seconds = 0.0
    async with PolosClient(side.database(options)) as client, Worker(client):
        for _ in range(options.batches):
            batch = Batch()
            handles = [await handler.invoke(client) for _ in range(options.runs)]
            await batch.all_entered.wait()
            begun = time.perf_counter()
            batch.gate.set()
            ends = await asyncio.gather(*(handle.result() for handle in handles))
            seconds += max(ends) - begun
    count = options.runs * options.steps * options.batches
    side.report(steps_per_s=side.rate(count, seconds), step_us=seconds / count * 1e6)


asyncio.run(main())
