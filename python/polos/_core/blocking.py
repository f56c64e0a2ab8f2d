"""Blocking versions of async functions: the same function, executed without a loop.

Inside a blocking version, every request to the core waits on the calling thread instead of being
awaited. So the coroutine never suspends, and one ``send`` runs it to its end. There is only one
implementation.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from typing import Any, ParamSpec, TypeVar

__all__ = ["awaiting", "blocking", "is_blocking", "run_blocking"]

P = ParamSpec("P")
R = TypeVar("R")

_is_blocking: ContextVar[bool] = ContextVar("polos_is_blocking", default=False)


def is_blocking() -> bool:
    """Whether requests made now block this thread."""
    return _is_blocking.get()


async def awaiting(coroutine: Coroutine[Any, Any, R]) -> R:
    """Return the result of ``coroutine``, whose requests are awaited on the loop that runs this.

    For tasks that a blocking call starts on a loop, because they inherit the caller's context.
    """
    _is_blocking.set(False)  # in this task's own context
    return await coroutine


def run_blocking(coroutine: Coroutine[Any, Any, R]) -> R:
    """Return the result of ``coroutine``, which may await only requests to the core."""
    token = _is_blocking.set(True)
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: R = stop.value
        return result
    finally:
        _is_blocking.reset(token)
        coroutine.close()
    raise AssertionError("a blocking call has awaited something other than the core")


def blocking(function: Callable[P, Coroutine[Any, Any, R]]) -> Callable[P, R]:
    """Return the blocking version of ``function``."""

    @functools.wraps(function)
    def twin(*args: P.args, **kwargs: P.kwargs) -> R:
        return run_blocking(function(*args, **kwargs))

    return twin
