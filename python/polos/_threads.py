"""Threads for what blocks. Daemons: a function that never returns must not keep the process."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

__all__ = ["ThreadPool"]

T = TypeVar("T")

_PATIENCE = 0.1
"""Seconds until what the system had no means for is tried again."""


class ThreadPool:
    """Runs functions in at most ``size`` threads, started when they are needed."""

    def __init__(self, size: int, name: str) -> None:
        self._size = size
        self._name = name
        self._condition = threading.Condition()
        self._jobs: deque[Callable[[], None]] = deque()
        self._idle = 0
        self._started = 0
        self._is_closed = False

    async def run(self, function: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
        """What ``function`` returns, called in a thread with the caller's context variables.

        When the caller is cancelled, it goes on at once and the function's end is ignored: a
        thread can't be stopped.
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
                # A future refuses it, since it would end the generator that awaits.
                told = RuntimeError("the function raised StopIteration")
                told.__cause__ = error
                answer.set_exception(told)
            else:
                answer.set_exception(error)

        def job() -> None:
            value, failure = None, None
            try:
                value = context.run(function, *args, **kwargs)
            except BaseException as error:  # SystemExit too: it ends the call, not the thread
                failure = error
            _persist(lambda: _call_on(loop, deliver, value, failure))

        self._put(job, loop)
        return await answer

    def close(self) -> None:
        """Let idle threads end; busy ones end with what they are doing."""
        with self._condition:
            self._is_closed = True
            self._condition.notify_all()

    def _put(self, job: Callable[[], None], loop: asyncio.AbstractEventLoop) -> None:
        with self._condition:
            self._jobs.append(job)
        try:
            self._staff()
        except (RuntimeError, MemoryError):  # the system has no more threads
            with self._condition:
                if job not in self._jobs:
                    return
                if self._started == 0:
                    self._jobs.remove(job)
                    raise
            # The others may be busy for ever: it is tried again.
            self._staff_later(loop)

    def _staff_later(self, loop: asyncio.AbstractEventLoop) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_later(_PATIENCE, self._staff_again, loop)

    def _staff_again(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            self._staff()
        except (RuntimeError, MemoryError):
            self._staff_later(loop)

    def _staff(self) -> None:
        """See to it that somebody comes for what was put last: wake a thread, or start one."""
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
        while (job := _persist(self._next)) is not None:
            job()
            del job

    def _next(self) -> Callable[[], None] | None:
        """The next job, waited for; none when the pool is closed."""
        with self._condition:
            self._idle += 1
            try:
                while not self._jobs:
                    if self._is_closed:
                        self._started -= 1
                        return None
                    self._condition.wait()
                return self._jobs.popleft()
            finally:
                self._idle -= 1


def _call_on(loop: asyncio.AbstractEventLoop, function: Callable[..., None], *args: Any) -> None:
    with suppress(RuntimeError):  # the loop is closed: nobody waits any more
        loop.call_soon_threadsafe(function, *args)


def _persist(action: Callable[[], T]) -> T:
    """What ``action`` gives, tried until there is memory for it: a thread that ended would leave
    somebody waiting for ever.
    """
    while True:
        try:
            return action()
        except MemoryError:
            time.sleep(_PATIENCE)
