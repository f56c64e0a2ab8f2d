"""A worker that executes one run under low resource limits: ``low_limits.py DATABASE``."""

from __future__ import annotations

import asyncio
import sys

from polos import PolosClient, Worker, WorkflowContext, workflow


@workflow(id="add")
async def add(ctx: WorkflowContext) -> int:
    return await ctx.step.run("add", sum, [1, 2])


async def main() -> None:
    async with PolosClient(sys.argv[1]) as client, Worker(client, app="low-limits", drain=0):
        assert await add.run(client, timeout=10) == 3


asyncio.run(main())
