"""Report scheduled runs to Sentry's monitors of scheduled jobs. Needs the package `sentry-sdk`.

``sentry_sdk.init(...)``, and then ``Worker(client, middleware=[polos.sentry.Checkins()])``.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from polos import schedules
from polos._runtime.start_reports import StartReports
from polos.exceptions import MissingExtraError

if TYPE_CHECKING:
    from polos.context import WorkflowContext
    from polos.hooks import RunFailure, RunSuccess
    from polos.models import Schedule
    from polos.workflow import Workflow

__all__ = ["Checkins"]

# Sentry knows five plain fields: https://docs.sentry.io/product/crons/
_PLAIN_CRON = re.compile(r"[\d*/,\-a-zA-Z]+( [\d*/,\-a-zA-Z]+){4}")
_NAMES = re.compile(
    "mon|tue|wed|thu|fri|sat|sun|jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec", re.IGNORECASE
)
_UNITS = (("day", 86_400), ("hour", 3_600), ("minute", 60))
_SLUG_MAX = 50
# Names the check-in of a run, so that any worker that ends the run can end its check-in.
_NAMESPACE = uuid.UUID("5d8f3a52-93f7-4f3e-9a52-1f6c8e0b7d11")


class Checkins:
    """Middleware that sends check-ins: ``in_progress`` when a scheduled run starts, then ``ok`` or
    ``error``.

    The monitor of a schedule is named after its workflow, and after its key unless that is
    ``"global"``. It is created with the schedule's cron expression and time zone, or its period of
    whole minutes. What Sentry cannot express (``L``, ``W``, ``#``, several expressions, ``weeks``,
    ``days="and"``, and one-off schedules) is reported to a monitor that you create. Runs without a
    slot send nothing, and a run that will be retried has not failed.

    :param workflows: of which workflows to report the runs; of all by default.
    :param checkin_margin: how many minutes late a run may start before Sentry alerts; Sentry's own
        default if ``None``.
    :param max_runtime: how many minutes a run may take before Sentry alerts; likewise.

    Raises :class:`MissingExtraError` if `sentry-sdk` is not installed.
    """

    def __init__(
        self,
        *,
        workflows: Iterable[str | Workflow[Any, Any]] | None = None,
        checkin_margin: int | None = None,
        max_runtime: int | None = None,
    ) -> None:
        try:
            from sentry_sdk.crons import capture_checkin
        except ImportError:
            raise MissingExtraError(
                "polos.sentry needs the package `sentry-sdk`: pip install sentry-sdk"
            ) from None
        self._capture = capture_checkin
        self._starts = StartReports(workflows)
        limits = {"checkin_margin": checkin_margin, "max_runtime": max_runtime}
        self._limits = {name: value for name, value in limits.items() if value is not None}

    async def __call__(self, call_next: Callable[[], Any], ctx: WorkflowContext) -> Any:
        """Report the start of a scheduled run, and enter its handler at once."""
        if ctx.slot is not None and self._starts.includes(ctx.workflow_id):
            self._starts.begin(ctx, self._begin, ctx, "the check-in of a start")
        return await call_next()

    async def on_success(self, event: RunSuccess) -> None:
        """Report that a scheduled run has succeeded."""
        await self._end(event, "ok")

    async def on_failure(self, event: RunFailure) -> None:
        """Report that a scheduled run has failed and is not retried."""
        await self._end(event, "error")

    async def _begin(self, ctx: WorkflowContext) -> None:
        assert ctx.schedule_id is not None
        schedule = await schedules.get(ctx._active.executor.client, ctx.schedule_id)
        config = monitor_config(schedule)
        if config is not None:
            config |= self._limits
        self._capture(
            monitor_slug=monitor_slug(ctx.workflow_id, ctx.key),
            check_in_id=_checkin_id(ctx.run_id),
            status="in_progress",
            monitor_config=config,
        )

    async def _end(self, event: RunSuccess | RunFailure, status: str) -> None:
        if event.timestamp is None or not self._starts.includes(event.workflow_id):
            return
        await self._starts.wait(event.run_id)
        self._capture(
            monitor_slug=monitor_slug(event.workflow_id, event.key),
            check_in_id=_checkin_id(event.run_id),
            status=status,
        )


def monitor_slug(workflow_id: str, key: str) -> str:
    """Return the name of a schedule's monitor, of the letters that Sentry allows."""
    name = workflow_id if key == "global" else f"{workflow_id}-{key}"
    return re.sub(r"[^a-z0-9_-]+", "-", name.lower()).strip("-")[:_SLUG_MAX]


def monitor_config(schedule: Schedule) -> Any:
    """Return how Sentry describes a schedule; ``None`` if it cannot."""
    if (cron := _crontab(schedule)) is not None:
        return {"schedule": {"type": "crontab", "value": cron}, "timezone": schedule.timezone}
    every = schedule.every
    if every is None or every % timedelta(minutes=1):
        return None
    seconds = round(every.total_seconds())
    unit, length = next((unit, length) for unit, length in _UNITS if seconds % length == 0)
    return {"schedule": {"type": "interval", "value": seconds // length, "unit": unit}}


def _crontab(schedule: Schedule) -> str | None:
    """Return the cron expression of a schedule by which Sentry means the same."""
    cron = schedule.cron
    if not isinstance(cron, str) or schedule.weeks is not None or schedule.days == "and":
        return None
    is_plain = _PLAIN_CRON.fullmatch(cron) and not re.search("[a-zA-Z]", _NAMES.sub("", cron))
    return cron if is_plain else None


def _checkin_id(run_id: str) -> str:
    return uuid.uuid5(_NAMESPACE, run_id).hex
