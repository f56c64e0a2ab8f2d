"""The tested program: a worker whose steps record their execution in the oracle.

A line of the file is ``kind run step attempt pid time token``:

- ``before``: the step's function has started; ``after``: it is about to return ``token``;
- ``cancelled``: it was cancelled instead;
- ``payload``: the payload of a scheduled handler, when the handler starts;
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
    """Parse the command line."""
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
    parser.add_argument("--change-log", help="the file of a scenario's changes")
    parser.add_argument("--filler", type=int, default=20_000, help="bytes of its payloads")
    parser.add_argument("--exit", default="run", help="how it ends, or `scenario`")
    return parser.parse_args()


OPTIONS = arguments()
ORACLE = Oracle(OPTIONS.oracle)
LIGHTS = Oracle(OPTIONS.oracle + ".lights", durable=False)


def note(kind: str, run: str, step: str, attempt: int, token: str = "-") -> None:
    """Record a line durably before anything else happens."""
    ORACLE.write(kind, run, step, attempt, os.getpid(), f"{time.time():.6f}", token)


def note_payload(ctx: WorkflowContext, payload: SchedulePayload) -> None:
    """Record all fields of the payload, instants in microseconds."""
    instants = (payload.timestamp, payload.last_timestamp, payload.upcoming)
    fields = ["-" if at is None else f"{(at - EPOCH) // MICROSECOND}" for at in instants]
    fields += [payload.timezone, payload.schedule_id, payload.key]
    note("payload", ctx.run_id, "-", ctx.attempt, "/".join(fields))


async def step(ctx: WorkflowContext, name: str, hold: float = 0.0, sync: bool = False) -> str:
    """Execute a step that records itself; return its token, new for each execution."""

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
    """Execute three steps; their tokens are the result."""
    return [
        await step(ctx, "a"),
        await step(ctx, "b", OPTIONS.hold, OPTIONS.sync),
        await step(ctx, "c") if not OPTIONS.stop else await stopped(ctx),
    ]


async def stopped(ctx: WorkflowContext) -> str:
    """Suspend the process between two steps."""
    os.kill(os.getpid(), signal.SIGSTOP)
    return await step(ctx, "c")


@workflow(id="digest", schedule=True)
async def digest(ctx: WorkflowContext, payload: SchedulePayload) -> list[str]:
    """The workflow of schedules that are created by the API."""
    note_payload(ctx, payload)
    return [await step(ctx, name) for name in STEPS]


@workflow(id="blocker")
async def blocker(ctx: WorkflowContext) -> None:
    """Block the event loop."""
    note("before", ctx.run_id, "block", ctx.attempt)
    time.sleep(OPTIONS.block)  # noqa: ASYNC251 -- the fault itself
    note("after", ctx.run_id, "block", ctx.attempt)


@workflow(id="light", schedule=True)
async def light(ctx: WorkflowContext) -> None:
    """Record only that it ran: for many runs at once."""
    LIGHTS.write(ctx.run_id, f"{time.time():.6f}")


if OPTIONS.limit:

    @workflow(id="limited", concurrency=OPTIONS.limit)
    async def limited(ctx: WorkflowContext) -> None:
        """Record when it is in progress."""
        note("before", ctx.run_id, "work", ctx.attempt)
        await asyncio.sleep(OPTIONS.hold)
        note("after", ctx.run_id, "work", ctx.attempt)


if OPTIONS.rate:

    @workflow(id="paced", concurrency=Limit(rate=OPTIONS.rate, per=OPTIONS.per))
    async def paced(ctx: WorkflowContext) -> None:
        """Record nothing: the database has the time of the claim."""


async def tick(ctx: WorkflowContext, payload: SchedulePayload) -> list[str]:
    """The workflow of schedules that are declared in code."""
    note_payload(ctx, payload)
    return [await step(ctx, name) for name in STEPS]


if OPTIONS.release:
    # What only this release of the program has.
    workflow(id=f"tick-of-{OPTIONS.release}", schedule={"every": PERIOD})(tick)

    @workflow(id=f"job-of-{OPTIONS.release}")
    async def job_of_release(ctx: WorkflowContext, payload: Any) -> list[str]:
        """A workflow that other releases can't execute."""
        return [await step(ctx, name, OPTIONS.hold if name == "b" else 0.0) for name in STEPS]


for number in range(OPTIONS.ticks):
    workflow(id=f"tick-{number}", schedule={"every": PERIOD})(tick)


def ready() -> None:
    """Report to the harness that the worker is ready."""
    os.write(1, b"ready\n")


async def line_from_harness() -> None:
    """Wait for a line from the harness."""
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)


def make_worker(client: PolosClient) -> Worker:
    """Make the worker."""
    return Worker(
        client,
        app="torture",
        lease=OPTIONS.lease,
        concurrency=OPTIONS.concurrency,
        drain=OPTIONS.drain,
    )


async def run() -> None:
    """Work until a signal comes."""
    client = PolosClient(OPTIONS.database)
    task = asyncio.ensure_future(make_worker(client).run())
    known: list[Schedule] = []
    # If releases differ, the schedule of this one shows that this worker has begun.
    own = f"tick-of-{OPTIONS.release}" if OPTIONS.release else "tick-"

    def has_begun() -> bool:
        return any(s.worker_available and s.workflow.startswith(own) for s in known)

    while not task.done() and not has_begun():
        await asyncio.sleep(0.01)
        known = await schedules.list(client, owner="torture")
    ready()
    await task


async def run_quietly() -> None:
    """Work until a signal comes, without schedules."""
    worker = make_worker(PolosClient(OPTIONS.database))
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    async with worker:
        ready()
        await ended.wait()


async def managed(how: str) -> None:
    """Work until the harness sends a line, then leave the ``async with`` block."""
    async with make_worker(PolosClient(OPTIONS.database)):
        ready()
        await line_from_harness()
        if how == "raise":
            raise RuntimeError("expected")


async def unmanaged(how: str) -> None:
    """Work until the harness sends a line, then end without closing the worker."""
    client = PolosClient(OPTIONS.database)
    await make_worker(client).start()
    ready()
    await line_from_harness()
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
    """Run the worker in a daemon thread while the main thread ends."""

    async def work() -> None:
        async with make_worker(PolosClient(OPTIONS.database)):
            ready()
            await asyncio.Event().wait()

    threading.Thread(target=lambda: asyncio.run(work()), daemon=True).start()
    sys.stdin.readline()


def main() -> None:
    """Work, and end in the requested way."""
    how = OPTIONS.exit
    if how == "run":
        asyncio.run(run() if OPTIONS.ticks else run_quietly())
    elif how == "daemon-thread":
        in_daemon_thread()
    elif how == "scenario":
        client = PolosClient(OPTIONS.database, durability=OPTIONS.durability)
        asyncio.run(scenario.play(client, make_worker(client), OPTIONS.change_log, OPTIONS.filler))
    elif how in ("return", "raise"):
        asyncio.run(managed(how))
    else:
        asyncio.run(unmanaged(how))


if __name__ == "__main__":
    main()
