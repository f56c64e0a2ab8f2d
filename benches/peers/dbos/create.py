"""Schedules created durably: one by one, many callers at once, and in bulk."""

import asyncio
import time
from datetime import datetime
from typing import Any

import setup
from dbos import DBOS

import side

options = side.options(alone=200, at_once=500, bulk=2_000)
CRON = "0 8 1 1 *"


@DBOS.workflow()
async def digest(scheduled: datetime, context: Any) -> None:
    raise AssertionError("not due today")


async def create(name: str) -> None:
    await DBOS.create_schedule_async(schedule_name=name, workflow_fn=digest, schedule=CRON)


async def main() -> None:
    setup.configure(options.folder)
    DBOS.launch()
    begun = time.perf_counter()
    for number in range(options.alone):
        await create(f"alone-{number}")
    alone = time.perf_counter() - begun
    begun = time.perf_counter()
    await asyncio.gather(*(create(f"together-{number}") for number in range(options.at_once)))
    together = time.perf_counter() - begun
    begun = time.perf_counter()
    await DBOS.apply_schedules_async(
        [
            {"schedule_name": f"bulk-{number}", "workflow_fn": digest, "schedule": CRON}
            for number in range(options.bulk)
        ]
    )
    bulk = time.perf_counter() - begun
    DBOS.destroy()
    side.report(
        alone_per_s=side.rate(options.alone, alone),
        together_per_s=side.rate(options.at_once, together),
        bulk_per_s=side.rate(options.bulk, bulk),
    )


asyncio.run(main())
