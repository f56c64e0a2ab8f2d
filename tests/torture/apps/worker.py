"""The program under torture: a worker whose steps testify in a file outside of the database.

A line of the file is ``kind run step attempt pid time token``:

- ``before``: the step's function was entered; ``after``: it is about to return ``token``;
- ``cancelled``: it was cancelled instead;
- ``payload``: what a scheduled handler was given, when it was entered;
- ``ack``: ``ctx.step.run`` has returned ``token`` to the handler, so the step is recorded.
"""

from __future__ import annotations

import argparse
import asyncio
import atexit
import os
import signal
import sys
import threading
import time
import uuid
from datetime import datetime, timedelta, timezone
from typing import Any

import scenario
from oracle import Oracle

from polos import (
    Limit,
    PolosClient,
    Schedule,
    SchedulePayload,
    Worker,
    WorkflowContext,
    runs,
    schedules,
    workflow,
)

STEPS = ("a", "b", "c")
PERIOD = timedelta(seconds=1)
MICROSECOND = timedelta(microseconds=1)
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def arguments() -> argparse.Namespace:
    """What the harness asks of this life of the worker."""
    parser = argparse.ArgumentParser()
    parser.add_argument("database")
    parser.add_argument("oracle")
    parser.add_argument("--lease", type=float, default=15.0)
    parser.add_argument("--drain", type=float, default=10.0)
    parser.add_argument("--hold", type=float, default=0.0, help="how long step b of a job takes")
    parser.add_argument("--sync", action="store_true", help="step b is a sync function")
    parser.add_argument("--block", type=float, default=0.0, help="how long a blocker blocks")
    parser.add_argument("--stop", action="store_true", help="SIGSTOP itself before step c")
    parser.add_argument("--ticks", type=int, default=4, help="how many schedules are declared")
    parser.add_argument("--release", help="has a workflow and a schedule that others don't have")
    parser.add_argument("--limit", type=int, help="of runs of `limited` in progress")
    parser.add_argument("--rate", type=int, help="of runs of `paced` that start in a period")
    parser.add_argument("--per", type=float, default=1.0, help="that period")
    parser.add_argument("--concurrency", type=int, default=1_000)
    parser.add_argument("--durability", default="full")
    parser.add_argument("--diary", help="what a scenario acknowledges")
    parser.add_argument("--filler", type=int, default=20_000, help="bytes of its payloads")
    parser.add_argument("--exit", default="run", help="how it ends, or `scenario`")
    return parser.parse_args()


OPTIONS = arguments()
ORACLE = Oracle(OPTIONS.oracle)
LIGHTS = Oracle(OPTIONS.oracle + ".lights", durable=False)


def note(kind: str, run: str, step: str, attempt: int, token: str = "-") -> None:
    """Testify, durably, before anything else happens."""
    ORACLE.write(kind, run, step, attempt, os.getpid(), f"{time.time():.6f}", token)


def note_payload(ctx: WorkflowContext, payload: SchedulePayload) -> None:
    """All of its fields, instants in microseconds."""
    instants = (payload.timestamp, payload.last_timestamp, payload.upcoming)
    told = ["-" if at is None else f"{(at - EPOCH) // MICROSECOND}" for at in instants]
    told += [payload.timezone, payload.schedule_id, payload.key]
    note("payload", ctx.run_id, "-", ctx.attempt, "/".join(told))


async def step(ctx: WorkflowContext, name: str, hold: float = 0.0, sync: bool = False) -> str:
    """One step, with what it testifies; gives its token, new for each execution."""

    def enter() -> str:
        note("before", ctx.run_id, name, ctx.attempt)
        return uuid.uuid4().hex[:12]

    async def work() -> str:
        token = enter()
        try:
            if hold:
                await asyncio.sleep(hold)
        except asyncio.CancelledError:
            note("cancelled", ctx.run_id, name, ctx.attempt)
            raise
        note("after", ctx.run_id, name, ctx.attempt, token)
        return token

    def work_in_thread() -> str:
        token = enter()
        threading.Event().wait(hold)
        note("after", ctx.run_id, name, ctx.attempt, token)
        return token

    token = await (ctx.step.run(name, work_in_thread) if sync else ctx.step.run(name, work))
    note("ack", ctx.run_id, name, ctx.attempt, token)
    return token


@workflow(id="job")
async def job(ctx: WorkflowContext, payload: Any) -> list[str]:
    """Started by hand; its tokens are its result."""
    return [
        await step(ctx, "a"),
        await step(ctx, "b", OPTIONS.hold, OPTIONS.sync),
        await step(ctx, "c") if not OPTIONS.stop else await stopped(ctx),
    ]


async def stopped(ctx: WorkflowContext) -> str:
    """The process is suspended between two steps."""
    os.kill(os.getpid(), signal.SIGSTOP)
    return await step(ctx, "c")


@workflow(id="digest", schedule=True)
async def digest(ctx: WorkflowContext, payload: SchedulePayload) -> list[str]:
    """One schedule per key, made through the API."""
    note_payload(ctx, payload)
    return [await step(ctx, name) for name in STEPS]


