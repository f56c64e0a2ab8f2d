"""Distinguish a cancellation that ends the event loop from one that ends a single task.

At its end, a loop cancels every remaining task (``asyncio.run`` and most servers do). A handler
cannot tell that from its own cancellation, but a task that nothing else would cancel can.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

__all__ = ["LoopWatch"]

# A program may cancel all of its tasks and continue with the loop. After this many seconds the
# watch starts again.
_RESTART_SECONDS = 1.0


class LoopWatch:
    """Watches the loop on which it is created."""

    def __init__(self, loop: asyncio.AbstractEventLoop, on_end: Callable[[], object]) -> None:
        """``on_end`` is called when the loop has cancelled all of its tasks, after each of them
        has been resumed.
        """
        self._loop = loop
        self._on_end = on_end
        self._is_over = False
        self._start()

    def is_closing(self) -> bool:
        """Whether the loop is cancelling all of its tasks, or is closed."""
        return self._end.cancelled() or self._loop.is_closed()

    def close(self) -> None:
        """Stop watching."""
        self._is_over = True
        self._task.cancel()

    def _start(self) -> None:
        if self._is_over:
            return
        # Cancelling the task cancels the future at once, before any other task is resumed.
        self._end: asyncio.Future[None] = self._loop.create_future()
        self._task = self._loop.create_task(self._wait(self._end))
        # Otherwise a loop that is closed without cancelling its tasks logs an error for this one.
        self._task._log_destroy_pending = False  # type: ignore[attr-defined]

    async def _wait(self, end: asyncio.Future[None]) -> None:
        try:
            await end
        finally:
            if not self._loop.is_closed():
                if not self._is_over:
                    self._loop.call_soon(self._on_end)
                self._loop.call_later(_RESTART_SECONDS, self._start)
