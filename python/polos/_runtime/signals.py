"""Handle SIGINT, SIGTERM, and SIGHUP of a worker: the first drains, and the process ends in time.

Python runs its signal handlers between two bytecodes of the main thread. If that thread is stuck (a
handler that blocks the event loop, a call that holds the interpreter's lock), a native thread that
also sees the signals ends the process when the time for an orderly shutdown is over.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from polos import _polos

__all__ = ["Signals", "without_echoes"]

# The same signal again within this time is an echo of one press of Ctrl-C: the terminal sends it to
# the whole process group, and a parent that forwards signals (a shell script, a task runner) once
# more. A person cannot press twice that fast.
_ECHO_SECONDS = 0.1

# How many seconds the process may run after the second signal. If the database answers, runs are
# released within milliseconds.
_AFTER_SECOND = 1.0


class Signals:
    """Calls ``act`` for each signal, from construction to :meth:`close`.

    Does nothing outside of the main thread.

    :param seconds: how long the process may live after the first signal.
    """

    def __init__(self, act: Callable[[], None], seconds: float) -> None:
        self._previous: dict[int, Any] = {}
        self._guard: _polos.ExitGuard | None = None
        self._wakeup = -1
        self._has_arrived = False
        self._loop = asyncio.get_running_loop()
        if threading.current_thread() is not threading.main_thread():
            return
        names = [signal.SIGINT, signal.SIGTERM]
        # The terminal was closed. Under `nohup` the signal is ignored on purpose.
        if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:
            names.append(signal.SIGHUP)
        self._watch([int(name) for name in names], seconds)
        handle = without_echoes(lambda: self._arrived(act))
        for name in names:
            self._previous[name] = signal.signal(name, lambda number, _: handle(number))

    def _arrived(self, act: Callable[[], None]) -> None:
        self._has_arrived = True
        with suppress(RuntimeError):  # the loop is closed: the process is ending
            self._loop.call_soon_threadsafe(act)

    def _watch(self, numbers: list[int], seconds: float) -> None:
        """Make a native thread see the signals as well."""
        if not hasattr(_polos, "ExitGuard"):  # Windows
            return
        limits = (seconds, _AFTER_SECOND, _ECHO_SECONDS)
        guard = _polos.ExitGuard(bytes(numbers), *(int(limit * 1_000_000) for limit in limits))
        try:
            self._loop.add_reader(guard.echo_fileno(), self._forward)
        except NotImplementedError:
            guard.disarm()
            return
        self._guard = guard
        self._wakeup = signal.set_wakeup_fd(guard.fileno(), warn_on_full_buffer=False)
        _active.append(self)

    def _forward(self) -> None:
        """Read what the guard repeats, which wakes the loop, and pass it to the previous reader
        (asyncio, for handlers that the application has added to the loop).
        """
        assert self._guard is not None
        with suppress(OSError):
            data = os.read(self._guard.echo_fileno(), 4_096)
            if self._wakeup != -1:
                os.write(self._wakeup, data)

    def close(self, *, keep_deadline: bool = False) -> None:
        """Restore the previous handlers. A second call does nothing.

        :param keep_deadline: if a signal has arrived, still end the process in time, and take
            further signals: they would interrupt its cleanup, and change its exit code.
        """
        guard = self._guard
        if keep_deadline and guard is not None and (self._has_arrived or guard.is_armed()):
            # The thread of the guard may see the signal later than Python does.
            return
        previous, self._previous = self._previous, {}
        for name, handler in previous.items():
            signal.signal(name, signal.SIG_DFL if handler is None else handler)
        if guard is None:
            return
        self._guard = None
        if self in _active:
            _active.remove(self)
            signal.set_wakeup_fd(self._wakeup, warn_on_full_buffer=False)
            if not self._loop.is_closed():
                self._loop.remove_reader(guard.echo_fileno())
        guard.disarm()


_active: list[Signals] = []


def _after_fork_in_child() -> None:
    # A child process shares the socket, so its signals would reach this process.
    while _active:
        signals = _active.pop()
        signals._guard = None
        with suppress(ValueError):
            signal.set_wakeup_fd(-1)
            for name in signals._previous:
                signal.signal(name, signal.SIG_DFL)
        signals._previous = {}


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_after_fork_in_child)


def without_echoes(
    act: Callable[[], None], clock: Callable[[], float] = time.monotonic
) -> Callable[[int], None]:
    """Call ``act`` for each signal that does not repeat the previous one at once."""
    last_at: dict[int, float] = {}

    def handle(number: int) -> None:
        now = clock()
        is_echo = now - last_at.get(number, float("-inf")) < _ECHO_SECONDS
        last_at[number] = now
        if not is_echo:
            act()

    return handle