@workflow(id="blocker")
async def blocker(ctx: WorkflowContext) -> None:
    """Blocks the event loop."""
    note("before", ctx.run_id, "block", ctx.attempt)
    time.sleep(OPTIONS.block)  # noqa: ASYNC251 -- the fault itself
    note("after", ctx.run_id, "block", ctx.attempt)


@workflow(id="light", schedule=True)
async def light(ctx: WorkflowContext) -> None:
    """Says that it ran, and no more: for crowds."""
    LIGHTS.write(ctx.run_id, f"{time.time():.6f}")


if OPTIONS.limit:

    @workflow(id="limited", concurrency=OPTIONS.limit)
    async def limited(ctx: WorkflowContext) -> None:
        """Says when it is in progress."""
        note("before", ctx.run_id, "work", ctx.attempt)
        await asyncio.sleep(OPTIONS.hold)
        note("after", ctx.run_id, "work", ctx.attempt)


if OPTIONS.rate:

    @workflow(id="paced", concurrency=Limit(rate=OPTIONS.rate, per=OPTIONS.per))
    async def paced(ctx: WorkflowContext) -> None:
        """When it was claimed is in the database."""


async def tick(ctx: WorkflowContext, payload: SchedulePayload) -> list[str]:
    """Declared, once a second."""
    note_payload(ctx, payload)
    return [await step(ctx, name) for name in STEPS]


if OPTIONS.release:
    # What this release of the program has beside what all have.
    workflow(id=f"tick-of-{OPTIONS.release}", schedule={"every": PERIOD})(tick)

    @workflow(id=f"job-of-{OPTIONS.release}")
    async def job_of_release(ctx: WorkflowContext, payload: Any) -> list[str]:
        """Nobody else can execute it."""
        return [await step(ctx, name, OPTIONS.hold if name == "b" else 0.0) for name in STEPS]


for number in range(OPTIONS.ticks):
    workflow(id=f"tick-{number}", schedule={"every": PERIOD})(tick)


def ready() -> None:
    """Tell the harness, which listens."""
    os.write(1, b"ready\n")


async def told() -> None:
    """Wait for a line from the harness."""
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)


def made(client: PolosClient) -> Worker:
    """The worker."""
    return Worker(
        client,
        app="torture",
        lease=OPTIONS.lease,
        concurrency=OPTIONS.concurrency,
        drain=OPTIONS.drain,
    )


async def run() -> None:
    """Until a signal comes."""
    client = PolosClient(OPTIONS.database)
    task = asyncio.ensure_future(made(client).run())
    known: list[Schedule] = []
    # Where releases differ, what this one alone has shows that it is this one that has begun.
    own = f"tick-of-{OPTIONS.release}" if OPTIONS.release else "tick-"

    def has_begun() -> bool:
        return any(s.worker_available and s.workflow.startswith(own) for s in known)

    while not task.done() and not has_begun():
        await asyncio.sleep(0.01)
        known = await schedules.list(client, owner="torture")
    ready()
    await task


async def run_quietly() -> None:
    """Until a signal comes, without a schedule by which to see that it has begun."""
    worker = made(PolosClient(OPTIONS.database))
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    async with worker:
        ready()
        await ended.wait()


async def managed(how: str) -> None:
    """Until told, then out of the ``async with`` block."""
    async with made(PolosClient(OPTIONS.database)):
        ready()
        await told()
        if how == "raise":
            raise RuntimeError("unhandled, as is wanted")


async def unmanaged(how: str) -> None:
    """Until told, then out without a word to the worker."""
    client = PolosClient(OPTIONS.database)
    await made(client).start()
    ready()
    await told()
    if how == "sys-exit":
        sys.exit(3)
    if how == "os-exit":
        os._exit(4)
    if how == "loop-stop":
        asyncio.get_running_loop().stop()
        await asyncio.sleep(60)
    if how == "atexit":
        atexit.register(lambda: runs.sync.list(client, limit=1))
    if how == "atexit-close":
        atexit.register(client.close)


def in_daemon_thread() -> None:
    """The worker lives in a daemon thread, and the main thread ends."""

    async def work() -> None:
        async with made(PolosClient(OPTIONS.database)):
            ready()
            await asyncio.Event().wait()

    threading.Thread(target=lambda: asyncio.run(work()), daemon=True).start()
    sys.stdin.readline()


def main() -> None:
    """Work, and end as asked."""
    how = OPTIONS.exit
    if how == "run":
        asyncio.run(run() if OPTIONS.ticks else run_quietly())
    elif how == "daemon-thread":
        in_daemon_thread()
    elif how == "scenario":
        client = PolosClient(OPTIONS.database, durability=OPTIONS.durability)
        asyncio.run(scenario.play(client, made(client), OPTIONS.diary, OPTIONS.filler))
    elif how in ("return", "raise"):
        asyncio.run(managed(how))
    else:
        asyncio.run(unmanaged(how))


if __name__ == "__main__":
    main()
