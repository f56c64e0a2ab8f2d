"""``clock``: virtual time for an ``async with``, or for a ``with``."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from types import TracebackType

from typing_extensions import Unpack

from polos._core.real_datetime import datetime
from polos.exceptions import InvalidStateError
from polos.testing._blocking import BlockingVirtualTime
from polos.testing._failure_report import ended
from polos.testing._virtual_time import VirtualTime, parsed
from polos.worker import WorkerOptions

__all__ = ["Clock", "clock"]


class Clock(
    AbstractAsyncContextManager["VirtualTime"], AbstractContextManager["BlockingVirtualTime"]
):
    """The return type of :func:`clock`: an async and a sync context manager."""

    def __init__(self, start: datetime, project_id: str, options: WorkerOptions) -> None:
        self._how = (start, project_id, options)
        self._time: VirtualTime | None = None
        self._blocking: BlockingVirtualTime | None = None

    async def __aenter__(self) -> VirtualTime:
        self._time = self._made()
        try:
            await self._time._begin()
        except BaseException:
            await self._time._end()
            raise
        return self._time

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        time, self._time = self._time, None
        assert time is not None
        await ended(time, error)

    def __enter__(self) -> BlockingVirtualTime:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            pass
        else:
            raise InvalidStateError(
                "an event loop is running here; use `async with polos.testing.clock(...)`"
            )
        self._blocking = BlockingVirtualTime(self._made())
        try:
            self._blocking._begin()
        except BaseException:
            self._blocking._end(None)
            raise
        return self._blocking

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        time, self._blocking = self._blocking, None
        assert time is not None
        time._end(error)

    def _made(self) -> VirtualTime:
        if self._time is not None or self._blocking is not None:
            raise InvalidStateError("this clock is in use; create another one")
        start, project_id, options = self._how
        return VirtualTime(start, project_id=project_id, options=options)


def clock(
    start: datetime | str, *, project_id: str = "default", **options: Unpack[WorkerOptions]
) -> Clock:
    """Start a worker with the registered workflows, in virtual time that begins at ``start``.

    ``async with clock(...) as t`` returns a :class:`VirtualTime`. In code without an event loop,
    ``with clock(...) as t`` returns a :class:`BlockingVirtualTime`.

    An exception that leaves the block gets a note about what happened in it. The end of the block
    raises ``AssertionError`` if a requested fault never happened.

    :param start: an aware datetime, or its ISO text.
    :param options: those of :class:`polos.Worker`; without ``retention``, everything is kept.
    """
    return Clock(parsed("start", start), project_id, options)
