"""Fires per second of overdue schedules that several worker processes share.

A fire: a due schedule is decided, its run is on disk and claimed, and its handler has started. The
time is measured from the signal to all workers, which have imported everything but not registered,
until the last handler has started; with ``ends``, until the completion of the last run is on disk.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

import child
import side
from polos import PolosClient, Worker, runs, schedules, workflow

options = side.options(url="", workers=1, count=10_000, child=0)
starts: list[float] = []


@workflow(id="fire", schedule=True)
async def handler() -> None:
    starts.append(time.time())


async def work() -> None:
    """Run one worker until its stdin ends; report when its handlers started."""
    loop = asyncio.get_running_loop()
    async with PolosClient(side.database(options)) as client:
        await schedules.list(client, limit=1)
        print("ready", flush=True)
        await loop.run_in_executor(None, sys.stdin.readline)
        async with Worker(client):
            await loop.run_in_executor(None, sys.stdin.readline)
    print(json.dumps(starts), flush=True)


async def is_finished(client: PolosClient) -> bool:
    """Return whether no schedule has a next slot, and no run is in progress."""
    if await schedules.list(client, status="active", limit=1):
        return False
    states: Any = ("queued", "running", "waiting")
    return not await runs.list(client, status=states, limit=1)


async def finished(client: PolosClient) -> None:
    """Poll the progress of other processes, rarely enough to cost nothing."""
    while not await is_finished(client):  # noqa: ASYNC110
        await asyncio.sleep(0.05)


async def main() -> None:
    async with PolosClient(side.database(options)) as client:
        due = time.time() + 1.0
        herd = [
            {"workflow": handler, "at": side.aware(due), "key": str(number)}
            for number in range(options.count)
        ]
        await schedules.create_many(client, herd)
        workers = [
            child.started("--folder", options.folder, "--url", options.url)
            for _ in range(options.workers)
        ]
        await asyncio.sleep(max(0.0, due - time.time()))
        begun = time.time()
        for worker in workers:
            child.tell(worker)
        await asyncio.wait_for(finished(client), 120)
        ended = time.time()
        shares = []
        for worker in workers:
            child.tell(worker)
            shares.append(json.loads(worker.communicate()[0]))
    all_starts = [start for share in shares for start in share]
    assert len(all_starts) == options.count, f"{len(all_starts)} of {options.count} started"
    side.report(
        fires_per_s=side.rate(options.count, max(all_starts) - begun),
        ends_per_s=side.rate(options.count, ended - begun),
        least_share=min(len(share) for share in shares) / options.count,
        most_share=max(len(share) for share in shares) / options.count,
    )


asyncio.run(work() if options.child else main())
