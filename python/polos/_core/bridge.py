"""Deliver items from the core's threads to an event loop: one socket, one wake-up per batch.

The core never waits for Python's global interpreter lock. It puts items into a queue and writes one
byte; the loop's own thread then takes everything that has gathered.
"""

from __future__ import annotations

import asyncio
import weakref
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from polos._core.per_loop import PerLoop
from polos._core.safe_logging import quiet_logger
from polos._polos import Bridge, ClaimedRun, Core

__all__ = ["LoopBridge", "ask"]

_log = quiet_logger("polos.worker")


class LoopBridge:
    """A bridge that one loop watches. ``start`` gets every run to start, and ``handle`` every other
    item that is not the answer to a request. While it is held, items gather and none is handled.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        handle: Callable[[tuple[Any, ...]], None] | None = None,
        start: Callable[[ClaimedRun], None] | None = None,
        *,
        is_held: bool = False,
    ) -> None:
        # Weak, because the table of bridges must not keep closed loops alive.
        self._loop = weakref.ref(loop)
        self._handle = handle
        self._start = start
        self._is_held = is_held
        self._started_count = 0  # how many runs of the first item have been started
        # Requests that wait for the end of a run, by their number in the core.
        self.waits: dict[int, Core] = {}
        self._items: deque[tuple[Any, ...]] = deque()
        try:
            self.core = Bridge()
            loop.add_reader(self.core.fileno(), self._listen)
            self._watched: int | None = self.core.fileno()
        except (NotImplementedError, OSError):
            # The loop cannot watch a socket (such as Windows' default loop), so the core calls it.
            self.core = Bridge(self._ring)
            self._watched = None

    def close(self) -> None:
        """Stop watching, and close the socket."""
        self._handle = self._start = None
        loop = self._loop()
        if self._watched is not None and loop is not None and not loop.is_closed():
            loop.remove_reader(self._watched)
        self._watched = None
        self.core.close()

    def release(self) -> None:
        """Handle what has gathered, and from now on every item when it arrives."""
        self._is_held = False
        self._listen()

    def withdraw_waits(self) -> None:
        """Withdraw requests whose callers no longer exist."""
        while self.waits:
            wait, core = self.waits.popitem()
            core.withdraw(wait)

    def _ring(self) -> None:
        loop = self._loop()
        if loop is not None:
            loop.call_soon_threadsafe(self._listen)

    def drain(self) -> bool:
        """Handle all items that have arrived; return whether there were any."""
        self.core.drain(self._items)
        has_news = bool(self._items) and not self._is_held
        while self._items and not self._is_held:
            self._take()
        return has_news

    def _listen(self) -> None:
        """Handle the items that have arrived. In a burst of runs, runs that have started continue
        before the next ones start, so that the first does not wait for the last.
        """
        try:
            self.core.drain(self._items)
            while self._items and not self._is_held:
                if self._take() and self._items:
                    loop = self._loop()
                    if loop is not None and not loop.is_closed():
                        loop.call_soon(self._listen)
                    return
        except MemoryError:
            # Unhandled items stay queued, in order, until there is memory.
            self.core.wake_again()

    def _take(self) -> bool:
        """Handle one item; return whether it has started runs. If memory is short, the item stays
        in the queue and can be taken again.
        """
        item = self._items[0]
        kind = item[0]
        is_start: bool = False
        if kind == "recorded" or kind == "answer":
            if not item[1].done():
                item[1].set_result(item[2])
        elif kind == "failed":
            if not item[1].done():
                item[1].set_exception(item[2])
        elif kind == "start":
            is_start = self._start is not None
            self._start_all(item[1])
        elif self._handle is not None:
            try:
                self._handle(item)
            except MemoryError:
                raise
            except Exception:
                # The items after it belong to other runs and must not be lost.
                _log.exception("an event of the core could not be handled")
        self._items.popleft()
        return is_start

    def _start_all(self, runs: list[ClaimedRun]) -> None:
        """Start runs, each once. If memory is short this ends early, and continues where it stopped
        when it is called again.
        """
        count = self._started_count
        # The numbers are computed first: nothing may fail after a start.
        for following, claimed in enumerate(runs[count:] if count else runs, count + 1):
            if self._start is None:
                break
            try:
                self._start(claimed)
            except MemoryError:
                raise
            except Exception:
                # A failure of one run must not affect the others.
                _log.exception("run %s could not be started", claimed.run_id)
            self._started_count = following
        self._started_count = 0


def _new_bridge(loop: asyncio.AbstractEventLoop) -> LoopBridge:
    _forget_closed_loops()
    return LoopBridge(loop)


def _forget_closed_loops() -> None:
    """Release the requests of loops that were closed while tasks were still waiting.

    Such a task never resumes, so it cannot withdraw its request itself. The core would keep the
    request, the loop, and the loop's descriptors until the run completes.
    """
    for loop, bridge in _bridges.items():
        if loop.is_closed():
            bridge.withdraw_waits()
            bridge.close()
            _bridges.forget(loop)


_bridges = PerLoop(_new_bridge)


def ask(core: Core, request: str) -> Awaitable[str]:
    """Send a request to ``core`` and return its answer, to be awaited.

    If the caller is cancelled or times out, a request that waits for the end of a run is withdrawn.
    """
    loop = asyncio.get_running_loop()
    bridge = _bridges.of(loop)
    answer: asyncio.Future[str] = loop.create_future()
    wait = core.submit(request, bridge.core, answer)
    return answer if wait is None else _withdrawable(core, bridge, wait, answer)


async def _withdrawable(
    core: Core, bridge: LoopBridge, wait: int, answer: asyncio.Future[str]
) -> str:
    bridge.waits[wait] = core
    try:
        return await answer
    except BaseException:
        core.withdraw(wait)
        raise
    finally:
        bridge.waits.pop(wait, None)
