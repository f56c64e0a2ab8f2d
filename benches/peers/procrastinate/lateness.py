"""One periodic task a second: due -> first line of the task."""

import asyncio
import time

import setup

import side

options = side.options(url="", fires=20)
app = setup.app(options.url)
late: list[float] = []
enough = asyncio.Event()


@app.periodic(cron="* * * * * *")
@app.task
async def handler(timestamp: int) -> None:
    late.append((time.time() - timestamp) * 1e3)
    if len(late) == options.fires:
        enough.set()


async def main() -> None:
    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        async with setup.worker(app, 100):
            await asyncio.wait_for(enough.wait(), options.fires + 30)
    fired = late[: options.fires]
    side.report(lateness_ms=fired, early=sum(each < 0 for each in fired))


asyncio.run(main())
