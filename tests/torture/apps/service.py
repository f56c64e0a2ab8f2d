"""A service with its own schedules; other services use the same database.

Each service is a copy of this file in its own folder, run as ``python main.py``, ``uvicorn
main:app``, or ``polos run main.py``. Like ``worker.py``, it records its steps in a file outside of
the database. It doesn't set ``app``, so its schedules' owner is derived from where its code is.
"""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from datetime import datetime, timedelta, timezone
from functools import partial

from oracle import Oracle

import polos
from polos import PolosClient, SchedulePayload, Worker, WorkflowContext, workflow

NAME = os.environ["SERVICE"]
# Seconds between the slots of each schedule.
PERIODS = [int(period) for period in os.environ["PERIODS"].split()]
VERSION = os.environ.get("VERSION")
SELECTED = os.environ.get("SELECTED")
ORACLE = Oracle(os.environ["ORACLE"])
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
MICROSECOND = timedelta(microseconds=1)
LEASE = 2.0


def note(kind: str, ctx: WorkflowContext, step: str, token: str = "-") -> None:
    """Record a line durably."""
    ORACLE.write(kind, ctx.run_id, step, ctx.attempt, os.getpid(), f"{time.time():.6f}", token)


async def tick(ctx: WorkflowContext, payload: SchedulePayload) -> list[str]:
    """Execute three steps; their tokens are the result."""
    instants = (payload.timestamp, payload.last_timestamp, payload.upcoming)
    fields = [
        "-" if at is None else str((at - EPOCH) // timedelta(microseconds=1)) for at in instants
    ]
    note(
        "payload", ctx, "-", "/".join([*fields, payload.timezone, payload.schedule_id, payload.key])
    )
    tokens = []
    for name in ("a", "b", "c"):
        token = await ctx.step.run(name, partial(work, ctx, name))
        note("ack", ctx, name, token)
        tokens.append(token)
    return tokens


async def work(ctx: WorkflowContext, name: str) -> str:
    note("before", ctx, name)
    token = uuid.uuid4().hex[:12]
    note("after", ctx, name, token)
    return token


declared = [
    workflow(id=f"{NAME}-{number}", schedule={"every": timedelta(seconds=period)})(tick)
    for number, period in enumerate(PERIODS)
]

if os.environ.get("FRAMEWORK") == "uvicorn":
    from fastapi import FastAPI

    app = FastAPI(lifespan=polos.lifespan(PolosClient(), version=VERSION, lease=LEASE, drain=2))


async def main() -> None:
    """Work until a signal comes."""
    selected = None if SELECTED is None else declared[: int(SELECTED)]
    worker = Worker(PolosClient(), version=VERSION, lease=LEASE, drain=2, workflows=selected)
    await worker.run()


if __name__ == "__main__":
    asyncio.run(main())
