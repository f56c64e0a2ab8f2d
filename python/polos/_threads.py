"""Threads for what blocks. Daemons: a function that never returns must not keep the process."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

__all__ = ["ThreadPool"]

T = TypeVar("T")


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
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(deliver, value, failure)

        self._put(job)
        return await answer

    def close(self) -> None:
        """Let idle threads end; busy ones end with what they are doing."""
        with self._condition:
            self._is_closed = True
            self._condition.notify_all()

    def _put(self, job: Callable[[], None]) -> None:
        with self._condition:
            self._jobs.append(job)
            if self._idle >= len(self._jobs):
                self._condition.notify()
                return
            if self._started >= self._size:
                return
            self._started += 1
            name = f"{self._name}-{self._started}"
        try:
            threading.Thread(target=self._work, name=name, daemon=True).start()
        except RuntimeError:  # the system has no more of them
            with self._condition:
                self._started -= 1
                if self._started > 0 or job not in self._jobs:
                    return  # one of the others will come to it
                self._jobs.remove(job)
            raise

    def _work(self) -> None:
        while True:
            with self._condition:
                self._idle += 1
                while not self._jobs:
                    if self._is_closed:
                        self._idle -= 1
                        self._started -= 1
                        return
                    self._condition.wait()
                self._idle -= 1
                job = self._jobs.popleft()
            job()
            del job
