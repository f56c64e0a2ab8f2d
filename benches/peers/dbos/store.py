"""Makes a database with schedules that are not due, on which the measured program starts."""

import time

import setup
import workflows
from dbos import DBOS

import side

options = side.options(count=1_000)


def schedule(number: int) -> dict[str, object]:
    minute, hour, day, month = side.yearly(number)
    cron = f"{minute} {hour} {day} {month} *"
    return {"schedule_name": str(number), "workflow_fn": workflows.stored, "schedule": cron}


def main() -> None:
    begun = time.perf_counter()
    setup.configure(options.folder)
    # Registering doesn't need the background threads, which would start one for each schedule.
    DBOS.launch()
    DBOS.apply_schedules([schedule(number) for number in range(options.count)])
    side.report(seconds=time.perf_counter() - begun)


if __name__ == "__main__":
    import os

    main()
    os._exit(0)
