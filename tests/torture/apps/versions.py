"""A worker with one of two versions of a workflow, and with a run that ends its process.

``python versions.py DATABASE ORACLE old|new``

A line of the oracle is ``kind run``: the name of a step before it returns, or the version of the
code (``old`` or ``new``) that completed a run.
"""

from __future__ import annotations

import asyncio
import os
import sys
from datetime import timedelta

from oracle import Oracle

from polos import PolosClient, Worker, WorkflowContext, workflow

DATABASE, PATH, CODE = sys.argv[1:4]
ORACLE = Oracle(PATH)


async def old(ctx: WorkflowContext) -> None:
    await ctx.step.run("charge", ORACLE.write, "charge", ctx.run_id)
    await ctx.step.sleep("pause", timedelta(seconds=6))
    await ctx.step.run("ship", ORACLE.write, "ship", ctx.run_id)
    ORACLE.write("old", ctx.run_id)


async def new(ctx: WorkflowContext) -> None:
    await ctx.step.run("charge", ORACLE.write, "charge", ctx.run_id)
    await ctx.step.sleep("pause", timedelta(seconds=6))
    if await ctx.patched("label"):
        await ctx.step.run("label", ORACLE.write, "label", ctx.run_id)
    await ctx.step.run("ship", ORACLE.write, "ship", ctx.run_id)
    ORACLE.write("new", ctx.run_id)


workflow(id="order", on_code_change="hold")(old if CODE == "old" else new)


@workflow(id="healthy")
async def healthy(ctx: WorkflowContext) -> None:
    if ctx.interruptions < 2:
        await asyncio.Event().wait()
    ORACLE.write("healthy", ctx.run_id)


@workflow(id="poison")
async def poison(ctx: WorkflowContext) -> None:
    ORACLE.write("poison", ctx.run_id)
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
