"""Prints the next slot of a schedule, by the database and by the time zone data."""

from __future__ import annotations

import asyncio
import json
import sys
import time

from polos import PolosClient, Worker, schedules, workflow

DATABASE, CRON = sys.argv[1:]
ZONE = "Test/Moved"


@workflow(id="declared", schedule={"cron": CRON, "timezone": ZONE})
async def declared() -> None: ...


@workflow(id="made", schedule=True)
async def made() -> None: ...


async def main() -> None:
    async with PolosClient(DATABASE) as client:
        found = await schedules.list(client, workflow="made")
        if not found:
            await schedules.create(client, "made", CRON, timezone=ZONE)
        async with Worker(client, app="zones"):
            right = schedules.preview(CRON, ZONE, count=1)[0]
            # Next slots are recomputed when the worker has registered.
            deadline = time.monotonic() + 20
            while any(s.upcoming != right for s in await schedules.list(client)):
                if time.monotonic() > deadline:
                    break
                await asyncio.sleep(0.01)
            (one,) = await schedules.list(client, workflow="made")
            (other,) = await schedules.list(client, workflow="declared")
            report = {
                "id": f"{one.id} {other.id}",
                "upcoming": f"{instant(one.upcoming)} {instant(other.upcoming)}",
                "preview": f"{instant(right)} {instant(right)}",
            }
            print(json.dumps(report), flush=True)  # noqa: T201


def instant(at: object) -> float | None:
    return getattr(at, "timestamp", lambda: None)()


asyncio.run(main())
