"""A worker whose runs wait for other runs in every possible way.

A line of its oracle is ``before run - level pid time -`` for each execution of a leaf.
"""

from __future__ import annotations

import argparse
import os
import time
from typing import Any

from oracle import Oracle

import polos
from polos import PolosClient, SyncWorkflowContext, WorkflowContext, runs, workflow


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("database")
    parser.add_argument("oracle")
    parser.add_argument("--lease", type=float, default=15.0)
    parser.add_argument("--drain", type=float, default=10.0)
    parser.add_argument("--concurrency", type=int, default=1_000)
    parser.add_argument("--threads", type=int, default=64)
    return parser.parse_args()


OPTIONS = arguments()
ORACLE = Oracle(OPTIONS.oracle)
CLIENT = PolosClient(OPTIONS.database)


def record_step(run: str) -> int:
    """Record an execution of a leaf durably."""
    ORACLE.write("before", run, "leaf", 1, os.getpid(), f"{time.time():.6f}", "-")
    return 1


@workflow(id="leaf")
async def leaf(ctx: WorkflowContext, level: int) -> int:
    """Wait for nothing."""
    return await ctx.step.run("record_step", record_step, ctx.run_id)


def below(id: str, level: int) -> str:
    """Return the workflow that a run of this level waits for."""
    return id if level > 1 else "leaf"


@workflow(id="async-step")
async def async_step(ctx: WorkflowContext, level: int) -> int:
    """Wait without occupying a task."""
    return int(await ctx.step.invoke(below("async-step", level), level - 1))


@workflow(id="async-gather")
async def async_gather(ctx: WorkflowContext, level: int) -> int:
    """Wait for several children at once, while the handler stays in memory."""
    children = [
        ctx.step.invoke(below("async-gather", level), level - 1, name=name) for name in ("a", "b")
    ]
    return sum(await ctx.step.gather(*children))


@workflow(id="async-handle")
async def async_handle(ctx: WorkflowContext, level: int) -> int:
    """Wait for a run that isn't a child; the same run when the handler is executed again."""
    key = f"{ctx.run_id}:below"
    handle: Any = await runs.invoke(
        CLIENT, below("async-handle", level), level - 1, idempotency_key=key
    )
    return int(await handle.result())


@workflow(id="sync-step")
def sync_step(ctx: SyncWorkflowContext, level: int) -> int:
    """Wait without occupying a thread."""
    return int(ctx.step.invoke(below("sync-step", level), level - 1))


@workflow(id="sync-handle")
def sync_handle(ctx: SyncWorkflowContext, level: int) -> int:
    """Wait in the handler's thread."""
    key = f"{ctx.run_id}:below"
    handle: Any = runs.sync.invoke(
        CLIENT, below("sync-handle", level), level - 1, idempotency_key=key
    )
    return int(handle.sync.result())


@workflow(id="sync-in-step")
def sync_in_step(ctx: SyncWorkflowContext, level: int) -> int:
    """Wait in a step's function."""

    def wait() -> int:
        key = f"{ctx.run_id}:below"
        handle: Any = runs.sync.invoke(
            CLIENT, below("sync-in-step", level), level - 1, idempotency_key=key
        )
        return int(handle.sync.result())

    return ctx.step.run("wait", wait)


if __name__ == "__main__":
    with CLIENT:
        polos.run(
            CLIENT,
            app="parents",
            lease=OPTIONS.lease,
            drain=OPTIONS.drain,
            concurrency=OPTIONS.concurrency,
            threads=OPTIONS.threads,
        )
