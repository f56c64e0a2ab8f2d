"""Warn if a caller waits for a run that no worker can execute."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from polos._core import requests
from polos._core.blocking import is_blocking
from polos._core.per_loop import PerLoop
from polos._core.safe_logging import quiet_logger
from polos.exceptions import PolosError

if TYPE_CHECKING:
    from polos.client import PolosClient

__all__ = ["AwaitedRun"]

_log = quiet_logger("polos.run")

# Long enough for a worker that starts at the same time.
_SECONDS = 5.0


class _Waits:
    """What callers on one loop wait for. One timer serves them all: most waits end long before it
    is due, and a timer for each would cost more than the rest of a short wait.
    """

    def __init__(self) -> None:
        self.unchecked: dict[AwaitedRun, None] = {}  # oldest first
        self.checked: set[AwaitedRun] = set()
        self.has_timer = False
        # Checks in progress: the loop keeps only weak references.
        self.checks: set[asyncio.Task[None]] = set()

    def add(self, wait: AwaitedRun, loop: asyncio.AbstractEventLoop) -> None:
        """Add a wait that begins now."""
        self.unchecked[wait] = None
        if not self.has_timer:
            self.has_timer = True
            loop.call_later(_SECONDS, self.check_due, loop)

    def remove(self, wait: AwaitedRun) -> None:
        """Remove a wait that has ended."""
        self.unchecked.pop(wait, None)
        self.checked.discard(wait)

    def check_due(self, loop: asyncio.AbstractEventLoop) -> None:
        """Check the waits that are old enough, and set the timer for the next one."""
        self.has_timer = False
        due: list[AwaitedRun] = []
        for wait in self.unchecked:
            if wait.since + _SECONDS > loop.time():
                self.has_timer = True
                loop.call_at(wait.since + _SECONDS, self.check_due, loop)
                break
            due.append(wait)
        for wait in due:
            del self.unchecked[wait]
        if due:
            self.checked.update(due)
            task = loop.create_task(self._check(due))
            self.checks.add(task)
            task.add_done_callback(self.checks.discard)

    async def _check(self, waits: list[AwaitedRun]) -> None:
        for wait in waits:
            if wait in self.checked:
                await self._check_one(wait)

    async def _check_one(self, wait: AwaitedRun) -> None:
        from polos import workers

        try:
            run = await wait.client._ask(requests.get_run(wait.run_id))
            if run["status"] != "queued":
                return
            found = await workers.list(wait.client)
        except PolosError:  # the caller that waits gets the error
            return
        workflow = run["workflow"]
        if wait not in self.checked or any(
            workflow in worker.workflows and not worker.is_gone for worker in found
        ):
            return
        _log.warning(
            "run %s of workflow `%s` is awaited, but no live worker has registered that workflow: "
            "start one "
            "that imports it (`polos run app.py`, or `async with Worker(client)`)",
            wait.run_id,
            workflow,
        )


_waits = PerLoop(lambda _: _Waits())


class AwaitedRun:
    """The wait of a caller for a run, as a context manager. After 5 seconds, warns once if the run
    is still queued and no live worker has registered its workflow.
    """

    __slots__ = ("client", "run_id", "since", "waits")

    def __init__(self, client: PolosClient, run_id: str) -> None:
        self.client = client
        self.run_id = run_id
        self.since = 0.0  # by the loop's clock
        self.waits: _Waits | None = None

    def __enter__(self) -> None:
        if is_blocking() or self.client._is_virtual():
            return
        loop = asyncio.get_running_loop()
        self.since, self.waits = loop.time(), _waits.of(loop)
        self.waits.add(self, loop)

    def __exit__(self, *raised: object) -> None:
        if self.waits is not None:
            self.waits.remove(self)
