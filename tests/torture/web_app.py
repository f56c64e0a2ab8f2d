"""A web application with a schedule, which the torture serves and saves anew."""

from __future__ import annotations

import os
import time
from datetime import timedelta

from fastapi import FastAPI

import polos
from polos import PolosClient, SchedulePayload, WorkflowContext, workflow

VERSION = 0

client = PolosClient()
app = FastAPI(lifespan=polos.lifespan(client, app="web", lease=2, drain=2))


@workflow(id="tick", schedule={"every": timedelta(seconds=1)})
async def tick(ctx: WorkflowContext, payload: SchedulePayload) -> None:
    """Testifies which version it is of."""
    file = os.open(os.environ["ORACLE"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    line = f"before {ctx.run_id} - {ctx.attempt} {os.getpid()} {time.time():.6f} {VERSION}\n"
    os.write(file, line.encode())
    os.close(file)
