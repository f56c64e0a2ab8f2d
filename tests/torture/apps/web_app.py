"""A web application with a schedule; a fault serves it and saves new versions of it."""

from __future__ import annotations

import os
import time
from datetime import timedelta

from fastapi import FastAPI
from oracle import Oracle

import polos
from polos import PolosClient, SchedulePayload, WorkflowContext, workflow

VERSION = 0

oracle = Oracle(os.environ["ORACLE"])
client = PolosClient()
app = FastAPI(lifespan=polos.lifespan(client, app="web", lease=2, drain=2))


@workflow(id="tick", schedule={"every": timedelta(seconds=1)})
async def tick(ctx: WorkflowContext, payload: SchedulePayload) -> None:
    """Record the version of the code."""
    oracle.write("before", ctx.run_id, "-", ctx.attempt, os.getpid(), f"{time.time():.6f}", VERSION)
