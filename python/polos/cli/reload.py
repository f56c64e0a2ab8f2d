"""Child processes that restart when the code changes: `polos run --reload`, `polos dev`.

The parent imports nothing of the application, so errors in the application do not end it.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from polos.cli.ui.console import fail, say

__all__ = ["Child", "die_with_supervisor", "supervise", "ui_command", "worker_command"]

# How long handlers may continue after a code change; their runs are started again at once.
_RELOAD_TIMEOUT = 2.0

# How often to check whether a child process has ended.
_LOOK_MS = 200

_LIFELINE = "POLOS_LIFELINE"


def worker_command(
    target: str,
    app_name: str | None,
    database: str | None,
    project: str,
    concurrency: int,
    drain: float,
) -> list[str]:
    """Return the command that starts the worker."""
    command = ["run", "--project", project, f"--concurrency={concurrency}", f"--drain={drain:g}"]
    if app_name is not None:
        command += ["--app", app_name]
    if database is not None:
        command += ["--database", database]
    return [*command, "--", target]


def ui_command(database: str | None, project: str, *options: str) -> list[str]:
    """Return the command that starts the dashboard."""
    command = ["ui", "--project", project, *options]
    return command if database is None else [*command, "--database", database]


class Child:
    """A `polos` command in a separate process."""

    def __init__(self, arguments: list[str], *, is_reloaded: bool) -> None:
        self.is_reloaded = is_reloaded
        self._arguments = arguments
        self._process: subprocess.Popen[bytes] | None = None
        self._lifeline: int | None = None

    def start(self) -> None:
        """Start the process. It ends when this process ends, for any reason."""
        command = [sys.executable, "-m", "polos", *self._arguments]
        if os.name == "nt":  # Windows cannot pass down a single descriptor
            self._process = subprocess.Popen(command)
            return
        theirs, self._lifeline = os.pipe()
        os.set_inheritable(theirs, True)
        try:
            self._process = subprocess.Popen(
                command,
                env={**os.environ, _LIFELINE: str(theirs)},
                pass_fds=(theirs,),
            )
        finally:
            os.close(theirs)

    @property
    def is_running(self) -> bool:
        """Whether the process has been started and is still running."""
        return self._process is not None and self._process.poll() is None

    def signal(self, number: int) -> None:
        """Send a signal to the process."""
        if self._process is not None and self.is_running:
            with suppress(OSError):
                self._process.send_signal(number)

    def stop(self, timeout: float | None) -> None:
        """Make the process drain; after ``timeout`` seconds, make it stop waiting for its
        handlers.
        """
        process = self._process
        if process is None:
            return
        self.signal(signal.SIGTERM)
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.signal(signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._close_lifeline()

    def wait(self) -> int:
        """Wait until the process ends, and return its exit code."""
        assert self._process is not None, "it has been started"
        code = self._process.wait()
        self._close_lifeline()
        return code

    def _close_lifeline(self) -> None:
        if self._lifeline is not None:
            os.close(self._lifeline)
            self._lifeline = None


def supervise(children: list[Child], target: str | None) -> None:
    """Run children until a signal. With ``target``, restart those that reload whenever a Python
    file changes.
    """
    changes = _changes(target) if target is not None else None
    asked = threading.Event()
    was_ended = False

    def forward(number: int, frame: Any) -> None:
        asked.set()
        for child in children:
            child.signal(number)

    names = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:
        names.append(signal.SIGHUP)
    for name in names:
        signal.signal(name, forward)
    for child in children:
        child.start()
    while not asked.is_set():
        if changes is None:
            if asked.wait(_LOOK_MS / 1000) or not all(child.is_running for child in children):
                break
            continue
        changed = next(changes)
        if asked.is_set():
            break
        ended = [child for child in children if child.is_reloaded and not child.is_running]
        if changed:
            say(f"changed: {changed}; reloading")
            for child in children:
                if child.is_reloaded:
                    child.stop(_RELOAD_TIMEOUT)
                    child.start()
            was_ended = False
        elif ended and not was_ended:
            was_ended = True
            say("the worker has ended; it restarts when a file changes")
    if not asked.is_set():
        for child in children:
            child.signal(signal.SIGTERM)
    codes = [child.wait() for child in children]
    if not asked.is_set():
        sys.exit(max(codes, default=0) or 1)


def _changes(target: str) -> Iterator[str]:
    """Yield names of changed Python files, or nothing, several times a second."""
    if importlib.util.find_spec("watchfiles") is None:
        fail("reloading when files change needs watchfiles: pip install 'polos[dev]'")
    return _watch(target)


def _watch(target: str) -> Iterator[str]:
    import watchfiles

    here, folders = Path.cwd(), [Path.cwd()]
    if os.path.isfile(target):
        theirs = Path(target).resolve().parent
        if not theirs.is_relative_to(here):
            folders.append(theirs)
    watch = watchfiles.watch(
        *folders,
        watch_filter=watchfiles.PythonFilter(),
        rust_timeout=_LOOK_MS,
        yield_on_timeout=True,
        raise_interrupt=False,
    )
    for changed in watch:
        names = sorted({os.path.relpath(path) for _, path in changed})
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        yield ", ".join(names[:3]) + more


def die_with_supervisor() -> None:
    """In a child: drain when the parent is gone."""
    number = os.environ.pop(_LIFELINE, None)
    if number is None or not number.isdigit():
        return

    def watch() -> None:
        with suppress(OSError):
            os.read(int(number), 1)
            os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="polos-lifeline", daemon=True).start()
