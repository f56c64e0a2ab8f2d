"""DBOS on a database with many schedules that are not due: start, memory, and idle cost.

It is ready when each schedule has its thread: before that, it would not fire.
"""

import os
import time

import setup
import workflows  # noqa: F401
from dbos import DBOS

import rest
import side

options = side.options(idle=3.0, count=1_000)


def main() -> None:
    setup.configure(options.folder)
    DBOS.launch()
    while side.thread_count() < options.count:
        time.sleep(0.01)
    ready = side.since_start()
    side.report(ready_s=ready, **rest.watched(setup.database(options.folder), options.idle))


if __name__ == "__main__":
    main()
    # Stopping the threads takes as long again; the measurement is over.
    os._exit(0)
