"""Warn if a caller waits for a run that no worker can execute."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from polos._core import requests
from polos._core.blocking import is_blocking
from polos._core.safe_logging import quiet_logger
from polos.exceptions import PolosError

if TYPE_CHECKING:
    from polos.client import PolosClient

__all__ = ["warning_without_worker"]

_log = quiet_logger("polos.run")

# Long enough for a worker that starts at the same time.
_SECONDS = 5.0

# Checks in progress: the loop keeps only weak references.
_checks: set[asyncio.Task[None]] = set()


@contextmanager
def warning_without_worker(client: PolosClient, run_id: str) -> Iterator[None]:
    """Warn once if the run is still queued after 5 seconds and no live worker has registered its
    workflow.
    """
    if is_blocking() or client._is_virtual():
        yield
        return
    loop = asyncio.get_running_loop()
    checks: list[asyncio.Task[None]] = []

    def begin() -> None:
        task = loop.create_task(_check(client, run_id))
        checks.append(task)
        _checks.add(task)
        task.add_done_callback(_checks.discard)

    timer = loop.call_later(_SECONDS, begin)
    try:
        yield
    finally:
        timer.cancel()
        for task in checks:
            task.cancel()


async def _check(client: PolosClient, run_id: str) -> None:
    from polos import workers

    try:
        run = await client._ask(requests.get_run(run_id))
        if run["status"] != "queued":
            return
        found = await workers.list(client)
    except PolosError:  # the caller that waits gets the error
        return
    workflow = run["workflow"]
    if any(workflow in worker.workflows and not worker.is_gone for worker in found):
        return
    _log.warning(
        "run %s of workflow `%s` is awaited, but no live worker has registered that workflow: "
        "start one "
        "that imports it (`polos run app.py`, or `async with Worker(client)`)",
        run_id,
        workflow,
    )
