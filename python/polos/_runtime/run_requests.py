"""A run's requests to the database of its worker. An outage fails no run."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from polos import runs
from polos._core import requests
from polos._runtime.current_run import running
from polos._runtime.run_errors import lease_lost, run_ended
from polos.exceptions import HandlerParked, StoreUnavailableError

if TYPE_CHECKING:
    from polos._core.requests import Request
    from polos._runtime.active_run import ActiveRun
    from polos.runs import RunHandle
    from polos.workflow import Workflow

__all__ = ["RunRequests"]

R = TypeVar("R")

# Delay before a run repeats a request to an unavailable database, in seconds: first and longest.
_ASK_AGAIN_MIN = 0.05
_ASK_AGAIN_MAX = 1.0

# How many seconds `ctx.last_result`, which cannot be awaited, may block the event loop.
_READ_ON_LOOP = 1.0


class RunRequests:
    """What a run asks, and what it records."""

    __slots__ = ("_active",)

    def __init__(self, active: ActiveRun) -> None:
        self._active = active

    # -- outages ------------------------------------------------------------------------------

    async def ask(self, request: Request[R]) -> R:
        """Send a request for the run; wait while the database is unavailable."""
        token = running.set(self._active)  # the task may lack our context
        try:
            return await self._active.executor.client._ask(request)
        finally:
            running.reset(token)

    async def through_outages(self, request: Callable[[], Awaitable[R]]) -> R:
        """Return the answer to ``request``, and repeat it while the database is unavailable.

        An outage must not fail a run. This ends early if the run is stopped.
        """
        active = self._active
        executor = active.executor
        pause = _ASK_AGAIN_MIN
        while True:
            try:
                return await request()
            except StoreUnavailableError:
                if active.is_reported:
                    raise
                active.check_alive()
            with active.waits.waiting():
                if executor.client._is_virtual():
                    await executor.timers.start(int(pause * 1e6))
                else:
                    await asyncio.sleep(pause)
            active.check_alive()
            pause = min(pause * 2, _ASK_AGAIN_MAX)

    def read(self, request: Request[R]) -> R:
        """Return the answer to a request that is not awaited.

        A handler's thread waits for it through an outage. On the event loop, where nothing may
        wait, the run is released.
        """
        active = self._active
        if asyncio._get_running_loop() is None:
            return active.waits.wait_here(self.ask(request))
        active.check_alive()
        try:
            answer = active.executor.client._call_within(request, _READ_ON_LOOP)
        except StoreUnavailableError:
            answer = None
        if answer is None:
            self._release()
        return request.answer_from(answer)

    def _release(self) -> NoReturn:
        """Release the run, because the database is unavailable and the caller cannot wait.

        The run continues from its first unfinished step when the database is available.
        """
        active = self._active
        if active.waits.can_park():
            active.waits.park(active.now())
        active.stop("released")
        raise HandlerParked

    # -- the claim, and steps -----------------------------------------------------------------

    async def confirm_claim(self) -> None:
        """Make sure, before anything is executed, that this worker still holds the claim.

        Without an answer the run waits; it neither executes nor fails.
        """
        active = self._active
        if active.claim_is_unconfirmed() and not await self.ask(
            requests.claim_stands(active.run_id, active.token)
        ):
            self._lose_claim()

    async def record(
        self,
        name: str,
        state: str,
        attempt: int,
        started_at: int,
        *,
        result: str | None = None,
        error: str | None = None,
        wakes_at: int | None = None,
    ) -> None:
        """Write a step; return when it is durable."""
        active = self._active
        executor = active.executor
        durable: asyncio.Future[bool] = active.loop.create_future()
        executor.core.record_step(
            executor.bridge.core,
            durable,
            active.run_id,
            active.token,
            name,
            state,
            attempt,
            active.attempt,
            result,
            error,
            wakes_at,
            started_at,
        )
        if not await durable:
            self._lose_claim()

    async def await_event(self, name: str, wakes_at: int | None, started_at: int) -> dict[str, Any]:
        """Ask how the wait for an event stands, and decide it if that is possible.

        The deadline ``wakes_at`` counts only if the run has not waited for this event before.
        """
        active = self._active
        executor = active.executor
        answer: asyncio.Future[str] = active.loop.create_future()
        executor.core.await_event(
            executor.bridge.core,
            answer,
            active.run_id,
            active.token,
            name,
            active.attempt,
            wakes_at,
            started_at,
        )
        wait: dict[str, Any] | None = json.loads(await answer)
        if wait is None:
            self._lose_claim()
        return wait

    def _lose_claim(self) -> NoReturn:
        active = self._active
        if active.has_ended():
            raise run_ended(active.run_id, active.attempt, active.outcome)
        active.stop("lease_lost")
        raise lease_lost(active.run_id)

    async def stop_if_cancelled(self) -> None:
        """Stop this run if its cancellation was requested.

        A run is cancelled together with its children, and may learn of theirs first. Without this,
        it would fail because of the child.
        """
        if await self.ask(requests.cancel_requested(self._active.run_id)):
            self._active.stop("cancelled")
            await asyncio.sleep(0)  # its task is cancelled here

    # -- children -----------------------------------------------------------------------------

    async def invoke(
        self,
        workflow: Workflow[Any, Any] | str,
        payload: Any,
        idempotency_key: str,
        *,
        key: str | None,
        priority: int | None,
    ) -> RunHandle[Any]:
        """Start a child run; the same idempotency key returns the same run."""
        return await runs.invoke(
            self._active.executor.client,
            workflow,
            payload,
            idempotency_key=idempotency_key,
            key=key,
            priority=priority,
            _parent=self._active.run_id,
        )

    async def child_ended(self, child: str) -> dict[str, Any]:
        """Wait until the child run has completed, if possible without a task, and return it."""
        waits = self._active.waits
        if waits.can_park():
            ended = await self.ask(requests.get_run(child))
            if ended["status"] not in ("succeeded", "failed", "cancelled"):
                waits.park(None)
            return ended
        with waits.waiting(child), waits.blocked():
            return await self.ask(requests.await_run(child))
