"""Report the outcome of a run's execution to the core, the log, and the application's hooks."""

from __future__ import annotations

import asyncio
import json
from functools import partial
from typing import TYPE_CHECKING, Any

from polos._codec.exceptions import error_record
from polos._core.safe_logging import loggable, quiet_logger
from polos._runtime.retry_decision import why_not_retried
from polos.exceptions import CodeChangedError, InterruptedTooOftenError, RunTimeoutError

if TYPE_CHECKING:
    from collections.abc import Callable

    from polos._runtime.active_run import ActiveRun
    from polos._runtime.hook_calls import HookName
    from polos.hooks import RunFailure, RunSuccess

    _Tell = tuple[HookName, Callable[[], Any]]

__all__ = ["Reporter"]

_log = quiet_logger("polos.worker")

# The record of a failure if there is no memory to describe it.
_NO_MEMORY = json.dumps(
    {
        "type": "builtins:MemoryError",
        "message": "there was no memory to record how the run failed",
        "traceback": "",
    }
)

_OUT_OF_MEMORY = MemoryError("there was no memory to record how the run failed")


class Reporter:
    """Reports the outcome of one run. Only the first report counts."""

    __slots__ = ("_active",)

    def __init__(self, active: ActiveRun) -> None:
        self._active = active

    def succeeded(self, result: str | None, value: Any) -> None:
        """Report success, with ``value`` as it is recorded in ``result``."""
        tell: _Tell | None = None
        active = self._active
        if active.workflow.id in active.executor.tell_of_success:
            tell = ("on_success", partial(self._success, value))
        self._report("succeeded", result, tell=tell)

    def skipped(self, reason: str) -> None:
        """Report that the run's slot is skipped."""
        self._report("skipped", reason)

    def refused(self) -> None:
        """Report that the run was not entered, because its schedule was deleted."""
        active = self._active
        reason = "refused before its entry: the schedule was deleted"
        # A worker that died may have entered it, so the run is kept.
        kind = "cancelled" if active.interruptions else "skipped"
        data = json.dumps({"message": reason}) if kind == "cancelled" else reason
        self._report(kind, data)
        _log.info(
            "run %s of workflow `%s` was %s (%s)",
            active.run_id,
            active.workflow.id,
            reason,
            active.schedule_id,
        )

    def ran_out_of_memory(self) -> None:
        """Report a failure that there is no memory to describe."""
        reason = why_not_retried(_OUT_OF_MEMORY, self._active.workflow.retry_on)
        self._report("failed", _NO_MEMORY, final=reason is not None)

    def stopped(self) -> None:
        """Report that the run was stopped, for the reason in ``stop_reason``."""
        active = self._active
        if active.stop_reason == "timed_out":
            limit = active.workflow.timeout
            self.failed(
                RunTimeoutError(
                    f"the run took longer than its timeout of {limit}", run_id=active.run_id
                )
            )
        elif active.stop_reason == "cancelled":
            self._report("cancelled", None)
        elif active.stop_reason == "released":
            self._report("released", None)
        elif active.stop_reason == "parked":
            self._report("parked", None, wakes_at=active.waits.wakes_at)
        active.is_reported = True

    def interrupted_too_often(self) -> None:
        """Report that the run's workers died so often that it is not executed again."""
        active = self._active
        self.failed(
            InterruptedTooOftenError(
                f"the worker died {active.interruptions} times in a row while it executed the run, "
                f"and no step was recorded meanwhile: killed, out of memory, or crashed (the "
                f"system's log may say which). The run was not executed again, so that it kills "
                f"no more workers (max_interruptions={active.workflow.max_interruptions}); find "
                f"the cause, and then retry it: polos runs retry {active.run_id}",
                run_id=active.run_id,
                interruptions=active.interruptions,
            ),
            final=True,
        )

    def code_changed(self, error: CodeChangedError) -> None:
        """Report that the run's code has changed: it fails, or is held for a worker with other
        code.
        """
        active = self._active
        if active.workflow.on_code_change == "fail" and not error.patches:
            # A retry with the same code would fail in the same way.
            self.failed(error, final=True)
            return
        note = f"held for a worker with other code: {error.reason}"
        self._report("held", note)
        _log.warning(
            "run %s of workflow `%s` is %s. It continues when a worker with other code registers. "
            "`polos doctor` lists such runs, and `polos runs cancel` cancels one",
            active.run_id,
            active.workflow.id,
            note,
        )

    def failed(self, error: BaseException, *, final: bool = False) -> None:
        """Report a failure. It is retried by the workflow's policy, unless it is ``final``."""
        active = self._active
        if active.is_reported:
            return
        active.failure = error
        workflow = active.workflow
        is_last = final or active.attempt > workflow.retries
        reason = None if is_last else why_not_retried(error, workflow.retry_on)
        # Must come first, before anything else that can fail.
        details = error_record(error)
        if reason is not None:
            is_last = True
            details["not_retried"] = reason
        tell: _Tell | None = None
        if is_last and active.executor.hooks.has("on_failure", workflow):
            tell = ("on_failure", partial(self._failure, error))
        self._report("failed", json.dumps(details), final=is_last, tell=tell)
        was_cancelled = issubclass(type(error), asyncio.CancelledError)
        say = _log.error if is_last else _log.warning
        say(
            "run %s of workflow `%s` failed in attempt %d%s%s",
            active.run_id,
            workflow.id,
            active.attempt,
            _what_follows(workflow.retries + 1, is_last, reason),
            ": its handler was cancelled, or awaited something that was, and nobody had asked "
            "polos to cancel the run"
            if was_cancelled
            else "",
            exc_info=loggable(error),
        )

    def _success(self, value: Any) -> RunSuccess:
        from polos.hooks import RunSuccess

        return RunSuccess(**self._facts(), result=value)

    def _failure(self, error: BaseException) -> RunFailure:
        from polos.hooks import RunFailure

        return RunFailure(**self._facts(), error=error)

    def _facts(self) -> dict[str, Any]:
        """Return what a hook gets to know about a run, whatever its outcome."""
        active = self._active
        return {
            "workflow_id": active.workflow.id,
            "run_id": active.run_id,
            "schedule_id": active.schedule_id,
            "key": active.key,
            "timestamp": active.slots.local(),
            "attempt": active.attempt,
        }

    def _report(
        self,
        kind: str,
        data: str | None,
        *,
        wakes_at: int | None = None,
        final: bool = False,
        tell: _Tell | None = None,
    ) -> None:
        """Report an outcome. ``tell`` is what the hooks are told of it once it is recorded."""
        active = self._active
        if active.is_reported:
            return
        if active.progress is not None:
            active.progress.flush()
        active.is_reported = True
        active.outcome = kind
        core = active.executor.core
        bridge = None
        if tell is not None:
            claim, of_hook = (active.run_id, active.token), active.origin == "hook"
            active.executor.hooks.expect(claim, tell[0], active.workflow, tell[1], of_hook)
            bridge = active.executor.bridge.core
        core.complete_run(active.claimed, kind, data, wakes_at, final, active.entered_at, bridge)


def _what_follows(attempts: int, is_last: bool, reason: str | None) -> str:
    """Return what the log says about retries."""
    if reason is not None:
        return f" of {attempts}; it is not retried: {reason}"
    return "" if is_last else f" of {attempts}; it will be retried"
