"""A worker's handle on the process of a step. Used by one thread at a time."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import time
import weakref
from collections.abc import Callable
from contextlib import suppress

from polos import _polos
from polos._core.safe_logging import quiet_logger
from polos._runtime.processes.channel import BrokenFrameError, Frame, receive, send
from polos._runtime.processes.memory import amount, peak_of
from polos.exceptions import StepCrashedError

__all__ = ["AbortedError", "ChildProcess", "Wake"]

_log = quiet_logger("polos.worker")

# How long a process may take to end after SIGTERM, and after the message that it is not needed.
TERMINATE_SECONDS = 2.0
# How long a process may take to start on a busy machine.
_START_SECONDS = 60.0
# How long the system may take to end a killed process before the thread stops waiting for it.
_KILL_SECONDS = 10.0
# How often the memory of a process is measured while it executes, and, on systems without process
# descriptors, how often to check whether it has ended.
_LOOK_SECONDS = 0.25

_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(_polos.__file__)))
_PROGRAM = (
    "import sys; sys.path.insert(0, {!r}); from polos._runtime.processes.main import main; main({})"
)


class AbortedError(Exception):
    """The wait was ended by its owner."""


class _EndedError(Exception):
    """The process has ended."""


class _LateError(Exception):
    """The process has not started in time."""


class Wake:
    """Wakes a thread that waits in ``poll``; any thread may set it."""

    def __init__(self) -> None:
        self._read, self._write = socket.socketpair()
        self._read.setblocking(False)
        self._write.setblocking(False)

    def fileno(self) -> int:
        """Return the descriptor to poll."""
        return self._read.fileno()

    def set(self) -> None:
        """Wake the thread, now or at its next wait."""
        with suppress(OSError):  # full, so it wakes anyway; or closed
            self._write.send(b"\0")

    def clear(self) -> None:
        """Forget earlier calls of :meth:`set`."""
        with suppress(OSError):
            while self._read.recv(4096):
                pass

    def wait(self, seconds: float | None) -> bool:
        """Wait for :meth:`set`, and return whether it was called."""
        poll = select.poll()
        poll.register(self._read, select.POLLIN)
        is_set = bool(poll.poll(None if seconds is None else seconds * 1000))
        self.clear()
        return is_set

    def close(self) -> None:
        """Close the descriptors."""
        self._read.close()
        self._write.close()


class ChildProcess:
    """A running process that executes functions.

    :param wake: wakes the thread that waits for it.
    :param is_aborted: whether that thread should stop waiting.
    """

    def __init__(self, wake: Wake, is_aborted: Callable[[], bool]) -> None:
        self._wake = wake
        self._is_aborted = is_aborted
        self.calls = 0
        self.used: int | None = None
        """Private memory after the last call, in bytes."""
        self._peak_known = 0
        self._peak_sampled: int | None = None
        self._channel: socket.socket | None = None
        self._lifeline: int | None = None
        self._pidfd: int | None = None
        self._is_reaped = False
        self._status: int | None = None
        self._rusage_peak: int | None = None
        _living.add(self)  # before it has descriptors that a fork would copy
        self._start()

    # -- start --------------------------------------------------------------------------------

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        lifeline_read, self._lifeline = os.pipe()
        self._channel = ours
        flags: list[str] = getattr(subprocess, "_args_from_interpreter_flags", list)()
        program = _PROGRAM.format(_ROOT, theirs.fileno())
        try:
            # A session of its own: Ctrl-C does not reach it, and what it starts can be killed too.
            self._process = subprocess.Popen(
                [sys.executable, *flags, "-c", program],
                stdin=lifeline_read,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        except BaseException:
            self._close_descriptors()
            raise
        finally:
            theirs.close()
            os.close(lifeline_read)
        self.pid = self._process.pid
        if hasattr(os, "pidfd_open"):
            with suppress(OSError):
                self._pidfd = os.pidfd_open(self.pid)
        ours.setblocking(False)
        self._poll = select.poll()
        self._poll.register(self._wake.fileno(), select.POLLIN)
        if self._pidfd is not None:
            self._poll.register(self._pidfd, select.POLLIN)

    def finish_start(self) -> None:
        """Wait until it can execute functions.

        Raises :class:`AbortedError`, and :class:`StepCrashedError` if it ends or takes too long.
        """
        setup = Frame({"kind": "setup", "path": list(sys.path), "argv": list(sys.argv)})
        answer = self._exchange(
            setup, _START_SECONDS, "before it was ready; see its standard error"
        )
        self._note_memory(answer)

    # -- calls --------------------------------------------------------------------------------

    def call(self, request: Frame) -> Frame:
        """Execute a function and return the answer.

        Raises :class:`AbortedError`; the process then still executes. Raises
        :class:`StepCrashedError` if it ends or sends something else; it is then reaped.
        """
        self.calls += 1
        answer = self._exchange(request, None, "")
        self._note_memory(answer)
        return answer

    def wait(self) -> None:
        """Wait until the owner has something to do. Raises :class:`StepCrashedError`."""
        try:
            self._wait(None, None)
        except _EndedError:
            raise self._crashed("before it was used") from None

    def _exchange(self, frame: Frame, seconds: float | None, when: str) -> Frame:
        deadline = None if seconds is None else time.monotonic() + seconds

        def wait(is_write: bool) -> None:
            self._wait(select.POLLOUT if is_write else select.POLLIN, deadline)

        channel = self._channel
        assert channel is not None
        try:
            with suppress(ConnectionError):  # it has ended, or closed its end; so `receive` says
                send(channel, frame, wait)
            answer = receive(channel, wait)
            if answer is None:
                # It has closed its socket: it is ending, or the function has closed descriptors.
                self._await_end(TERMINATE_SECONDS)
                raise _EndedError
            return answer
        except _LateError:
            self.kill()
            raise StepCrashedError(
                f"the process of the step was not ready within {_START_SECONDS:.0f} s"
            ) from None
        except _EndedError:
            raise self._crashed(when) from None
        except BrokenFrameError as error:
            self._await_end(TERMINATE_SECONDS)
            reason = f"after it had sent something other than an answer ({error})"
            raise self._crashed(when or reason) from None

    def _wait(self, event: int | None, deadline: float | None) -> None:
        """Wait for the channel (``event``), or (``None``) for the wake.

        Raises :class:`AbortedError`, and :class:`_EndedError` when the process has ended and there
        is nothing to read.
        """
        assert self._channel is not None
        channel = self._channel.fileno()
        if event is not None:
            self._poll.register(channel, event)
        try:
            while True:
                limit: float | None = _LOOK_SECONDS
                if event is None and self._pidfd is not None:
                    limit = None
                if deadline is not None:
                    limit = min(_LOOK_SECONDS, max(0.0, deadline - time.monotonic()))
                ready = dict(self._poll.poll(None if limit is None else limit * 1000))
                if self._is_aborted():
                    raise AbortedError
                if channel in ready:
                    return
                if self._wake.fileno() in ready:
                    self._wake.clear()
                    if event is None:
                        return
                if self._has_ended():
                    # It may have sent its answer after `poll` had looked at the channel.
                    if event is not None and channel in dict(self._poll.poll(0)):
                        return
                    raise _EndedError
                if deadline is not None and time.monotonic() >= deadline:
                    raise _LateError
                if not ready and self.calls:
                    self._sample_peak()
        finally:
            if event is not None:
                self._poll.unregister(channel)

    def _crashed(self, when: str) -> StepCrashedError:
        """Reap the process and describe how it has ended."""
        self._sample_peak()
        self.kill()
        code = self._status
        number = -code if code is not None and code < 0 else None
        peak = self._peak()
        if number is not None:
            how = f"was killed by {_signal_name(number)}"
        elif code is None:
            how = "has ended, and something else in this program took its exit code"
        else:
            how = f"has ended with exit code {code}"
        about = "" if peak is None else f" (peak memory {amount(peak)})"
        hint = ""
        if number == signal.SIGKILL:
            hint = "; if nothing else killed it, the system did for lack of memory: see its log"
        return StepCrashedError(
            f"the process of the step {how}{' ' if when else ''}{when}{about}{hint}",
            signal=number,
            exit_code=None if number is not None else code,
            peak_memory=peak,
        )

    # -- memory -------------------------------------------------------------------------------

    def _note_memory(self, answer: Frame) -> None:
        self._peak_known = max(self._peak_known, answer.header["accounted"])
        self._peak_sampled = answer.header["peak"]  # at least as much is needed for a call
        self.used = answer.header["used"]

    def _sample_peak(self) -> None:
        sample = peak_of(self.pid)
        if sample is not None:
            self._peak_sampled = max(self._peak_sampled or 0, sample)

    def _peak(self) -> int | None:
        """Return its peak memory in the last call.

        What the system accounts covers the whole life of the process, and even its parent at the
        start. It counts if it has grown.
        """
        if self._rusage_peak is not None and self._rusage_peak > self._peak_known:
            return self._rusage_peak
        return self._peak_sampled

    # -- end ----------------------------------------------------------------------------------

    def close(self, seconds: float = TERMINATE_SECONDS) -> None:
        """End a process that executes nothing: it may clean up for ``seconds``."""
        if self._channel is not None:
            with suppress(OSError):
                send(self._channel, Frame({"kind": "end"}), _never)
                self._channel.shutdown(socket.SHUT_WR)
            self._await_end(seconds)
        self.kill()

    def terminate(self, is_urgent: Callable[[], bool]) -> None:
        """End it and what it has started: SIGTERM, and SIGKILL if that does not help in time."""
        if not self._is_reaped:
            self._signal(signal.SIGTERM)
            self._await_end(TERMINATE_SECONDS, is_urgent)
        self.kill()

    def kill(self) -> None:
        """End it and what it has started at once. A second call does nothing."""
        if self._channel is None:
            return
        # Even if it has ended: what it has started is in the same group. As long as nothing has
        # waited for it, no other process or group can have its id.
        if not self._is_reaped:
            self._signal(signal.SIGKILL)
            self._await_end(_KILL_SECONDS)
            self._reap()
            if not self._is_reaped:
                _log.error(
                    "the process %d of a step does not end although it was killed; it waits for "
                    "the system, perhaps for a disk",
                    self.pid,
                )
        _living.discard(self)
        self._close_descriptors()

    @property
    def has_ended(self) -> bool:
        """Whether the process has ended."""
        return self._has_ended()

    def _signal(self, number: int) -> None:
        with suppress(OSError):
            os.killpg(self.pid, number)

    def _await_end(self, seconds: float, is_urgent: Callable[[], bool] = bool) -> None:
        deadline = time.monotonic() + seconds
        poll = select.poll()
        poll.register(self._wake.fileno(), select.POLLIN)
        if self._pidfd is not None:
            poll.register(self._pidfd, select.POLLIN)
        while not self._has_ended() and not is_urgent():
            left = deadline - time.monotonic()
            if left <= 0:
                return
            step = left if self._pidfd is not None else min(left, 0.02)
            if self._wake.fileno() in dict(poll.poll(step * 1000)):
                self._wake.clear()

    def _has_ended(self) -> bool:
        if self._is_reaped:
            return True
        if not hasattr(os, "waitid"):  # macOS before Python 3.13
            self._reap()
            return self._is_reaped
        try:
            flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
            return os.waitid(os.P_PID, self.pid, flags) is not None
        except ChildProcessError:  # something else in this program has waited for it
            return True

    def _reap(self) -> None:
        """Take the exit code of the process, if it has ended."""
        try:
            pid, status, usage = os.wait4(self.pid, os.WNOHANG)
        except ChildProcessError:
            self._is_reaped = True
            self._process.returncode = 0  # unknown; `Popen` must not wait for it either
            return
        if pid == 0:
            return
        self._is_reaped = True
        self._status = self._process.returncode = os.waitstatus_to_exitcode(status)
        unit = 1 if sys.platform == "darwin" else 1024
        self._rusage_peak = usage.ru_maxrss * unit

    def _close_descriptors(self) -> None:
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()
        for descriptor in (self._lifeline, self._pidfd):
            if descriptor is not None:
                with suppress(OSError):
                    os.close(descriptor)
        self._lifeline = self._pidfd = None


def _never(is_write: bool) -> None:
    raise BlockingIOError


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


_living: weakref.WeakSet[ChildProcess] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    # A copy of the worker would keep the processes alive after the worker's death.
    for child in list(_living):
        child._close_descriptors()
    _living.clear()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_after_fork_in_child)
