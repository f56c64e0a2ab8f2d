"""A worker that executes only parents, or only children.

``python parents_and_children.py DATABASE ORACLE parents|children``

A line of the oracle is ``kind run``: ``child`` before a child returns, with the run of its parent;
``parent`` when a parent has its children's results.
"""

from __future__ import annotations

import asyncio
import random
import sys

from oracle import Oracle

from polos import PolosClient, Worker, WorkflowContext, workflow

DATABASE, PATH, PART = sys.argv[1:4]
ORACLE = Oracle(PATH)


@workflow(id="child")
async def child(ctx: WorkflowContext, payload: dict[str, str]) -> str:
    await asyncio.sleep(random.random() * 0.02)
    ORACLE.write("child", payload["parent"])
    return payload["parent"]


@workflow(id="parent")
async def parent(ctx: WorkflowContext) -> None:
    for number in range(2):
        name = f"child-{number}"
        returned = await ctx.step.invoke("child", {"parent": ctx.run_id}, name=name)
        assert returned == ctx.run_id
    ORACLE.write("parent", ctx.run_id)


async def main() -> None:
    mine = parent if PART == "parents" else child
    async with PolosClient(DATABASE) as client:
        worker = Worker(client, workflows=[mine], app=PART, concurrency=50)
        async with worker:
            print("ready", flush=True)  # noqa: T201
            await asyncio.Event().wait()


asyncio.run(main())
