"""Start, watch, restart, and stop child processes: `polos run --workers`, `--reload`, `polos dev`.

The supervisor imports nothing of the application, so errors in the application do not end it.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from functools import partial
from typing import NoReturn

from polos._runtime.signals import without_echoes
from polos.cli.children import Child
from polos.cli.reload import changes
from polos.cli.ui.console import say

__all__ = ["Restarts", "supervise"]

# How long handlers may continue after a code change; their runs are started again at once.
_RELOAD_TIMEOUT = 2.0

# How often to look at the children.
_LOOK_MS = 200

# How long a worker takes to end beyond its drain, and after a second signal, with a reserve. One
# that has not ended then is killed.
_AFTER_DRAIN = 10.0
_AFTER_SECOND = 5.0

# Delays before a worker is restarted, in seconds: the first, and the longest.
_FIRST_DELAY = 0.5
_LONGEST_DELAY = 30.0

# The first worker starts alone, so that an error at its start is reported once. The others follow
# when it is ready, or after this many seconds.
_FIRST_ALONE = 10.0

# A worker that has run for this many seconds is healthy: its next restart has the first delay.
_HEALTHY_AFTER = 60.0

# A worker that was killed this many times in a row before it was ready cannot start at all.
_KILLED_STARTS_MAX = 5


class Restarts:
    """Decides when an ended worker is started again."""

    def __init__(self) -> None:
        self._delay = 0.0
        self._was_ever_ready = False
        self._killed_starts = 0

    def delay(self, *, code: int, was_ready: bool, age: float, others_ready: bool) -> float | None:
        """Return the seconds until the restart; ``None`` if the worker cannot start at all.

        :param code: the exit code; negative for a signal.
        :param was_ready: whether it had started to work.
        :param age: seconds since its start.
        :param others_ready: whether another worker is working.
        """
        if was_ready:
            self._was_ever_ready = True
            self._killed_starts = 0
            if age >= _HEALTHY_AFTER:
                self._delay = 0.0
        elif code < 0:  # perhaps by accident: out of memory, or an operator
            self._killed_starts += 1
            if self._killed_starts >= _KILLED_STARTS_MAX and not others_ready:
                return None
        elif not (self._was_ever_ready and others_ready):
            return None
        self._delay = min(self._delay * 2 or _FIRST_DELAY, _LONGEST_DELAY)
        return self._delay


class _Supervisor:
    def __init__(self, children: list[Child], target: str | None, drain: float) -> None:
        self._children = children
        self._changes = None if target is None else changes(target, _LOOK_MS)
        self._drain = drain
        self._asked = threading.Event()
        self._signals: list[int] = []
        self._restarts = {id(child): Restarts() for child in self._workers}
        self._pending: list[Child] = []  # workers that start after the first one
        self._due: dict[int, float] = {}  # ids of children that wait for a restart, and when
        self._waiting: set[int] = set()  # ids of children that wait for a change
        self._said_ready = False

    @property
    def _workers(self) -> list[Child]:
        """The children that restart when they end."""
        return [child for child in self._children if child.number is not None]

    def run(self) -> NoReturn:
        self._install()
        self._start(self._children)
        code = self._watch()
        sys.exit(self._stop() if code is None else self._end(code))

    def _start(self, children: list[Child]) -> None:
        """Start children. Of the workers, start the first, and remember the others."""
        self._pending = [child for child in children if child.number is not None][1:]
        for child in children:
            if child not in self._pending and not self._asked.is_set():
                child.start()

    def _start_pending(self) -> None:
        first = self._children[0]
        if self._pending and (first.was_ready or first.age >= _FIRST_ALONE):
            pending, self._pending = self._pending, []
            for child in pending:
                child.start()

    def _install(self) -> None:
        names = [signal.SIGINT, signal.SIGTERM]
        if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:
            names.append(signal.SIGHUP)
        for name in names:
            handle = without_echoes(partial(self._ask, int(name)))
            signal.signal(name, lambda number, _, handle=handle: handle(number))  # type: ignore[misc]

    def _ask(self, number: int) -> None:
        self._signals.append(number)
        self._asked.set()

    # -- while the children run ---------------------------------------------------------------

    def _watch(self) -> int | None:
        """Return ``None`` after a signal, or the exit code if a child has ended for good."""
        while True:
            changed = self._wait()
            if self._asked.is_set():
                return None
            if changed:
                self._reload(changed)
            self._start_pending()
            self._say_ready()
            for child in self._children:
                code = self._look_at(child)
                if code is not None:
                    return code

    def _wait(self) -> str:
        """Wait for a moment, and return the files that have changed meanwhile."""
        if self._changes is not None:
            return next(self._changes)
        self._asked.wait(_LOOK_MS / 1000)
        return ""

    def _reload(self, changed: str) -> None:
        say(f"changed: {changed}; reloading")
        reloaded = [child for child in self._children if child.is_reloaded]
        for child in reloaded:
            child.signal(signal.SIGTERM)
        for child in reloaded:
            child.stop(_RELOAD_TIMEOUT)
        self._start(reloaded)
        self._due.clear()
        self._restarts = {id(child): Restarts() for child in self._workers}
        self._waiting.clear()
        self._said_ready = False

    def _say_ready(self) -> None:
        workers = self._workers
        if not workers or self._pending or self._said_ready:
            return
        if all(child.was_ready for child in workers):
            self._said_ready = True
            pids = ", ".join(str(child.pid) for child in workers)
            say(f"{len(workers)} workers running, processes {pids}; stop with Ctrl-C or SIGTERM")

    def _look_at(self, child: Child) -> int | None:
        """Restart a child if it is time. Return its exit code if it ends the command."""
        now, due = time.monotonic(), self._due.get(id(child))
        if due is not None:
            if now >= due:
                del self._due[id(child)]
                child.start()
            return None
        code = child.code
        if code is None or id(child) in self._waiting or child in self._pending:
            return None
        if child.number is None:
            return self._ended_alone(child, code)
        others = any(
            other is not child and other.is_running and other.was_ready for other in self._workers
        )
        delay = self._restarts[id(child)].delay(
            code=code, was_ready=child.was_ready, age=child.age, others_ready=others
        )
        name = f"worker {child.number} (process {child.pid}) {_described(code)}"
        if delay is None:
            if self._changes is not None:
                self._wait_for_change(child, f"{name} before it was ready")
                return None
            say(f"polos: {name} before it was ready; see above")
            return _exit_code(code)
        say(f"{name}; it restarts in {delay:g} s")
        self._due[id(child)] = now + delay
        return None

    def _ended_alone(self, child: Child, code: int) -> int | None:
        if self._changes is None or not child.is_reloaded:
            # `polos dev` continues without its dashboard while it waits for changes.
            return None if self._changes is not None else _exit_code(code)
        self._wait_for_change(child, "the worker has ended")
        return None

    def _wait_for_change(self, child: Child, text: str) -> None:
        self._waiting.add(id(child))
        say(f"{text}; it restarts when a file changes")

    # -- the end ------------------------------------------------------------------------------

    def _end(self, code: int) -> int:
        """Stop the others because one has ended for good, and return the exit code."""
        self._ask(signal.SIGTERM)
        self._stop()
        return code or 1

    def _stop(self) -> int:
        """Pass on each signal until all children have ended, and return the exit code."""
        passed = 0
        deadline = time.monotonic() + self._drain + _AFTER_DRAIN
        while any(child.is_running for child in self._children):
            self._asked.clear()
            arrived = self._signals[passed:]
            for number in arrived:
                passed += 1
                if passed > 1:
                    deadline = min(deadline, time.monotonic() + _AFTER_SECOND)
                # A worker with a number has not got the terminal's signal. It takes a repetition of
                # the same signal for an echo, so they alternate.
                own = signal.SIGTERM if passed % 2 else signal.SIGINT
                for child in self._children:
                    child.signal(number if child.number is None else own)
            if time.monotonic() >= deadline:
                for child in self._children:
                    child.kill()
            self._asked.wait(_LOOK_MS / 4_000)
        # A child that the first signal ended before it was ready had nothing to drain. The second
        # one may reach a child that has drained and is about to exit.
        codes = [
            child.code
            for child in self._children
            if child.code is not None
            and not (child.code in _BY_SIGNAL and (passed > 1 or not child.was_ready))
        ]
        return max((_exit_code(code) for code in codes), default=0)


_BY_SIGNAL = (-signal.SIGINT, -signal.SIGTERM, -getattr(signal, "SIGHUP", 0), 128 + signal.SIGINT)


def _exit_code(code: int) -> int:
    """Return the exit code as a shell reports it."""
    return 128 - code if code < 0 else code


def _described(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"


def supervise(children: list[Child], target: str | None, *, drain: float = 10.0) -> NoReturn:
    """Run children until a signal, and exit with 0, or with the code of a child that failed.

    Children with a number are workers: one that ends is started again, after a delay that grows
    while it keeps ending. A worker that ends before it is ready cannot start, and ends the command,
    unless it has worked before and other workers still do.

    :param target: the code that is watched; children that reload restart when it changes.
    :param drain: how many seconds the children may take to end after a signal.
    """
    _Supervisor(children, target, drain).run()
