"""One schedule a second, others stored beside it: due -> first line of the handler."""

import asyncio
import time
from datetime import timedelta

import side
from polos import PolosClient, SchedulePayload, Worker, WorkflowContext, schedules, workflow

options = side.options(url="", fires=20, others=10_000)
late: list[float] = []
enough = asyncio.Event()


@workflow(id="lone", schedule=True)
async def lone(ctx: WorkflowContext, payload: SchedulePayload) -> None:
    now = time.time()
    late.append((now - payload.timestamp.timestamp()) * 1e3)
    if len(late) == options.fires:
        enough.set()


@workflow(id="other", schedule=True)
async def other() -> None:
    raise AssertionError("not due for a month")


def stored(number: int) -> dict[str, object]:
    minute, hour, day, month = side.yearly(number)
    return {"workflow": other, "cron": f"{minute} {hour} {day} {month} *", "key": str(number)}


async def main() -> None:
    async with PolosClient(side.database(options)) as client:
        await schedules.create_many(client, [stored(n) for n in range(options.others)])
        async with Worker(client):
            await schedules.create(client, lone, every=timedelta(seconds=1))
            await asyncio.wait_for(enough.wait(), options.fires + 30)
    fired = late[: options.fires]
    side.report(lateness_ms=fired, early=sum(each < 0 for each in fired))


asyncio.run(main())
