"""Schedules that are all due at one instant: due -> workflows started.

Every schedule has a thread, which delays itself at random by up to a tenth of its sleep.
"""

import asyncio
import threading
import time
from datetime import datetime
from typing import Any

import setup
from dbos import DBOS

import side

options = side.options(url="", count=1_000, lead=4.0, wal=0)
starts: list[float] = []
all_started = threading.Event()


@DBOS.workflow()
async def handler(scheduled: datetime, context: Any) -> None:
    starts.append(time.time())
    if len(starts) == options.count:
        all_started.set()


async def main() -> None:
    setup.configure(options.folder, wal=bool(options.wal), store=options.url)
    DBOS.launch()
    due = side.whole_second(options.lead)
    at = side.aware(due)
    cron = f"{at.second} {at.minute} {at.hour} * * *"
    DBOS.apply_schedules(
        [
            {"schedule_name": str(n), "workflow_fn": handler, "schedule": cron}
            for n in range(options.count)
        ]
    )
    side.due_in_time(due)
    await asyncio.to_thread(all_started.wait, due - time.time() + 90)
    DBOS.destroy()
    side.herd(due, starts, options.count)


asyncio.run(main())
