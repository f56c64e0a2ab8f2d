"""A task that does nothing, deferred and finished: runs a second.

There is no waiting for a job's result; the task itself says that it was executed, a moment before
its end is recorded.
"""

import asyncio
import time

import setup

import side

options = side.options(url="", alone=150, at_once=100, batches=5)
app = setup.app(options.url)
done: dict[int, asyncio.Event] = {}


@app.task
async def nothing(number: int) -> None:
    done[number].set()


async def run(number: int) -> None:
    done[number] = asyncio.Event()
    await nothing.defer_async(number=number)
    await done[number].wait()


async def main() -> None:
    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        async with setup.worker(app, 100):
            await run(0)
            begun = time.perf_counter()
            for number in range(options.alone):
                await run(number)
            alone = time.perf_counter() - begun
            begun = time.perf_counter()
            for batch in range(options.batches):
                first = 1_000 + batch * options.at_once
                await asyncio.gather(*(run(first + n) for n in range(options.at_once)))
            together = time.perf_counter() - begun
    side.report(
        alone_per_s=side.rate(options.alone, alone),
        together_per_s=side.rate(options.at_once * options.batches, together),
    )


asyncio.run(main())
