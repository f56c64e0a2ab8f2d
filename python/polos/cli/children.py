"""`polos` commands in child processes, and what such a child knows about its supervisor.

A child ends when its supervisor ends, for any reason: both hold one end of a socket, and the
child drains when the other end closes. The child also reports on it when it is ready.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

__all__ = ["NUMBER_VARIABLE", "Child", "Supervised", "supervised", "ui_command", "worker_command"]

NUMBER_VARIABLE = "POLOS_WORKER_NUMBER"
"""The variable that tells a worker of `polos run --workers` its number, counted from 1."""

_LINK_VARIABLE = "POLOS_SUPERVISOR"

_READY = b"r"

# On Windows, which has no link, a child that has run for this many seconds counts as ready.
_READY_WITHOUT_LINK = 5.0

# How long a stopped child may still take after a repeated signal, in seconds, before it is killed.
_KILL_AFTER = 10.0


def worker_command(
    target: str,
    app_name: str | None,
    app_version: str | None,
    database: str | None,
    project: str,
    concurrency: int,
    drain: float,
    middleware: Sequence[str],
) -> list[str]:
    """Return the command that starts the worker."""
    command = ["run", "--project", project, f"--concurrency={concurrency}", f"--drain={drain:g}"]
    for option, value in (
        ("--app", app_name),
        ("--app-version", app_version),
        ("--database", database),
    ):
        if value is not None:
            command += [option, value]
    command += [f"--middleware={name}" for name in middleware]
    return [*command, "--", target]


def ui_command(database: str | None, project: str, *options: str) -> list[str]:
    """Return the command that starts the dashboard."""
    command = ["ui", "--project", project, *options]
    return command if database is None else [*command, "--database", database]


class Child:
    """A `polos` command in a separate process.

    :param is_reloaded: whether it restarts when the code changes.
    :param number: its number among the workers of one supervisor. A child with a number does not
        belong to the terminal: Ctrl-C reaches only the supervisor, which passes it on.
    """

    def __init__(
        self, arguments: list[str], *, is_reloaded: bool, number: int | None = None
    ) -> None:
        self.is_reloaded = is_reloaded
        self.number = number
        self._arguments = arguments
        self._process: subprocess.Popen[bytes] | None = None
        self._link: socket.socket | None = None
        self._started_at = 0.0
        self._is_ready = False

    def start(self) -> None:
        """Start the process. It ends when this process ends, for any reason."""
        command = [sys.executable, "-m", "polos", *self._arguments]
        environment = dict(os.environ)
        environment.pop(NUMBER_VARIABLE, None)
        options: dict[str, Any] = {}
        if self.number is not None:
            environment[NUMBER_VARIABLE] = str(self.number)
            options = {"stdin": subprocess.DEVNULL, "start_new_session": os.name != "nt"}
        self._is_ready = False
        self._started_at = time.monotonic()
        if os.name == "nt":  # Windows cannot pass down a single descriptor
            self._process = subprocess.Popen(command, env=environment, **options)
            return
        self._close_link()
        self._link, theirs = socket.socketpair()
        self._link.setblocking(False)
        with theirs:
            environment[_LINK_VARIABLE] = str(theirs.fileno())
            self._process = subprocess.Popen(
                command, env=environment, pass_fds=(theirs.fileno(),), **options
            )

    @property
    def is_running(self) -> bool:
        """Whether the process has been started and is still running."""
        return self._process is not None and self._process.poll() is None

    @property
    def was_ready(self) -> bool:
        """Whether the process has reported that it is ready, also if it has ended since."""
        if self._is_ready:
            return True
        if self._link is None:
            self._is_ready = self._process is not None and self.age >= _READY_WITHOUT_LINK
        else:
            with suppress(OSError):
                self._is_ready = self._link.recv(1) == _READY
        return self._is_ready

    @property
    def age(self) -> float:
        """Seconds since the last start."""
        return time.monotonic() - self._started_at

    @property
    def pid(self) -> int:
        """The id of the process that was started last."""
        assert self._process is not None, "it has been started"
        return self._process.pid

    @property
    def code(self) -> int | None:
        """The exit code: negative for a signal, `None` while it is running or was not started."""
        return None if self._process is None else self._process.poll()

    def signal(self, number: int) -> None:
        """Send a signal to the process."""
        if self._process is not None and self.is_running:
            with suppress(OSError):
                self._process.send_signal(number)

    def stop(self, timeout: float) -> None:
        """Wait ``timeout`` seconds for a child that is draining; then make it stop waiting
        for its handlers.
        """
        process = self._process
        if process is None:
            return
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.signal(signal.SIGTERM)
            try:
                process.wait(_KILL_AFTER)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def kill(self) -> None:
        """End the process at once."""
        self.signal(signal.SIGTERM if os.name == "nt" else signal.SIGKILL)

    def _close_link(self) -> None:
        if self._link is not None:
            self._link.close()
            self._link = None


class Supervised:
    """What a child process knows about its supervisor.

    :param number: its number among the workers, or ``None`` if it is the only one.
    """

    def __init__(self, link: socket.socket | None, number: int | None) -> None:
        self.number = number
        self._link = link
        if link is not None:
            threading.Thread(target=self._watch, name="polos-supervisor", daemon=True).start()

    @property
    def prefix(self) -> str:
        """What this process puts in front of its lines: its number, if it has one."""
        return "" if self.number is None else f"[{self.number}] "

    def ready(self) -> None:
        """Report that this process works."""
        if self._link is not None:
            with suppress(OSError):
                self._link.send(_READY)

    def mark_logs(self) -> None:
        """Give every log record of this process its number, as ``worker_number``."""
        if self.number is None:
            return
        make, number = logging.getLogRecordFactory(), self.number

        def marked(*args: Any, **options: Any) -> logging.LogRecord:
            record = make(*args, **options)
            record.worker_number = number
            return record

        logging.setLogRecordFactory(marked)

    def _watch(self) -> None:
        assert self._link is not None
        # An error means the same as the end: the supervisor is gone.
        with suppress(OSError):
            while self._link.recv(1):
                pass
        os.kill(os.getpid(), signal.SIGTERM)


def supervised() -> Supervised:
    """Connect this process to its supervisor, if it has one. It then drains when that one ends."""
    descriptor = os.environ.pop(_LINK_VARIABLE, None)
    if descriptor is None or not descriptor.isdigit():
        return Supervised(None, None)
    try:
        link = socket.socket(fileno=int(descriptor))
    except OSError:  # inherited by a process that did not inherit the descriptor
        return Supervised(None, None)
    link.setblocking(True)
    os.set_inheritable(link.fileno(), False)
    number = os.environ.get(NUMBER_VARIABLE, "")
    return Supervised(link, int(number) if number.isdigit() else None)
