"""Run blocking work of polos itself on separate threads.

The application's default executor can be busy for any time, and opening and closing a database must
not wait for it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

__all__ = ["in_own_thread"]

T = TypeVar("T")


async def in_own_thread(work: Callable[..., T], *arguments: Any) -> T:
    """Execute ``work(*arguments)`` on a new thread, and return or raise its result.

    Cancelling the wait does not stop the work.
    """
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[T] = loop.create_future()

    def settle(value: Any, error: BaseException | None) -> None:
        if ended.done():
            return
        if error is None:
            ended.set_result(value)
        else:
            ended.set_exception(error)

    def execute() -> None:
        value, error = None, None
        try:
            value = work(*arguments)
        except BaseException as raised:
            error = raised
        with suppress(RuntimeError):  # the loop was closed in the meantime
            loop.call_soon_threadsafe(settle, value, error)

    threading.Thread(target=execute, name="polos-blocking", daemon=True).start()
    return await ended
