"""Real workflows on the real engine, in virtual time.

    async with polos.testing.clock("2026-03-07T12:00-05:00") as t:
        await t.advance(days=3)
        assert len(await t.runs(workflow="daily-report")) == 3

The database is in memory, and its clock stands still until it is advanced: then everything that
is due happens in order, each at its instant, as fast as the machine can. What a handler awaits
besides time (a thread, a socket) takes as long as it takes.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta, tzinfo
from typing import Any

from polos import runs
from polos._describe import shown
from polos._time import aware, from_micros
from polos._worker import ActiveRun, Executor
from polos.client import PolosClient
from polos.exceptions import InvalidArgumentError
from polos.models import Run
from polos.worker import Worker

__all__ = ["VirtualTime", "clock"]

# How long a handler may be busy with something other than time before virtual time goes on
# without it, if a timeout is running that could end it.
_PATIENCE = 0.1

# How long virtual time waits for a handler altogether.
_PATIENCE_MAX = 30.0


@asynccontextmanager
async def clock(
    start: datetime | str, *, project_id: str = "default", **options: Any
) -> AsyncIterator[VirtualTime]:
    """A worker with the registered workflows, whose clock stands at ``start``.

    :param start: an aware datetime, or its ISO text.
    :param options: those of :class:`polos.Worker`; without ``retention``, everything is kept.
    """
    options.setdefault("retention", None)
    if isinstance(start, str):
        try:
            start = datetime.fromisoformat(start)
        except ValueError:
            raise InvalidArgumentError(
                f"start: {shown(start)} isn't an ISO datetime such as `2026-03-07T12:00-05:00`"
            ) from None
    aware("start", start)
    client = PolosClient._in_memory(start, project_id=project_id)
    time = VirtualTime(client, Worker(client, **options), start.tzinfo)
    await time.worker.start()
    try:
        await time._settle()
        yield time
    finally:
        await time._end()
        client.close()


class VirtualTime:
    """A clock that is turned by hand, with a worker that lives by it."""

    def __init__(self, client: PolosClient, worker: Worker, zone: tzinfo | None) -> None:
        self.client = client
        self.worker = worker
        self._zone = zone
        self._nudges_seen = 0
        self._hanging: weakref.WeakSet[ActiveRun] = weakref.WeakSet()

    @property
    def now(self) -> datetime:
        """What the clock says, in the zone that it was started in."""
        return from_micros(self.client._now()).astimezone(self._zone)

    async def advance(self, delta: timedelta | None = None, **parts: float) -> None:
        """Let time go on by ``delta``, or by ``days=``, ``hours=``, ``minutes=``, ``seconds=``.

        Raises ``TimeoutError`` when a handler doesn't come to rest within 30 real seconds.
        """
        step = delta if delta is not None else timedelta(**parts)
        if step < timedelta(0):
            raise InvalidArgumentError(f"advance: {step} given; time only goes forward")
        await self.advance_to(from_micros(self.client._now()) + step)

    async def advance_to(self, instant: datetime) -> None:
        """Let time go on until ``instant`` (aware)."""
        target = aware("instant", instant)
        core = self.client._opened()
        while True:
            due = await self._settle()
            if due is None or due > target:
                break
            core.advance_to(due)
        core.advance_to(target)
        await self._settle()

    async def set_to(self, instant: datetime) -> None:
        """Set the wall clock to ``instant`` (aware), forward or back, as somebody who corrects it
        would: no time passes, so sleeps, timeouts and retries that are under way take as long as
        before. What was to come in between is late when the clock was set forward, and
        ``catch_up`` decides about it.
        """
        await self._settle()
        self.client._opened().set_wall(aware("instant", instant))
        await self._settle()

    async def runs(self, **filters: Any) -> list[Run]:
        """Runs, oldest first; filters as in :func:`polos.runs.list`."""
        return (await runs.list(self.client, limit=None, **filters))[::-1]

    @property
    def _executor(self) -> Executor:
        executor = self.worker._executor
        assert executor is not None, "the worker has stopped"
        return executor

    async def _settle(self) -> int | None:
        """Let everything happen that is due now; gives when something is due next."""
        executor, core = self._executor, self.client._opened()
        worker_core = executor.core
        assert worker_core is not None
        while True:
            turned = worker_core.turn()
            executor.bridge.drain()
            await self._rest(executor)
            if turned is None or turned[2]:
                return None
            again = worker_core.turn()
            if again is None:
                return None
            wall, within, _ = again
            now = core.now()
            due = now + within if wall is None else min(wall, now + within)
            has_news = executor.bridge.drain()
            if due > now and not has_news and not self._busy(executor):
                return due

    def _busy(self, executor: Executor) -> list[ActiveRun]:
        """Runs under way that wait for something other than time, and may well go on."""
        return [
            active
            for active in executor.active.values()
            if not active.waits_for_time() and active not in self._hanging
        ]

    async def _rest(self, executor: Executor) -> None:
        """Wait until every handler under way waits for time, or seems to hang."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        if executor.nudge_count != self._nudges_seen:
            # What seemed to hang may have been stirred: by a timeout, for example.
            self._nudges_seen = executor.nudge_count
            self._hanging.clear()
        for _ in range(50):
            await asyncio.sleep(0)
            executor.bridge.drain()
            if not self._busy(executor):
                return
        while busy := self._busy(executor):
            patience = _PATIENCE if executor.has_timers() else _PATIENCE_MAX
            before = executor.change_count
            await executor.changed(patience)
            executor.bridge.drain()
            if executor.change_count == before and executor.has_timers():
                # Time may end what they wait for, and won't be held up by them again.
                self._hanging.update(busy)
                return
            if loop.time() - begun > _PATIENCE_MAX:
                names = ", ".join(sorted({active.workflow.id for active in busy}))
                raise TimeoutError(f"virtual time waits in vain for the handlers of {names}")

    async def _end(self) -> None:
        for active in list(self._executor.active.values()):
            active.stop("released")
        for _ in range(50):
            await asyncio.sleep(0)
        await self.worker.close()
