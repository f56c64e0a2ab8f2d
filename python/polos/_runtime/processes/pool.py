"""The processes of a worker, and the threads that own them.

Each thread owns one process, from its start to its end, and serves one job at a time. A job goes
through these states, each decided by one side only:

- the loop submits it; it waits for a thread, and the thread for its process
- ``ready``: the loop decides whether to start it (``start``) or to give it up
- ``outcome``: the thread has the answer, or the process has ended
- ``released``: the process executes nothing of the job any more; it is idle, or dead

The thread delivers each state to the loop with ``call_soon_threadsafe``. If the loop is closed,
no caller waits for the job any more.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from polos._core.own_thread import in_own_thread
from polos._core.safe_logging import quiet_logger
from polos._runtime.processes.channel import Frame
from polos._runtime.processes.child import AbortedError, ChildProcess, Wake
from polos.exceptions import ShutdownError, StepCrashedError

__all__ = ["Job", "ProcessPool", "default_size"]

_log = quiet_logger("polos.worker")

# How long an unused process is kept.
_IDLE_SECONDS = 60.0
# How long a process may take, in real time, before virtual time continues without it.
_EXPECTED_SECONDS = 30.0
# A process that has more than this part of a step's memory limit allocated is replaced first.
_USED_MAX = 0.5


def default_size() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1


class Job:
    """One call in a process, seen from the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, memory: int | None) -> None:
        self._loop = loop
        self.memory = memory
        self.ready: asyncio.Future[None] = loop.create_future()
        self.outcome: asyncio.Future[Frame] = loop.create_future()
        self.released: asyncio.Future[None] = loop.create_future()
        for future in (self.ready, self.outcome):
            future.add_done_callback(_retrieve)
        self.expected_until = loop.time() + _EXPECTED_SECONDS
        """Until when (of the loop's clock) it is likely to be done, unless it hangs."""
        self.request: Frame | None = None
        self.is_given_up = False
        self.is_urgent = False
        self.wake: Callable[[], None] = lambda: None

    def start(self, request: Frame, seconds: float | None) -> None:
        """Execute the call. :attr:`ready` must be done. ``seconds`` is its time limit."""
        expected = _EXPECTED_SECONDS if seconds is None else min(seconds, _EXPECTED_SECONDS)
        self.expected_until = self._loop.time() + expected
        self.request = request
        self.wake()

    def give_up(self, *, is_urgent: bool = False) -> None:
        """End the call: its process gets SIGTERM, and later, or if urgent at once, SIGKILL."""
        self.is_given_up = True
        self.is_urgent = self.is_urgent or is_urgent
        self.wake()

    async def end(self) -> None:
        """Give up the call, and wait until nothing of it is executed any more.

        A cancellation of this wait makes it urgent, and is raised afterward.
        """
        self.give_up()
        cancelled: asyncio.CancelledError | None = None
        while not self.released.done():
            try:
                await asyncio.wait({self.released})
            except asyncio.CancelledError as error:
                cancelled = error
                self.give_up(is_urgent=True)
        if cancelled is not None:
            raise cancelled

    def deliver(self, name: str, value: Any = None, error: BaseException | None = None) -> None:
        """Set a future of the job, from a thread."""
        future = getattr(self, name)

        def settle() -> None:
            if future.done():
                return
            if error is None:
                future.set_result(value)
            else:
                future.set_exception(error)

        with suppress(RuntimeError):  # the loop is closed: no caller is left
            self._loop.call_soon_threadsafe(settle)


def _retrieve(future: asyncio.Future[Any]) -> None:
    """Mark an exception as retrieved: no caller waits for a job that was given up."""
    if not future.cancelled():
        future.exception()


