"""An application whose steps execute in processes of their own.

``python process_steps.py DATABASE ORACLE`` is a worker. ``polos run process_steps.py --workers N``
starts several; the variable ``ORACLE`` names the oracle then.

A line of the oracle is ``kind word``: ``worker PID`` when a handler starts, ``process PID``
when the function of a step begins, and ``done RUN:STEP`` before it returns.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import sys

from oracle import Oracle

from polos import PolosClient, Worker, WorkflowContext, workflow

STEPS = 3


def compute(path: str, mark: str, rounds: int) -> int:
    """Compute for a while, holding the interpreter's lock most of the time."""
    oracle = Oracle(path, durable=False)
    oracle.write("process", os.getpid())
    for _ in range(rounds):
        hashlib.pbkdf2_hmac("sha256", b"password", b"salt", 2_000)
    oracle.write("done", mark)
    return rounds


@workflow(id="isolated", max_interruptions=None)  # the faults kill many processes
async def isolated(ctx: WorkflowContext, rounds: int) -> int:
    path = os.environ["ORACLE"]
    Oracle(path, durable=False).write("worker", os.getpid())
    sums = 0
    for number in range(STEPS):
        name = f"step-{number}"
        sums += await ctx.step.run(
            name, compute, path, f"{ctx.run_id}:{name}", rounds,
            process=True, timeout=30, retries=1_000, backoff=0.01,
        )  # fmt: skip
    return sums


async def main() -> None:
    database, os.environ["ORACLE"] = sys.argv[1:3]
    async with (
        PolosClient(database) as client,
        Worker(client, app="isolated", concurrency=8, processes=3, lease=2.0),
    ):
        print("ready", flush=True)  # noqa: T201
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
