"""Tasks that do nothing, deferred and executed, of each lock one at a time: tasks a second."""

import asyncio
import time

import setup

import side

options = side.options(url="", count=1_000, keys=10, concurrency=100)
app = setup.app(options.url)
done = asyncio.Event()
left = options.count


@app.task
async def nothing() -> None:
    global left
    left -= 1
    if not left:
        done.set()


async def main() -> None:
    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        for number in range(options.count):
            await nothing.configure(lock=f"user-{number % options.keys}").defer_async()
        begun = time.perf_counter()
        async with setup.worker(app, options.concurrency):
            await done.wait()
            seconds = time.perf_counter() - begun
    side.report(runs_per_s=side.rate(options.count, seconds))


asyncio.run(main())
