"""A layer between handlers and the core in virtual time, where faults are injected."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from polos.testing._faults import Faults, Moment

if TYPE_CHECKING:
    from polos._polos import ClaimedRun, WorkerCore
    from polos._runtime.active_run import ActiveRun
    from polos._runtime.executor import Executor

__all__ = ["FaultyCore"]


class FaultyCore:
    """A worker's core that can be cut off (a dead process) or held up (a database outage)."""

    def __init__(
        self, core: WorkerCore, executor: Executor, faults: Faults, crash: Callable[[], None]
    ) -> None:
        self._core = core
        self._executor = executor
        self._faults = faults
        self._crash = crash
        self._is_cut = False
        self._held: list[Callable[[], None]] | None = None
        self.waiting: set[ActiveRun] = set()

    # -- faults -------------------------------------------------------------------------------

    def cut(self) -> WorkerCore:
        """Block everything from now on, and return the core."""
        self._is_cut = True
        self._core.abandon()
        return self._core

    def hold(self) -> None:
        """Make writes wait from now on."""
        self._held = []

    def release(self) -> None:
        """Execute the writes that have waited."""
        held, self._held = self._held or [], None
        self.waiting.clear()
        for write in held:
            write()

    def _write(
        self,
        active: ActiveRun | None,
        step: str | None,
        is_final: bool,
        write: Callable[[], None],
    ) -> None:
        self._check_not_cut()
        if active is not None and is_final:
            self._crash_if_requested(active, step, "before_commit")
        if self._held is not None:
            self._held.append(write)
            if active is not None and step is not None:
                self.waiting.add(active)
            return
        write()
        if active is not None and is_final:
            self._crash_if_requested(active, step, "after_commit")

    def _crash_if_requested(self, active: ActiveRun, step: str | None, moment: Moment) -> None:
        if self._faults.take("crash", moment, active.workflow.id, step) is not None:
            self._crash()
            self._check_not_cut()

    def _check_not_cut(self) -> None:
        if self._is_cut:
            raise asyncio.CancelledError("the worker has crashed, as the test has it")

    # -- the core's API ------------------------------------------------------------------------

    def record_step(self, *record: Any) -> None:
        """See the core."""
        _, _, run, token, name, state, *_ = record
        active = self._executor.active.get((run, token))
        is_final = state in ("done", "failed")
        self._write(active, name, is_final, lambda: self._core.record_step(*record))

    def report_progress(self, *report: Any) -> None:
        """See the core."""
        _, written, *_ = report
        try:
            self._faults.fail("request", "before_commit", None, "report_progress")
        except BaseException as error:
            written.set_exception(error)
            return
        self._write(None, None, False, lambda: self._core.report_progress(*report))

    def await_event(self, *wait: Any) -> None:
        """See the core."""
        _, _, run, token, name, *_ = wait
        active = self._executor.active.get((run, token))
        self._write(active, name, True, lambda: self._core.await_event(*wait))

    def complete_run(self, *ending: Any) -> None:
        """See the core."""
        claimed, kind, *_ = ending
        active = self._executor.active.get((claimed.run_id, claimed.token))
        is_final = kind in ("succeeded", "failed", "cancelled")
        self._write(active, None, is_final, lambda: self._core.complete_run(*ending))

    def note_entry(self, claimed: ClaimedRun) -> int:
        """See the core."""
        return self._core.note_entry(claimed)

    def counts(self) -> list[tuple[str, str, str, int]]:
        """See the core."""
        return self._core.counts()

    def health(self) -> str:
        """See the core."""
        return self._core.health()

    def health_address(self) -> str | None:
        """See the core."""
        return self._core.health_address()

    def is_trusted(self) -> bool:
        """See the core."""
        return self._core.is_trusted()

    def is_confirmed(self, run: str, token: int, confirmed_at: int | None) -> bool:
        """See the core."""
        return self._core.is_confirmed(run, token, confirmed_at)

    def steady_now(self) -> int:
        """See the core."""
        return self._core.steady_now()

    def set_timer(self, id: int, delay: int) -> None:
        """See the core."""
        if not self._is_cut:
            self._core.set_timer(id, delay)

    def hook_called(self, call: str) -> None:
        """See the core."""
        if not self._is_cut:
            self._core.hook_called(call)

    def drain(self) -> None:
        """See the core."""
        self._core.drain()

    def deregister(self, limit: int) -> bool:
        """See the core."""
        return self._core.deregister(limit)

    def block(self, run: str, token: int) -> None:
        """See the core."""
        self._core.block(run, token)

    def unblock(self, run: str, token: int) -> None:
        """See the core."""
        self._core.unblock(run, token)

    def tick(self) -> tuple[int | None, int, bool] | None:
        """See the core."""
        return None if self._is_cut else self._core.tick()
