"""A worker with secret payloads, results, steps, and inputs; prints what users see.

``secret_values.py DATABASE PAYLOAD RESULT STEP INPUT``
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from datetime import timedelta
from typing import Any

import polos
from polos import PolosClient, Worker, WorkflowContext, runs, schedules, workflow

DATABASE, PAYLOAD, RESULT, STEP, INPUT = sys.argv[1:]

logging.basicConfig(level=logging.INFO)


@workflow(id="keeps")
async def keeps(ctx: WorkflowContext, payload: Any) -> str:
    await ctx.step.run("step", lambda: STEP)
    return RESULT


@workflow(id="fails", retries=1, backoff=0.01)
async def fails(ctx: WorkflowContext, payload: Any) -> str:
    await ctx.step.run("step", lambda: STEP)
    raise ValueError("expected")


@workflow(id="unstorable")
async def unstorable(ctx: WorkflowContext, payload: Any) -> Any:
    return {"it": RESULT, "other": threading.Lock()}


@workflow(id="picky")
async def picky(ctx: WorkflowContext, payload: int) -> None: ...


@workflow(id="tick", schedule=True, timeout=0.2)
async def tick(ctx: WorkflowContext, payload: Any) -> None:
    await asyncio.Event().wait()


def say(text: object) -> None:
    print(str(text).replace("\n", " "), flush=True)  # noqa: T201


async def main() -> None:
    async with PolosClient(DATABASE) as client, Worker(client, app="secrets", drain=0):
        say(await schedules.create(client, tick, every=timedelta(seconds=1), input=INPUT))
        for started in (keeps, fails, unstorable):
            handle: Any = await started.invoke(client, {"it": PAYLOAD})
            say(handle)
            try:
                await handle.result(30)
            except Exception as error:
                say(f"{type(error).__name__}: {error}")
        asked: list[Any] = [
            lambda: runs.invoke(client, "keeps", {"it": PAYLOAD, "bad": object()}),
            lambda: runs.invoke(client, "keeps", [PAYLOAD, {PAYLOAD, object()}]),
            lambda: runs.invoke(client, "picky", PAYLOAD),
            lambda: runs.invoke(client, "keep", PAYLOAD),
        ]
        for ask in asked:
            try:
                await ask()
            except polos.PolosError as error:
                say(f"{type(error).__name__}: {error}")
        while not await runs.list(client, workflow="tick", status="failed"):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        say("done")
        await asyncio.Event().wait()


asyncio.run(main())
