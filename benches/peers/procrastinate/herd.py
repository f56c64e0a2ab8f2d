"""Jobs that are all due at one instant: due -> tasks started."""

import asyncio
import time

import setup

import side

options = side.options(url="", count=1_000, lead=4.0, concurrency=100)
app = setup.app(options.url)
starts: list[float] = []
all_started = asyncio.Event()


@app.task
async def handler() -> None:
    starts.append(time.time())
    if len(starts) == options.count:
        all_started.set()


async def main() -> None:
    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        due = side.whole_second(options.lead)
        later = handler.configure(schedule_at=side.aware(due))
        await later.batch_defer_async(*({} for _ in range(options.count)))
        async with setup.worker(app, options.concurrency):
            side.due_in_time(due)
            await asyncio.wait_for(all_started.wait(), due - time.time() + 60)
    side.herd(due, starts, options.count)


asyncio.run(main())
