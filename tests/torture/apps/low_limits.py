"""A worker that does one thing with little: ``low_limits.py DATABASE``."""

from __future__ import annotations

import asyncio
import sys

from polos import PolosClient, Worker, WorkflowContext, workflow


@workflow(id="modest")
async def modest(ctx: WorkflowContext) -> int:
    return await ctx.step.run("add", sum, [1, 2])


async def main() -> None:
    async with PolosClient(sys.argv[1]) as client, Worker(client, app="tight", drain=0):
        assert await modest.run(client, timeout=10) == 3


asyncio.run(main())
