"""A worker with hooks that are recorded: ``hook_worker.py DATABASE ORACLE LEASE``.

Lines of the oracle are ``called OUTCOME RUN PID``, when a hook is called. The payload of a run says
whether it fails, and whether its hook kills the process that calls it first: before it records the
call, or after.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

from oracle import Oracle

from polos import PolosClient, RunFailure, RunSuccess, Worker, WorkflowContext, workflow

DATABASE, PATH, LEASE = sys.argv[1], sys.argv[2], float(sys.argv[3])
ORACLE = Oracle(PATH)


def record_call(outcome: str, event: RunSuccess | RunFailure) -> None:
    """Record a call. The run's key says where the first call kills the process."""
    dies = event.key.partition(" ")[0]
    mark = Path(f"{PATH}.{event.run_id}")
    is_first = dies != "never" and not mark.exists()
    if is_first:
        mark.touch()
    if is_first and dies == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    ORACLE.write("called", outcome, event.run_id, os.getpid())
    if is_first and dies == "after":
        os.kill(os.getpid(), signal.SIGKILL)


def succeeded(event: RunSuccess) -> None:
    record_call("succeeded", event)


def failed(event: RunFailure) -> None:
    record_call("failed", event)


@workflow(id="act", max_interruptions=1_000, on_success=succeeded, on_failure=failed)
async def act(ctx: WorkflowContext, payload: dict[str, Any]) -> None:
    await asyncio.sleep(0.01)
    if payload["fails"]:
        raise ValueError("expected")


async def main() -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with PolosClient(DATABASE) as client, Worker(client, lease=LEASE, app="hooks"):
        print("ready", flush=True)  # noqa: T201
        await stop.wait()


asyncio.run(main())
