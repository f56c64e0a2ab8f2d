"""Notices when a handler blocks the event loop, and says which.

A blocked loop harms its own worker's handlers only (claims and heartbeats are the core's), but
nobody would know why they all stand still.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

from polos._logging import quiet_logger

__all__ = ["Watchdog"]

_log = quiet_logger("polos.worker")

# How long the loop may be busy without a word.
PATIENCE = 2.0


class Watchdog:
    """Watches one loop from a thread while work is under way."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        describe: Callable[[asyncio.Task[object] | None], str],
        patience: float = PATIENCE,
    ) -> None:
        self._loop = loop
        self._loop_thread = threading.get_ident()
        self._describe = describe
        self._patience = patience
        self._condition = threading.Condition()
        self._is_busy = False
        self._is_closed = False
        self._thread: threading.Thread | None = None

    def busy(self, is_busy: bool) -> None:
        """Work has begun, or the last of it has ended. Where there is no thread to be had, nobody
        watches; the next work tries again.
        """
        if self._is_busy == is_busy:
            return
        with self._condition:
            self._is_busy = is_busy
            if not is_busy:
                return  # it sees that by itself, and to wake it costs every run
            if self._thread is None:
                thread = threading.Thread(target=self._watch, name="polos-watchdog", daemon=True)
                with suppress(RuntimeError):
                    thread.start()
                    self._thread = thread
            self._condition.notify()

    def close(self) -> None:
        """Stop watching."""
        with self._condition:
            self._is_closed = True
            self._condition.notify()

    def _watch(self) -> None:
        try:
            self._watch_on()
        except MemoryError:
            self._thread = None  # the next work gets another one

    def _watch_on(self) -> None:
        while True:
            with self._condition:
                while not self._is_busy and not self._is_closed:
                    self._condition.wait()
                # Work that comes and goes faster than this is not worth a question.
                self._condition.wait_for(lambda: self._is_closed, self._patience / 2)
                if self._is_closed:
                    return
                if not self._is_busy:
                    continue
            self._ask()

    def _ask(self) -> None:
        """See whether the loop answers; say so once when it doesn't."""
        answered = threading.Event()
        asked_at = time.monotonic()
        try:
            self._loop.call_soon_threadsafe(answered.set)
        except RuntimeError:  # the loop is closed
            return
        if answered.wait(self._patience):
            return
        who = self._describe(asyncio.current_task(self._loop))
        frame = sys._current_frames().get(self._loop_thread)
        _log.warning(
            "%s has blocked the event loop for %.1f s, at %s; all handlers of this worker stand "
            "still meanwhile. Make it a sync handler or step, which run in threads, or await "
            "something asynchronous",
            who,
            time.monotonic() - asked_at,
            _place(frame),
        )
        del frame
        while not answered.wait(self._patience):
            if self._is_closed:
                return
        _log.warning("the event loop goes on after %.1f s", time.monotonic() - asked_at)


def _place(frame: FrameType | None) -> str:
    """The innermost line of code that isn't the standard library's or ours, where there is one."""
    innermost = frame
    while frame is not None:
        file = frame.f_code.co_filename
        if not file.startswith(sys.prefix) and "/lib/python" not in file and "<" not in file:
            innermost = frame
            break
        frame = frame.f_back
    if innermost is None:
        return "an unknown place"
    return f"{innermost.f_code.co_filename}:{innermost.f_lineno} ({innermost.f_code.co_name})"
