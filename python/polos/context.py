"""The contexts that handlers get: facts about the run, and steps."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from polos._runtime.current_run import current_step
from polos._runtime.journal import PATCH
from polos._runtime.progress import ProgressReports, checked_progress
from polos._runtime.steps import Steps
from polos._runtime.steps_sync import SyncSteps
from polos._validate.schedule_options import check_identifier

if TYPE_CHECKING:
    from polos._runtime.active_run import ActiveRun
    from polos.payload import SchedulePayload

__all__ = ["Steps", "SyncSteps", "SyncWorkflowContext", "WorkflowContext"]


class _Context:
    """The properties that both kinds of context share."""

    __slots__ = ("__weakref__", "_active")

    def __init__(self, active: ActiveRun) -> None:
        self._active = active

    @property
    def run_id(self) -> str:
        """The run's id. It stays the same when the run is resumed or retried.

        With a fixed suffix, it is a good idempotency key for work that the handler does outside of
        steps.
        """
        return self._active.run_id

    @property
    def workflow_id(self) -> str:
        """The id of the workflow."""
        return self._active.workflow.id

    @property
    def schedule_id(self) -> str | None:
        """The id of the schedule that started the run, or ``None``."""
        return self._active.schedule_id

    @property
    def key(self) -> str:
        """The key of its schedule, or the ``key=`` with which the run was started; ``"global"`` if
        there is none.
        """
        return self._active.key

    @property
    def attempt(self) -> int:
        """1 at first, and one more with each retry of the run. A resumed run keeps its attempt."""
        return self._active.attempt

    @property
    def interruptions(self) -> int:
        """How many times in a row the worker died while it executed this run, without a newly
        recorded step; usually 0. See ``max_interruptions`` of :func:`polos.workflow`.
        """
        return self._active.interruptions

    @property
    def slot(self) -> SchedulePayload | None:
        """The slot of a scheduled run; ``None`` if the run was started in another way.

        Handlers whose payload is the schedule's ``input`` read the times here.
        """
        return self._active.slot_payload()

    @property
    def input(self) -> Any:
        """The data stored with the schedule."""
        return self._active.input

    @property
    def step_key(self) -> str:
        """Inside a step, a key that is the same in every execution of the step.

        Pass it to services as their idempotency key. Raises ``LookupError`` outside of steps.
        """
        name = current_step.get()
        if name is None:
            raise LookupError(
                "`ctx.step_key` was read outside of a step; read it inside the function that the "
                "step executes (`def charge(): api.charge(key=ctx.step_key)`) instead of passing "
                "it as an argument of `ctx.step.run`"
            )
        return f"{self._active.run_id}:{name}"

    @property
    def last_result(self) -> Any:
        """The result of the schedule's previous finished run; ``None`` if there is none.

        It is read from the database on first use.
        """
        return self._active.last_result()

    def progress(self, fraction: float | None = None, message: str | None = None) -> None:
        """Report how far the handler is, for people: ``ctx.progress(0.4, "page 12 of 30")``.

        Returns at once and never fails a run. At most one report per second is written; of the
        others the newest. One that cannot be written, as in an outage, is lost. Call it from
        handlers and from functions of steps, but not from those with ``process=True``.

        :param fraction: from 0 to 1, or ``None`` if it is unknown.
        :param message: one line of up to 300 characters; the rest is cut off.

        Raises :class:`InvalidArgumentError` for a value that is neither.
        """
        checked = checked_progress(fraction, message)
        active = self._active
        if active.progress is None:
            active.progress = ProgressReports(active)
        active.progress.report(*checked)

    @property
    def log(self) -> logging.LoggerAdapter[logging.Logger]:
        """A logger whose records carry ``run_id``, ``workflow``, and ``key``."""
        return self._active.log()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.run_id}>"


class WorkflowContext(_Context):
    """The ``ctx`` of an async handler."""

    __slots__ = ("step",)

    def __init__(self, active: ActiveRun) -> None:
        super().__init__(active)
        self.step = Steps(active)

    async def patched(self, name: str) -> bool:
        """Whether the run takes the new branch at a place where the code has changed.

        ``True`` for a run that reaches this place for the first time now, ``False`` for a run that
        had already recorded later steps when it was resumed. The answer is recorded once and never
        changes. Keep the call until no unfinished run has recorded it.

        :param name: identifies the change inside the workflow. Call it once per execution.
        """
        return await _patched(self._active, name)


class SyncWorkflowContext(_Context):
    """The ``ctx`` of a sync handler. Its steps block instead of being awaited."""

    __slots__ = ("step",)

    def __init__(self, active: ActiveRun) -> None:
        super().__init__(active)
        self.step = SyncSteps(Steps(active))

    def patched(self, name: str) -> bool:
        """See :meth:`WorkflowContext.patched`."""
        return asyncio.run_coroutine_threadsafe(
            _patched(self._active, name), self._active.loop
        ).result()


async def _patched(active: ActiveRun, name: str) -> bool:
    active.check_alive()
    step = PATCH + check_identifier("patch", name)
    record = active.journal.recorded(step)
    if record is not None:
        return record.result == "true"
    # A second call in this execution returns the first answer.
    is_new = active.patches.setdefault(step, not active.journal.has_unreached())
    text = "true" if is_new else "false"
    await active.requests.record(step, "done", 1, active.now(), result=text)
    return is_new
