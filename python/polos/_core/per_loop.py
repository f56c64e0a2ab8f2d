"""One value per event loop."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Callable
from typing import Any, Generic, TypeVar

__all__ = ["PerLoop"]

T = TypeVar("T")


class _Last(threading.local):
    """The loop that a thread used last, and its value."""

    loop: Callable[[], Any] | None = None
    value: Callable[[], Any]


class PerLoop(Generic[T]):
    """A value for each event loop, made by ``make`` on first use. It lives as long as its loop, to
    which it must have no strong reference.
    """

    def __init__(self, make: Callable[[asyncio.AbstractEventLoop], T]) -> None:
        self._make = make
        self._values: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, T] = (
            weakref.WeakKeyDictionary()
        )
        self._lock = threading.Lock()
        self._last = _Last()

    def of(self, loop: asyncio.AbstractEventLoop) -> T:
        """Return the value of ``loop``."""
        last = self._last
        # The table takes ten times as long, and nearly always a thread has one loop.
        if last.loop is not None and last.loop() is loop:
            known: T | None = last.value()
            if known is not None:
                return known
        with self._lock:
            value = self._values.get(loop)
            if value is None:
                value = self._values[loop] = self._make(loop)
        last.loop, last.value = weakref.ref(loop), weakref.ref(value)
        return value

    def items(self) -> list[tuple[asyncio.AbstractEventLoop, T]]:
        """Return the loops that still exist, with their values."""
        return list(self._values.items())

    def forget(self, loop: asyncio.AbstractEventLoop) -> None:
        """Drop the value of ``loop``."""
        self._values.pop(loop, None)