class ProcessPool:
    """At most ``size`` processes, which are started on demand."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._lock = threading.Lock()
        self._waiting: deque[Job] = deque()
        self._idle: list[_Slot] = []
        self._slots: set[_Slot] = set()  # those that may get a job
        self._living: set[_Slot] = set()  # and those that are ending their process
        self._is_closed = False
        self._jobs: set[Job] = set()  # of the loop, and not of the threads
        self._closed = threading.Condition(self._lock)

    def expected_seconds(self, now: float) -> float:
        """Return how long calls in progress are likely to take, at most."""
        return max((job.expected_until - now for job in self._jobs), default=0.0)

    def submit(self, job: Job) -> None:
        """Give the job a process as soon as one is free. Call it on the loop."""
        self._jobs.add(job)
        job.released.add_done_callback(lambda _: self._jobs.discard(job))
        try:
            self._submit(job)
        except BaseException:
            self._jobs.discard(job)
            raise

    def _submit(self, job: Job) -> None:
        with self._lock:
            if self._is_closed:
                raise ShutdownError("the worker is closing and executes no more steps")
            if self._idle:
                slot = self._idle.pop()  # the one used last: the others may become superfluous
                slot.job = job
                slot.wake.set()
                return
            if len(self._slots) >= self._size:
                self._waiting.append(job)
                job.wake = lambda: self._withdraw(job)
                return
            slot = _Slot(self, job)
            self._slots.add(slot)
            self._living.add(slot)
        try:
            slot.start()
        except BaseException:  # no more threads, no memory
            self.forget(slot)
            slot.wake.close()
            raise

    def _withdraw(self, job: Job) -> None:
        """Drop a job that was given up while it waited for a process."""
        with self._lock:
            if not job.is_given_up or job not in self._waiting:
                return
            self._waiting.remove(job)
        job.deliver("ready", error=ShutdownError("the step was given up"))
        job.deliver("released")

    def next_job(self, slot: _Slot, deliver: Callable[[], None]) -> Job | None:
        """Return the next job of a thread, which is idle until then; ``None`` ends the thread.

        ``deliver`` delivers the previous job. It is called when the thread is idle, so that the
        next step of the same run does not need another process.
        """
        deadline = time.monotonic() + _IDLE_SECONDS
        with self._lock:
            slot.job = self._waiting.popleft() if self._waiting else None
            if slot.job is None and not self._is_closed:
                self._idle.append(slot)
            deliver()
        while True:
            left = deadline - time.monotonic()
            with self._lock:
                if slot not in self._idle:  # it has got a job, or the pool is closed
                    return slot.job
                if left <= 0:
                    self._idle.remove(slot)
                    self._slots.discard(slot)
                    return None
            slot.wake.wait(left)

    def forget(self, slot: _Slot) -> None:
        """Note that a thread and its process have ended."""
        with self._lock:
            self._slots.discard(slot)
            self._living.discard(slot)
            self._closed.notify_all()

    def close(self) -> None:
        """End all processes: idle ones in peace, the others at once."""
        with self._lock:
            self._is_closed = True
            waiting, self._waiting = list(self._waiting), deque()
            slots = list(self._living)
            self._idle.clear()
            jobs = [slot.job for slot in slots if slot.job is not None]
        for job in waiting:
            job.deliver("ready", error=ShutdownError("the worker is closing"))
            job.deliver("released")
        for job in jobs:
            job.give_up(is_urgent=True)
        for slot in slots:
            slot.wake.set()

    async def ended(self, seconds: float) -> None:
        """After :meth:`close`, wait at most ``seconds`` until all processes have ended."""
        if self._living:
            await in_own_thread(self.wait_closed, seconds)

    def wait_closed(self, seconds: float) -> bool:
        """After :meth:`close`, wait until all processes have ended. Return whether they have."""
        with self._closed:
            return self._closed.wait_for(lambda: not self._living, seconds)

    def processes(self) -> list[int]:
        """Return the ids of the processes that exist."""
        with self._lock:
            children = [slot.child for slot in self._living]
        return [child.pid for child in children if child is not None]


class _Slot:
    """A thread and its process."""

    def __init__(self, pool: ProcessPool, job: Job) -> None:
        self._pool = pool
        self.job: Job | None = job
        self.child: ChildProcess | None = None
        self.wake = Wake()

    def start(self) -> None:
        """Start the thread."""
        threading.Thread(target=self._work, name="polos-process", daemon=True).start()

    def _work(self) -> None:
        try:
            job = self.job
            while job is not None:
                job = self._pool.next_job(self, self._serve(job))
        finally:
            try:
                self._end_child()
            finally:
                self._pool.forget(self)
                self.wake.close()

    def _serve(self, job: Job) -> Callable[[], None]:
        """Execute a job, and return what delivers its end."""
        job.wake = self.wake.set
        answer: Frame | None = None
        failure: BaseException | None = None
        try:
            answer = self._answer(job)
        except AbortedError:
            failure = ShutdownError("the step was given up")
        except Exception as error:
            self._drop_child()
            failure = error
        except BaseException as error:
            # Whatever it is: a caller waits for the job.
            _log.exception("a thread of the processes of steps failed")
            self._drop_child()
            failure = error

        def deliver() -> None:
            job.deliver("ready", error=failure)
            job.deliver("outcome", answer, failure)
            job.deliver("released")

        return deliver

    def _answer(self, job: Job) -> Frame:
        child = self._ready_child(job)
        job.deliver("ready")
        while job.request is None:
            try:
                child.wait()
            except StepCrashedError:
                # It has ended before it knew of the step, which therefore loses nothing.
                child = self._ready_child(job)
        try:
            return child.call(job.request)
        except AbortedError:
            self.child = None
            child.terminate(lambda: job.is_urgent)
            raise

    def _ready_child(self, job: Job) -> ChildProcess:
        child = self.child
        if child is not None and (child.has_ended or _is_full(child, job.memory)):
            self._end_child()
            child = None
        if child is None:
            child = ChildProcess(self.wake, self._is_given_up)
            self.child = child
            try:
                child.finish_start()
            except AbortedError:
                self._drop_child()
                raise
        return child

    def _is_given_up(self) -> bool:
        return self.job is not None and self.job.is_given_up

    def _end_child(self) -> None:
        child, self.child = self.child, None
        if child is not None:
            child.close()

    def _drop_child(self) -> None:
        child, self.child = self.child, None
        if child is not None:
            child.kill()


def _is_full(child: ChildProcess, memory: int | None) -> bool:
    """Whether earlier steps have left so much in the process that it should not serve this one."""
    if memory is None or child.used is None or child.calls == 0:
        return False
    return child.used > memory * _USED_MAX
