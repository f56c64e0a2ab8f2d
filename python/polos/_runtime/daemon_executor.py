"""The executor of ``asyncio.to_thread`` in programs that polos runs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from polos._runtime.threads import ThreadPool

__all__ = ["DaemonExecutor"]

T = TypeVar("T")


class DaemonExecutor(ThreadPoolExecutor):
    """An executor for ``asyncio.to_thread`` whose threads do not keep the process alive."""

    def __init__(self, size: int, timeout: float) -> None:
        super().__init__(1)
        self._pool = ThreadPool(size, "asyncio")
        self._timeout = timeout
        self._pending = 0
        self._changed = threading.Condition()

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Call ``fn`` in a thread."""
        future: Future[T] = Future()

        def job() -> None:
            try:
                if future.set_running_or_notify_cancel():
                    try:
                        future.set_result(fn(*args, **kwargs))
                    except BaseException as error:
                        future.set_exception(error)
            finally:
                with self._changed:
                    self._pending -= 1
                    self._changed.notify_all()

        with self._changed:
            self._pending += 1
        self._pool._put(job, asyncio.get_running_loop())
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Accept no more calls; wait briefly for those in progress."""
        if wait:
            with self._changed:
                self._changed.wait_for(lambda: self._pending == 0, self._timeout)
        self._pool.close()
