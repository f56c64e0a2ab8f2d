"""The first entry of a handler: whether its schedule still exists.

A claim is made, and usually confirmed once more, before the handler is called. If the call comes
much later, because the loop or the threads were busy, the schedule may have been deleted meanwhile.
Then the database is asked first. A deletion is answered only when no entry can rely on an older
answer any more.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from polos._core import requests
from polos._core.safe_logging import quiet_logger

if TYPE_CHECKING:
    from polos._runtime.active_run import ActiveRun
    from polos._runtime.executor import Executor

__all__ = ["Entries", "Entry"]

_log = quiet_logger("polos.worker")


class Entry:
    """The first entry of one run."""

    __slots__ = ("_active",)

    def __init__(self, active: ActiveRun) -> None:
        self._active = active

    async def is_allowed(self) -> bool:
        """Whether the handler may be called now; if not, that is reported.

        Waits while the database does not answer.
        """
        active = self._active
        core = active.executor.core
        while active.entry_is_unconfirmed():
            asked_at = core.steady_now()
            refusal = await active.requests.through_outages(self._ask)
            if refusal is not None:
                self._refuse(refusal)
                return False
            active.confirmed_at = asked_at
        return True

    def is_allowed_in_thread(self) -> bool:
        """Do what :meth:`is_allowed` does, in a handler's thread."""
        while self._active.entry_is_unconfirmed():
            if not self._active.waits.wait_here(self.is_allowed()):
                return False
        return True

    async def _ask(self) -> str | None:
        return await self._active.executor.entries.ask(self._active)

    def _refuse(self, refusal: str) -> None:
        active = self._active
        if refusal == "claim_lost":
            # The core learns by the refused report that the run is no longer its own.
            active.stop_reason = "released"
            active.reporter.stopped()
            return
        active.reporter.refused()


class Entries:
    """Asks the database for many runs at once, because many start at the same time."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._waiting: dict[tuple[str, int], asyncio.Future[str | None]] = {}
        self._asking: set[asyncio.Task[None]] = set()

    async def ask(self, active: ActiveRun) -> str | None:
        """Return why the run must not be entered for the first time, or ``None`` if it may be."""
        loop = self._executor.loop
        answer: asyncio.Future[str | None] = loop.create_future()
        if not self._waiting:
            loop.call_soon(self._begin)
        self._waiting[active.run_id, active.token] = answer
        return await answer

    def _begin(self) -> None:
        waiting, self._waiting = self._waiting, {}
        task = self._executor.loop.create_task(self._answer(waiting))
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)

    async def _answer(self, waiting: dict[tuple[str, int], asyncio.Future[str | None]]) -> None:
        try:
            refusals = await self._executor.client._ask_once(requests.may_enter(list(waiting)))
        except BaseException as error:
            for answer in waiting.values():
                if not answer.done():
                    answer.set_exception(error)
            return
        for answer, refusal in zip(waiting.values(), refusals, strict=True):
            if not answer.done():
                answer.set_result(refusal)
