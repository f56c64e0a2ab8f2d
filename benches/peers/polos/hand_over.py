"""Runs invoked in one process and executed in another: call -> the handler's first line."""

import asyncio
import subprocess
import sys
import time

import side
from polos import PolosClient, RunHandle, Worker, WorkflowContext, workflow

options = side.options(url="", runs=200, role="client")


@workflow(id="handed-over")
async def handed_over(ctx: WorkflowContext, payload: float) -> float:
    return (time.time() - payload) * 1e3


async def work() -> None:
    async with PolosClient(side.database(options)) as client, Worker(client):
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.read)


async def call() -> list[float]:
    handles: list[RunHandle[float]] = []
    async with PolosClient(side.database(options)) as client:
        for number in range(options.runs):
            # Not in step with any polling period.
            await asyncio.sleep(0.02 + 0.013 * (number % 7))
            handles.append(await handed_over.invoke(client, time.time()))
        return [await handle.result(timeout=60) for handle in handles]


def main() -> None:
    command = [sys.executable, __file__, *sys.argv[1:], "--role", "worker"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe) as worker:
        assert worker.stdout is not None
        worker.stdout.readline()
        waits = asyncio.run(call())
        # The worker ends when its stdin is closed.
        worker.communicate(timeout=60)
    side.report(wait_ms=waits)


if options.role == "worker":
    asyncio.run(work())
else:
    main()
