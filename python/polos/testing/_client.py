"""A client of a database in memory, in virtual time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol, TypeVar

from polos._core.blocking import is_blocking
from polos._core.instants import to_micros
from polos._core.location import DatabaseLocation
from polos._core.real_datetime import datetime
from polos._core.requests import Request
from polos._runtime.current_run import current_run
from polos.client import PolosClient
from polos.exceptions import StoreUnavailableError
from polos.testing._faults import Faults

__all__ = ["VirtualClient"]

A = TypeVar("A")

_is_looking: ContextVar[bool] = ContextVar("polos_testing_is_looking", default=False)


class Passing(Protocol):
    """Advances time."""

    async def until_ended(self, id: str, seconds: float | None) -> dict[str, Any] | None: ...

    def until_ended_here(self, id: str, seconds: float | None) -> dict[str, Any] | None: ...


class VirtualClient(PolosClient):
    """A client with which waiting for a run advances time, except inside a handler."""

    def __init__(self, start: datetime, *, project_id: str) -> None:
        super().__init__(project_id=project_id)
        self._options = {"project": self.project_id, "start": to_micros(start)}
        self.faults = Faults()
        self.is_away = False
        self.refused_count = 0  # requests that were made while the database was away
        self.passing: Passing | None = None

    def _locate(self, database: object) -> DatabaseLocation:
        return DatabaseLocation(name=":virtual:")

    @contextmanager
    def looking(self) -> Iterator[None]:
        """Exempt the requests inside the block from injected faults."""
        token = _is_looking.set(True)
        try:
            yield
        finally:
            _is_looking.reset(token)

    async def _ask_once(self, request: Request[A]) -> A:
        with self._with_faults(request):
            return await super()._ask_once(request)

    def _call_within(self, request: Request[A], seconds: float) -> str | None:
        with self._with_faults(request):
            return super()._call_within(request, seconds)

    def _call(self, request: Request[A], timeout: int | None = None) -> str | None:
        with self._with_faults(request):
            return super()._call(request, timeout)

    @contextmanager
    def _with_faults(self, request: Request[A]) -> Iterator[None]:
        if _is_looking.get():
            yield
            return
        if self.is_away:
            self.refused_count += 1
            raise StoreUnavailableError("the database is away, as the test has it (`outage`)")
        self.faults.fail("request", "before_commit", None, None)
        self.faults.fail("request", "before_commit", None, request.op)
        yield
        self.faults.fail("request", "after_commit", None, None)
        self.faults.fail("request", "after_commit", None, request.op)

    async def _ended_run(self, id: str, seconds: float | None) -> dict[str, Any] | None:
        if current_run() is not None or self.passing is None:
            return await super()._ended_run(id, seconds)
        if is_blocking():
            return self.passing.until_ended_here(id, seconds)
        return await self.passing.until_ended(id, seconds)
