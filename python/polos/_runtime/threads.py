"""Daemon threads for blocking functions: a function that never returns must not keep the process
alive.

A thread that waits for something that may itself need a thread of its pool announces that
(:func:`blocked_thread`, :meth:`ThreadPool.grow`), and the pool may start another thread meanwhile.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

__all__ = ["ThreadPool", "blocked_thread", "pool_of_thread"]

T = TypeVar("T")

_RETRY_INTERVAL = 0.1
"""Seconds until a thread or an action that the system had no resources for is tried again."""


_thread = threading.local()


def pool_of_thread() -> ThreadPool | None:
    """Return the pool of the calling thread, or ``None``."""
    pool: ThreadPool | None = getattr(_thread, "pool", None)
    return pool


@contextmanager
def blocked_thread() -> Iterator[None]:
    """Mark the calling thread as waiting inside the block; its pool may start another one
    meanwhile.
    """
    pool = pool_of_thread()
    if pool is None:
        yield
        return
    pool.grow(1)
    try:
        yield
    finally:
        pool.grow(-1)


class ThreadPool:
    """Runs functions in at most ``size`` threads, which are started on demand.

    Threads that wait do not count: :meth:`grow`.
    """

    def __init__(self, size: int, name: str) -> None:
        self._size = size
        self._name = name
        self._condition = threading.Condition()
        self._jobs: deque[Callable[[], None]] = deque()
        self._idle = 0
        self._started = 0
        self._is_closed = False
        self._loop: asyncio.AbstractEventLoop | None = None

    async def run(self, function: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
        """Call ``function`` in a thread with the caller's context variables, and return its result.

        A caller that is cancelled continues at once, and the function's result is ignored, because
        a thread cannot be stopped.
        """
        return await self.submit(function, *args, **kwargs)

    def submit(self, function: Callable[..., T], /, *args: Any, **kwargs: Any) -> asyncio.Future[T]:
        """Do what :meth:`run` does, but return the future of the result.

        The future is cancelled only if its awaiting task is. If the function raises
        ``CancelledError``, that is the future's exception.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()
        context = contextvars.copy_context()

        def deliver(value: Any, error: BaseException | None) -> None:
            if answer.done():
                return
            if error is None:
                answer.set_result(value)
            elif issubclass(type(error), StopIteration):
                # A future rejects it, because it would end the awaiting generator.
                wrapped = RuntimeError("the function raised StopIteration")
                wrapped.__cause__ = error
                answer.set_exception(wrapped)
            else:
                answer.set_exception(error)

        def job() -> None:
            value, failure = None, None
            try:
                value = context.run(function, *args, **kwargs)
            except BaseException as error:  # SystemExit too: it ends the call, not the thread
                failure = error
            _retry_without_memory(lambda: _call_on(loop, deliver, value, failure))

        self._put(job, loop)
        return answer

    def grow(self, change: int) -> None:
        """Allow one more thread (1) because one of them waits, or one less again (-1).

        The thread that has waited continues at once; the next one that finishes ends instead of
        taking another job.
        """
        with self._condition:
            self._size += change
            if self._started > self._size:
                self._condition.notify_all()
        if change > 0:
            try:
                self._ensure_thread()
            except (RuntimeError, MemoryError):
                loop = self._loop
                if loop is not None:
                    _call_on(loop, self._ensure_thread_later, loop)

    def close(self) -> None:
        """End idle threads; busy ones end after their current function."""
        with self._condition:
            self._is_closed = True
            self._condition.notify_all()

    def _put(self, job: Callable[[], None], loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        with self._condition:
            self._jobs.append(job)
        try:
            self._ensure_thread()
        except (RuntimeError, MemoryError):  # the system has no more threads
            with self._condition:
                if job not in self._jobs:
                    return
                if self._started == 0:
                    self._jobs.remove(job)
                    raise
            # The other threads may stay busy forever, so try again later.
            self._ensure_thread_later(loop)

    def _ensure_thread_later(self, loop: asyncio.AbstractEventLoop) -> None:
        with suppress(RuntimeError):  # the loop is closed: no caller is left
            loop.call_later(_RETRY_INTERVAL, self._retry_ensure_thread, loop)

    def _retry_ensure_thread(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            self._ensure_thread()
        except (RuntimeError, MemoryError):
            self._ensure_thread_later(loop)

    def _ensure_thread(self) -> None:
        """Make sure that a thread takes the newest job: wake a thread, or start one."""
        with self._condition:
            if not self._jobs:
                return
            if self._idle >= len(self._jobs):
                self._condition.notify()
                return
            if self._started >= self._size:
                return
            self._started += 1
            name = f"{self._name}-{self._started}"
        try:
            threading.Thread(target=self._work, name=name, daemon=True).start()
        except BaseException:
            with self._condition:
                self._started -= 1
            raise

    def _work(self) -> None:
        _thread.pool = self
        while (job := _retry_without_memory(self._next)) is not None:
            job()
            del job

    def _next(self) -> Callable[[], None] | None:
        """Wait for the next job and return it; ``None`` when the pool is closed."""
        with self._condition:
            self._idle += 1
            try:
                while not self._jobs or self._started > self._size:
                    if self._is_closed or self._started > self._size:
                        self._started -= 1
                        self._condition.notify()  # pass the wake-up on to another thread
                        return None
                    self._condition.wait()
                return self._jobs.popleft()
            finally:
                self._idle -= 1


def _call_on(loop: asyncio.AbstractEventLoop, function: Callable[..., None], *args: Any) -> None:
    with suppress(RuntimeError):  # the loop is closed: no caller is left
        loop.call_soon_threadsafe(function, *args)


def _retry_without_memory(action: Callable[[], T]) -> T:
    """Return the result of ``action``, repeated until there is memory for it. A thread that ended
    instead would leave its caller waiting forever.
    """
    while True:
        try:
            return action()
        except MemoryError:
            time.sleep(_RETRY_INTERVAL)
