"""A worker whose handlers do what their payload names; `handler_acts.py` lists the acts.

The lines of its oracle are those of `worker.py`: ``kind run step attempt pid time token``.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from typing import Any

from apps import handler_acts
from oracle import Oracle

from polos import PolosClient, SyncWorkflowContext, Worker, WorkflowContext, workflow
from polos._runtime.asyncio_run import run_to_end
from polos.workflow import registry


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("database")
    parser.add_argument("oracle")
    parser.add_argument("--lease", type=float, default=15.0)
    parser.add_argument("--drain", type=float, default=1.0)
    parser.add_argument("--concurrency", type=int, default=100)
    parser.add_argument("--threads", type=int, default=64)
    parser.add_argument("--limit", type=float, default=0.3, help="timeout of limited workflows")
    parser.add_argument("--without", nargs="*", default=[], help="workflows that it doesn't have")
    return parser.parse_args()


OPTIONS = arguments()
# Not synced: some runs have thousands of steps.
ORACLE = Oracle(OPTIONS.oracle, durable=False)


def note(ctx: WorkflowContext | SyncWorkflowContext, kind: str, step: str = "-") -> None:
    ORACLE.write(kind, ctx.run_id, step, ctx.attempt, os.getpid(), f"{time.time():.6f}", "-")


def act_of(name: str) -> Any:
    """Look an act up in all tables."""
    if name in handler_acts.FAILURES:
        return handler_acts.FAILURES[name].act
    return {**handler_acts.UNSTORABLE, **handler_acts.STORABLE, **handler_acts.HANGING}[name]


@workflow(id="act-async")
async def act_async(ctx: WorkflowContext, payload: Any) -> Any:
    note(ctx, "enter")
    return act_of(payload["act"])()


@workflow(id="act-sync")
def act_sync(ctx: SyncWorkflowContext, payload: Any) -> Any:
    note(ctx, "enter")
    return act_of(payload["act"])()


@workflow(id="act-step", retries=0)
async def act_step(ctx: WorkflowContext, payload: Any) -> Any:
    """Perform the act in a step, then record that the handler continued."""
    note(ctx, "enter")
    value = await ctx.step.run("act", act_of(payload["act"]))
    await ctx.step.run("after", note, ctx, "after", "after")
    return value


@workflow(id="act-step-of-sync")
def act_step_of_sync(ctx: SyncWorkflowContext, payload: Any) -> Any:
    note(ctx, "enter")
    return ctx.step.run("act", act_of(payload["act"]))


async def limited(ctx: WorkflowContext, payload: Any) -> Any:
    note(ctx, "enter")
    made = act_of(payload["act"])
    if asyncio.iscoroutinefunction(made):
        return await made()
    return await ctx.step.run("thread", made)


def limited_sync(ctx: SyncWorkflowContext, payload: Any) -> Any:
    note(ctx, "enter")
    return act_of(payload["act"])()


async def limited_step(ctx: WorkflowContext, payload: Any) -> Any:
    """Limit the step instead of the run."""
    note(ctx, "enter")
    return await ctx.step.run("act", act_of(payload["act"]), timeout=OPTIONS.limit)


workflow(id="limited", timeout=OPTIONS.limit)(limited)
workflow(id="limited-sync", timeout=OPTIONS.limit)(limited_sync)
workflow(id="limited-step")(limited_step)
workflow(id="unlimited")(limited)
workflow(id="unlimited-sync")(limited_sync)


@workflow(id="echo")
async def echo(ctx: WorkflowContext, payload: Any) -> Any:
    return payload


@workflow(id="steps")
async def steps(ctx: WorkflowContext, payload: int) -> int:
    """Execute many steps, one after another."""
    total = 0
    for number in range(payload):
        total += await ctx.step.run(f"step-{number}", int, number)
    return total


@workflow(id="walk")
async def walk(ctx: WorkflowContext, payload: float) -> str:
    """Execute twenty steps of ``payload`` seconds; record when each begins and ends."""
    try:
        for number in range(20):
            await ctx.step.run(f"{number}", walked, ctx, number, payload)
    except BaseException:
        # A stopped run executes no more steps, not even those of its cleanup.
        await ctx.step.run("cleanup", note, ctx, "before", "cleanup")
        raise
    return "arrived"


async def walked(ctx: WorkflowContext, number: int, delay: float) -> None:
    note(ctx, "before", f"{number}")
    # F30 makes it infinite.
    await asyncio.sleep(min(delay, 1.0))
    note(ctx, "after", f"{number}")


@workflow(id="digest", schedule=True)
async def digest(ctx: WorkflowContext, payload: Any) -> str:
    note(ctx, "slot", f"{payload.timestamp.timestamp():.0f}")
    return "well"


@workflow(id="slow", schedule=True)
async def slow(ctx: WorkflowContext, payload: Any) -> None:
    """Take as many seconds as the schedule's input says."""
    note(ctx, "before", "slow")
    await asyncio.sleep(ctx.input)
    note(ctx, "after", "slow")


class ReportingWorker(Worker):
    """Reports to the harness that it has registered."""

    async def start(self) -> None:
        await super().start()
        os.write(1, b"ready\n")


def main() -> None:
    worker = ReportingWorker(
        PolosClient(OPTIONS.database),
        app="handlers",
        lease=OPTIONS.lease,
        drain=OPTIONS.drain,
        concurrency=OPTIONS.concurrency,
        threads=OPTIONS.threads,
        workflows=[made for made in registry().values() if made.id not in OPTIONS.without],
    )
    run_to_end(worker.run())  # as `polos.run` does


if __name__ == "__main__":
    main()
