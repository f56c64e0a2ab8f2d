"""A worker whose runs wait for events, or are debounced: ``event_worker.py DATABASE ORACLE LEASE``.

Lines of the oracle are ``got RUN EVENT VALUE``, when a wait returns (``None`` after a timeout), and
``indexed RUN KEY NUMBER``, when the run of a debounced call starts.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from oracle import Oracle

from polos import PolosClient, Worker, WorkflowContext, workflow

DATABASE, PATH, LEASE = sys.argv[1], sys.argv[2], float(sys.argv[3])
ORACLE = Oracle(PATH)


@workflow(id="wait")
async def wait(ctx: WorkflowContext, payload: dict[str, Any]) -> list[Any]:
    answers = []
    for name in payload["names"]:
        answer = await ctx.step.wait_event(name, timeout=payload["timeout"])
        ORACLE.write("got", ctx.run_id, name, answer)
        answers.append(answer)
    return answers


@workflow(id="index")
async def index(ctx: WorkflowContext, payload: dict[str, Any]) -> None:
    ORACLE.write("indexed", ctx.run_id, payload["key"], payload["number"])
    await ctx.step.run("index", asyncio.sleep, 0.01)


async def main() -> None:
    async with PolosClient(DATABASE) as client, Worker(client, lease=LEASE, app="events"):
        print("ready", flush=True)  # noqa: T201
        await asyncio.Event().wait()


asyncio.run(main())
