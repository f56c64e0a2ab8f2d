"""A herd of handlers that compute, executed by ``polos run --workers N``.

The time is measured from the instant at which all schedules are due until the completion of the
last run is on disk. The command has started all its workers before.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

import side
from polos import PolosClient, runs, schedules

APP = Path(side.__file__).with_name("cpu_app.py")
options = side.options(url="", workers=1, count=200, rounds=20, lead=1.0)


def start(database: str) -> subprocess.Popen[str]:
    """Start the command, and wait until all its workers run."""
    command = [sys.executable, "-m", "polos", "run", str(APP)]
    process = subprocess.Popen(
        [*command, f"--workers={options.workers}", f"--database={database}"],
        env={**os.environ, "BENCH_ROUNDS": str(options.rounds)},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "stop with Ctrl-C" in line:
            return process
    raise SystemExit("the workers have ended")


async def finished(client: PolosClient) -> None:
    """Poll the progress of other processes, rarely enough to cost nothing."""
    count = options.count
    while len(await runs.list(client, status="succeeded", limit=count)) < count:  # noqa: ASYNC110
        await asyncio.sleep(0.1)


async def main() -> None:
    database = str(side.database(options))
    process = start(database)
    try:
        async with PolosClient(database) as client:
            due = side.whole_second(options.lead)
            at = side.aware(due)
            herd = [
                {"workflow": "burn", "at": at, "key": str(number)}
                for number in range(options.count)
            ]
            await schedules.create_many(client, herd)
            side.due_in_time(due)
            await asyncio.sleep(max(0.0, due - time.time()))
            await asyncio.wait_for(finished(client), 120)
            ended = await runs.list(client, limit=None)
    finally:
        process.terminate()
        process.communicate()
    by_worker: dict[object, int] = {}
    for run in ended:
        by_worker[run.result] = by_worker.get(run.result, 0) + 1
    last = max(run.finished_at.timestamp() for run in ended if run.finished_at is not None)
    side.report(
        seconds=last - due,
        runs_per_s=side.rate(options.count, last - due),
        least_share=min(by_worker.values()) / options.count,
        workers=len(by_worker),
    )


asyncio.run(main())
