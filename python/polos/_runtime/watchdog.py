"""Notice when a handler blocks the event loop, and name it.

A blocked loop affects only the handlers of its own worker (the core handles claims and heartbeats),
but without a warning, the reason why they all stall would be hard to find.
"""

from __future__ import annotations

import _thread
import asyncio
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

from polos._core.safe_logging import quiet_logger

__all__ = ["Watchdog"]

_log = quiet_logger("polos.worker")

# How long the loop may be blocked before a warning is logged, in seconds.
TIMEOUT = 2.0


class Watchdog:
    """Watches one loop from a thread while runs are in progress."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        describe: Callable[[asyncio.Task[object] | None], str],
        timeout: float = TIMEOUT,
    ) -> None:
        self._loop = loop
        self._loop_thread = threading.get_ident()
        self._describe = describe
        self._timeout = timeout
        # Plain locks: a `threading.Condition` stays locked forever if there is no memory to release
        # it, and the loop must never wait here.
        self._watching = _thread.allocate_lock()  # held by the thread that watches
        self._wakeup = _thread.allocate_lock()  # released to wake that thread
        self._is_idle = False  # whether the thread waits for work
        self._is_busy = False
        self._is_closed = False

    def busy(self, is_busy: bool) -> None:
        """Note that the first run has started or the last one has ended. If no thread can be
        started, nothing is watched until the next call.
        """
        if self._is_busy == is_busy or self._is_closed:
            return
        self._is_busy = is_busy
        if not is_busy:
            return  # the thread checks this flag; waking it would make every run slower
        if not self._watching.locked():
            # Not `threading.Thread`, whose `start` waits for the new thread: on Python 3.13 and
            # newer that wait never ends if the new thread has no memory to begin.
            with suppress(RuntimeError):
                _thread.start_new_thread(self._watch, ())
        elif self._is_idle:
            self._wake()

    def close(self) -> None:
        """Stop watching."""
        self._is_closed = True
        self._wake()

    def _wake(self) -> None:
        with suppress(RuntimeError):  # already released
            self._wakeup.release()

    def _watch(self) -> None:
        # No context managers: entering one needs memory. If this thread ends for lack of memory,
        # the next run starts another one.
        try:
            if not self._watching.acquire(False):
                return  # another thread was started and already watches
            try:
                self._watch_until_closed()
            finally:
                self._watching.release()
        except MemoryError:
            pass

    def _watch_until_closed(self) -> None:
        while True:
            self._is_idle = True
            while not self._is_busy and not self._is_over():
                self._wakeup.acquire()
            self._is_idle = False
            # Do not check the loop for work that ends sooner than this.
            end = time.monotonic() + self._timeout / 2
            while not self._is_over() and (left := end - time.monotonic()) > 0:
                self._wakeup.acquire(timeout=left)
            if self._is_over():
                return
            if self._is_busy:
                self._ask()

    def _is_over(self) -> bool:
        return self._is_closed

    def _ask(self) -> None:
        """Check whether the loop answers, and log once if it does not."""
        answered = threading.Event()
        asked_at = time.monotonic()
        try:
            self._loop.call_soon_threadsafe(answered.set)
        except RuntimeError:  # the loop is closed
            return
        if answered.wait(self._timeout):
            return
        culprit = self._describe(asyncio.current_task(self._loop))
        frame = sys._current_frames().get(self._loop_thread)
        _log.warning(
            "%s has blocked the event loop for %.1f s, at %s; no other handler of this worker can "
            "run meanwhile. Make it a sync handler or step, which run in threads, or await "
            "something asynchronous",
            culprit,
            time.monotonic() - asked_at,
            _source_location(frame),
        )
        del frame
        while not answered.wait(self._timeout):
            if self._is_closed:
                return
        _log.warning("the event loop runs again after %.1f s", time.monotonic() - asked_at)


def _source_location(frame: FrameType | None) -> str:
    """Return the innermost line that is neither in the standard library nor in this package, if
    any.
    """
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
