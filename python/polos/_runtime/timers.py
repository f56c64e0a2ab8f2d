"""Timers that the core fires, by the database's clock."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable

__all__ = ["Timers"]


class Timers:
    """The timers of one event loop. ``set_timer`` is the core's: an id, and a delay in
    microseconds.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, set_timer: Callable[[int, int], None]
    ) -> None:
        self._loop = loop
        self._set_timer = set_timer
        self._pending: dict[int, asyncio.Future[None]] = {}
        self._ids = itertools.count(1)

    def __len__(self) -> int:
        return len(self._pending)

    def start(self, delay_us: int) -> asyncio.Future[None]:
        """Return a future that is done after ``delay_us`` microseconds."""
        future: asyncio.Future[None] = self._loop.create_future()
        if delay_us <= 0:
            future.set_result(None)
            return future
        timer = next(self._ids)
        self._pending[timer] = future
        future.add_done_callback(lambda _: self._pending.pop(timer, None))
        self._set_timer(timer, delay_us)
        return future

    def fire(self, timers: list[int]) -> None:
        """Complete the futures of timers that have expired."""
        for timer in timers:
            future = self._pending.pop(timer, None)
            if future is not None and not future.done():
                future.set_result(None)
