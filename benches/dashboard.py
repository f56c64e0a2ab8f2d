"""Measures each page of the dashboard with a million schedules: ``docs/dashboard.md``.

``python benches/dashboard.py FOLDER`` makes the database, unless it exists (some minutes).
"""

from __future__ import annotations

import asyncio
import logging
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import httpx

import polos
from polos import PolosClient, Worker, WorkflowContext, runs, schedules, workflow

SCHEDULES = 1_000_000
RUNS = 100_000
CHUNK = 20_000
ROUNDS = 15
CRONS = [f"{minute} {hour} * * *" for hour in range(24) for minute in (0, 7, 30, 45)]
ZONES = ["UTC", "Europe/Paris", "America/New_York", "Asia/Tokyo", "Asia/Kolkata"]


@workflow(id="digest", schedule=True)
async def digest() -> None: ...


@workflow(id="job")
async def job(ctx: WorkflowContext, number: int) -> dict[str, int]:
    if number % 1_000 == 0:
        raise ValueError(f"number {number} is one that fails")
    return {"number": number}


async def make(client: PolosClient) -> None:
    for start in range(0, SCHEDULES, CHUNK):
        await schedules.create_many(
            client,
            [
                {
                    "workflow": digest,
                    "cron": CRONS[number % len(CRONS)],
                    "timezone": ZONES[number % len(ZONES)],
                    "key": f"user-{number:07}",
                }
                for number in range(start, start + CHUNK)
            ],
        )
    async with Worker(client, workflows=[job]):
        for start in range(0, RUNS, CHUNK):
            numbers = range(start, start + CHUNK)
            handles = await asyncio.gather(*(job.invoke(client, number) for number in numbers))
            await asyncio.gather(*(handle.result() for handle in handles), return_exceptions=True)


async def measure(app: Any, path: str) -> tuple[float, float, int]:
    """Return milliseconds with an empty and with a filled cache, and bytes."""
    transport = httpx.ASGITransport(app=app, client=("127.0.0.1", 1))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as browser:
        answer = await browser.get(path, headers={"accept": "text/html"})  # compiles templates
        answer.raise_for_status()
        afresh, again = [], []
        for _ in range(ROUNDS):
            app._reader._kept.clear()
            for times in (afresh, again):
                begun = time.perf_counter()
                await browser.get(path, headers={"accept": "text/html"})
                times.append((time.perf_counter() - begun) * 1_000)
    return statistics.median(afresh), statistics.median(again), len(answer.content)


async def main(folder: Path) -> None:
    async with PolosClient(folder / "polos.db") as client:
        if not await schedules.list(client, limit=1):
            await make(client)
        [one] = await schedules.list(client, key=f"user-{SCHEDULES // 2:07}")
        [failed] = await runs.list(client, status="failed", limit=1)
        deep = (await schedules.list(client, limit=5_000))[-1]
        for path in (
            "/",
            "/schedules",
            f"/schedules?after={deep.id}",
            "/schedules?find=user-09999",
            "/schedules?status=paused",
            "/schedules?workflow=digest",
            f"/schedules/{one.id}",
            "/runs",
            "/runs?status=failed",
            "/runs?workflow=job",
            f"/runs/{failed.id}",
            "/workers",
            "/metrics",
        ):
            afresh, again, size = await measure(polos.ui(client), path)
            print(f"{path[:60]:60} {afresh:7.1f} ms, {again:7.1f} ms at once again, {size:,} bytes")


if __name__ == "__main__":
    logging.disable(logging.ERROR)  # of the runs that are expected to fail
    place = Path(sys.argv[1] if len(sys.argv) > 1 else "target/bench/dashboard")
    place.mkdir(parents=True, exist_ok=True)
    asyncio.run(main(place))
