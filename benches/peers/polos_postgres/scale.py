"""Measure a herd of overdue schedules on a PostgreSQL server that also holds other schedules and
finished runs: the cost of a fire, and fires per second. In a fire, a run is created, its schedule
is advanced, and the run is completed.

The workers are processes of their own. WAL is counted without full pages.
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import child
import pg_server
import polos_worker
import side
import stored_rows
from polos import PolosClient, runs, schedules, workflow

options = side.options(url="", count=10_000, workers=1, schedules=0, finished=0, child=0)


@workflow(id="fire", schedule=True)
async def handler() -> None:
    return None


async def work() -> None:
    """Run one worker; print the processor time that it used."""
    print(json.dumps(await polos_worker.work(options.url)), flush=True)


async def prepare(client: PolosClient, server: pg_server.Server) -> None:
    """Store the rows that are not part of the herd, and the herd."""
    await stored_rows.store(client, server, options.schedules, options.finished)
    due = time.time() + 1.0
    herd = [
        {"workflow": handler, "at": side.aware(due), "key": str(number)}
        for number in range(options.count)
    ]
    await schedules.create_many(client, herd)
    server.sql("VACUUM ANALYZE polos.run")
    server.sql("VACUUM ANALYZE polos.schedule")
    server.sql("CHECKPOINT")
    await asyncio.sleep(max(0.0, due - time.time()))


async def finished(client: PolosClient) -> None:
    """Wait until other processes have finished the herd; poll rarely, so that it costs little."""
    states: Any = ("queued", "running", "waiting")
    while await is_open(client, states):  # noqa: ASYNC110
        await asyncio.sleep(0.1)


async def is_open(client: PolosClient, states: Any) -> bool:
    """Return whether a schedule of the herd is active, or a run of it is unfinished."""
    if await schedules.list(client, workflow="fire", status="active", limit=1):
        return True
    return bool(await runs.list(client, workflow="fire", status=states, limit=1))


async def main() -> None:
    server = pg_server.Server(options.url)
    server.without_full_pages(True)
    try:
        async with PolosClient(options.url) as client:
            await prepare(client, server)
            workers = [child.started("--url", options.url) for _ in range(options.workers)]
            position, used = server.log_position(), server.processor_seconds()
            begun = time.perf_counter()
            for worker in workers:
                child.tell(worker)
            await asyncio.wait_for(finished(client), 120)
            seconds = time.perf_counter() - begun
            used = server.processor_seconds() - used
            position = server.log_position() - position
            for worker in workers:
                child.tell(worker)
                used += float(json.loads(worker.communicate()[0]))
    finally:
        server.without_full_pages(False)
    side.report(
        fires_per_s=side.rate(options.count, seconds),
        cpu_us=used / options.count * 1e6,
        log_bytes=position / options.count,
    )


asyncio.run(work() if options.child else main())
