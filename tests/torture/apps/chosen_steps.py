"""A worker whose workflow has the steps that its arguments name.

``chosen_steps.py DATABASE ORACLE NAME hold a b c`` starts a run, prints its id, and hangs in step
c. ``chosen_steps.py DATABASE ORACLE NAME RUN x y`` waits until that run has ended.

Each step records its name in the oracle when it is executed.
"""

from __future__ import annotations

import asyncio
import sys

from oracle import Oracle

from polos import PolosClient, Worker, WorkflowContext, runs, workflow

DATABASE, PATH, NAME, RUN, *STEPS = sys.argv[1:]
ORACLE = Oracle(PATH)


async def act(name: str) -> None:
    ORACLE.write(name)
    if RUN == "hold" and name == "c":
        print("in c", flush=True)  # noqa: T201
        await asyncio.Event().wait()


@workflow(id=NAME, retries=3)
async def chosen_steps(ctx: WorkflowContext) -> None:
    for name in STEPS:
        await ctx.step.run(name, act, name)


async def main() -> None:
    client = PolosClient(DATABASE)
    if RUN == "hold":
        handle = await chosen_steps.invoke(client)
        print(handle.id, flush=True)  # noqa: T201
    async with Worker(client, app="chosen_steps", drain=0):
        if RUN == "hold":
            await asyncio.Event().wait()
        while (await runs.get(client, RUN)).status not in ("succeeded", "failed"):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    print("ended", flush=True)  # noqa: T201


asyncio.run(main())
