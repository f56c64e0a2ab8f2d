"""Virtual time for tests without an event loop. It uses its own loop."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any, TypeVar

from typing_extensions import Unpack

from polos._core.real_datetime import datetime
from polos.exceptions import InvalidStateError
from polos.models import LedgerEntry, Run, Schedule, StepInfo
from polos.runs import RunHandle
from polos.testing._client import VirtualClient
from polos.testing._failure_report import ended
from polos.testing._faults import Fault, Moment
from polos.testing._virtual_time import AnyWorkflow, VirtualTime
from polos.worker import Worker, WorkerOptions

__all__ = ["BlockingVirtualTime"]

T = TypeVar("T")


async def _stop_the_rest() -> None:
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_asyncgens()


class BlockingVirtualTime:
    """A :class:`VirtualTime` whose methods block the calling thread.

    Use ``polos.schedules.sync`` and ``polos.runs.sync`` for schedules and runs. Async fixtures and
    handlers run on this clock's loop, and only while one of its methods runs.
    """

    def __init__(self, time: VirtualTime) -> None:
        self._time = time
        self._loop = asyncio.new_event_loop()
        time.loop = self._loop

    def _wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        if self._loop.is_closed():
            coroutine.close()
            raise InvalidStateError("this clock has ended")
        return self._loop.run_until_complete(coroutine)

    def _begin(self) -> None:
        self._wait(self._time._begin())

    def _end(self, error: BaseException | None) -> None:
        self._end_with(ended(self._time, error))

    def _abandon(self) -> None:
        """End it if the test did not. A second call does nothing."""
        if not self._loop.is_closed():
            self._end_with(self._time._end())

    def _end_with(self, last: Coroutine[Any, Any, None]) -> None:
        try:
            self._wait(last)
        finally:
            self._loop.run_until_complete(_stop_the_rest())
            self._loop.close()

    @property
    def client(self) -> VirtualClient:
        """See :attr:`VirtualTime.client`."""
        return self._time.client

    @property
    def worker(self) -> Worker:
        """See :attr:`VirtualTime.worker`."""
        return self._time.worker

    @property
    def now(self) -> datetime:
        """See :attr:`VirtualTime.now`."""
        return self._time.now

    def runs(self, **filters: Any) -> list[Run]:
        """See :meth:`VirtualTime.runs`."""
        return self._wait(self._time.runs(**filters))

    def steps(
        self, run: Run | RunHandle[Any] | str | None = None, **filters: Any
    ) -> list[StepInfo]:
        """See :meth:`VirtualTime.steps`."""
        return self._wait(self._time.steps(run, **filters))

    def schedules(self, **filters: Any) -> list[Schedule]:
        """See :meth:`VirtualTime.schedules`."""
        return self._wait(self._time.schedules(**filters))

    def ledger(self, schedule: Schedule | str | None = None, **filters: Any) -> list[LedgerEntry]:
        """See :meth:`VirtualTime.ledger`."""
        return self._wait(self._time.ledger(schedule, **filters))

    def advance(self, delta: timedelta | None = None, **parts: float) -> None:
        """See :meth:`VirtualTime.advance`."""
        self._wait(self._time.advance(delta, **parts))

    def advance_to(self, instant: datetime | str) -> None:
        """See :meth:`VirtualTime.advance_to`."""
        self._wait(self._time.advance_to(instant))

    def set_to(self, instant: datetime | str) -> None:
        """See :meth:`VirtualTime.set_to`."""
        self._wait(self._time.set_to(instant))

    def crash(self) -> None:
        """See :meth:`VirtualTime.crash`."""
        self._wait(self._time.crash())

    def stop(self) -> None:
        """See :meth:`VirtualTime.stop`."""
        self._wait(self._time.stop())

    def restart(self, *, elsewhere: bool = False, **options: Unpack[WorkerOptions]) -> None:
        """See :meth:`VirtualTime.restart`."""
        self._wait(self._time.restart(elsewhere=elsewhere, **options))

    def fail_step(
        self,
        name: str,
        *,
        times: int = 1,
        error: BaseException | type[BaseException] | None = None,
        workflow: AnyWorkflow | None = None,
    ) -> Fault:
        """See :meth:`VirtualTime.fail_step`."""
        return self._time.fail_step(name, times=times, error=error, workflow=workflow)

    def fail_run(
        self,
        workflow: AnyWorkflow,
        *,
        times: int = 1,
        error: BaseException | type[BaseException] | None = None,
    ) -> Fault:
        """See :meth:`VirtualTime.fail_run`."""
        return self._time.fail_run(workflow, times=times, error=error)

    def crash_at(
        self,
        step: str | None = None,
        *,
        workflow: AnyWorkflow | None = None,
        when: Moment = "before_commit",
        times: int = 1,
    ) -> Fault:
        """See :meth:`VirtualTime.crash_at`."""
        return self._time.crash_at(step, workflow=workflow, when=when, times=times)

    def fail_requests(
        self,
        op: str | None = None,
        *,
        times: int = 1,
        when: Moment = "before_commit",
        error: BaseException | type[BaseException] | None = None,
    ) -> Fault:
        """See :meth:`VirtualTime.fail_requests`."""
        return self._time.fail_requests(op, times=times, when=when, error=error)

    def outage(self) -> AbstractContextManager[None]:
        """See :meth:`VirtualTime.outage`."""
        return self._time.outage()
