"""A steady load on PostgreSQL: recurring schedules whose slots are spread evenly over their period.

Measures the lateness of each handler (from its slot to its first line), and for each fire the
processor time of server and workers, the bytes of WAL without full pages, and the dead rows that
are left at the end. A fire creates a run, advances its schedule, and completes the run.
"""

from __future__ import annotations

import asyncio
import json
import time
from datetime import timedelta

import child
import pg_server
import polos_worker
import side
import stored_rows
from polos import (
    PolosClient,
    SchedulePayload,
    WorkflowContext,
    schedules,
    workflow,
)

options = side.options(
    url="", rate=2_000, period=10, seconds=60, workers=2, schedules=0, finished=0, child=0
)
late: list[tuple[float, float]] = []

DEAD_ROWS = "SELECT sum(n_dead_tup) FROM pg_stat_user_tables WHERE schemaname = 'polos'"


@workflow(id="fire", schedule=True)
async def handler(_: WorkflowContext, payload: SchedulePayload) -> None:
    slot = payload.timestamp.timestamp()
    late.append((slot, time.time() - slot))


async def work() -> None:
    """Run one worker; print its processor time and how late its handlers were."""
    print(json.dumps([await polos_worker.work(options.url), late]), flush=True)


def quantile(values: list[float], part: float) -> float:
    """Return the value, in milliseconds, below which this part of the values is."""
    return sorted(values)[int(len(values) * part)] * 1e3


async def main() -> None:
    server = pg_server.Server(options.url)
    server.without_full_pages(True)
    count = options.rate * options.period
    try:
        async with PolosClient(options.url) as client:
            await stored_rows.store(client, server, options.schedules, options.finished)
            begin = side.whole_second(10.0 + count / 2_000)
            every = timedelta(seconds=options.period)
            herd = [
                {
                    "workflow": handler,
                    "every": every,
                    "start_at": side.aware(begin + number / options.rate),
                    "key": str(number),
                }
                for number in range(count)
            ]
            await schedules.create_many(client, herd)
            server.sql("VACUUM ANALYZE polos.schedule")
            server.sql("CHECKPOINT")
            workers = [child.started("--url", options.url) for _ in range(options.workers)]
            for worker in workers:
                child.tell(worker)
            side.due_in_time(begin)
            # The first period warms up.
            first = begin + options.period
            await asyncio.sleep(first - time.time())
            position, used = server.log_position(), server.processor_seconds()
            await asyncio.sleep(options.seconds)
            last = time.time()
            used = server.processor_seconds() - used
            position = server.log_position() - position
            dead = int(server.sql(DEAD_ROWS))
            all_late: list[tuple[float, float]] = []
            # Workers measure from their start on, and do nothing before the first slot.
            share = options.seconds / (last - begin)
            for worker in workers:
                child.tell(worker)
                spent, its = json.loads(worker.communicate()[0])
                used += spent * share
                all_late += its
    finally:
        server.without_full_pages(False)
    values = [late for slot, late in all_late if first <= slot < last]
    final = [late for slot, late in all_late if last - options.seconds / 5 <= slot < last]
    fires = len(values)
    side.report(
        p50_ms=quantile(values, 0.5),
        p99_ms=quantile(values, 0.99),
        last_p99_ms=quantile(final, 0.99),
        fires_per_s=side.rate(fires, last - first),
        cpu_us=used / fires * 1e6,
        log_bytes=position / fires,
        dead_rows=dead,
    )


asyncio.run(work() if options.child else main())
