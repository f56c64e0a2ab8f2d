"""One schedule a second: due -> first line of the workflow."""

import asyncio
import threading
import time
from datetime import datetime
from typing import Any

import setup
from dbos import DBOS

import side

options = side.options(url="", fires=20)
late: list[float] = []
enough = threading.Event()


@DBOS.workflow()
async def handler(scheduled: datetime, context: Any) -> None:
    late.append((time.time() - scheduled.timestamp()) * 1e3)
    if len(late) == options.fires:
        enough.set()


async def main() -> None:
    setup.configure(options.folder, store=options.url)
    DBOS.launch()
    DBOS.apply_schedules(
        [{"schedule_name": "lone", "workflow_fn": handler, "schedule": "* * * * * *"}]
    )
    await asyncio.to_thread(enough.wait, options.fires + 30)
    DBOS.destroy()
    fired = late[: options.fires]
    side.report(lateness_ms=fired, early=sum(each < 0 for each in fired))


asyncio.run(main())
