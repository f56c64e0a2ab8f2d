"""A worker whose code is one of several versions, beside a run that ends its process.

``python deploying.py DATABASE ORACLE old|new``

A line of the oracle, appended with one write and synced, is ``kind run``: the name of a step before
it returns, or the way (``old`` or ``new``) on which a run has ended.
"""

from __future__ import annotations

import asyncio
import os
import sys
from datetime import timedelta

from polos import PolosClient, Worker, WorkflowContext, workflow

DATABASE, ORACLE, CODE = sys.argv[1:4]


def testify(kind: str, run: str) -> None:
    """Write it where no database can lose it."""
    file = os.open(ORACLE, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(file, f"{kind} {run}\n".encode())
        os.fsync(file)
    finally:
        os.close(file)


async def old(ctx: WorkflowContext) -> None:
    await ctx.step.run("charge", testify, "charge", ctx.run_id)
    await ctx.step.sleep("pause", timedelta(seconds=6))
    await ctx.step.run("ship", testify, "ship", ctx.run_id)
    testify("old", ctx.run_id)


async def new(ctx: WorkflowContext) -> None:
    await ctx.step.run("charge", testify, "charge", ctx.run_id)
    await ctx.step.sleep("pause", timedelta(seconds=6))
    if await ctx.patched("label"):
        await ctx.step.run("label", testify, "label", ctx.run_id)
    await ctx.step.run("ship", testify, "ship", ctx.run_id)
    testify("new", ctx.run_id)


workflow(id="order", on_code_change="hold")(old if CODE == "old" else new)


@workflow(id="healthy")
async def healthy(ctx: WorkflowContext) -> None:
    if ctx.interruptions < 2:
        await asyncio.Event().wait()
    testify("healthy", ctx.run_id)


@workflow(id="poison")
async def poison(ctx: WorkflowContext) -> None:
    testify("poison", ctx.run_id)
    if ctx.interruptions < 2:
        await asyncio.sleep(0.5)  # until the others have begun
    os._exit(3)


async def main() -> None:
    async with (
        PolosClient(DATABASE) as client,
        Worker(client, app="orders", concurrency=200, lease=2),
    ):
        print("ready", flush=True)  # noqa: T201
        await asyncio.Event().wait()


asyncio.run(main())
