"""The output of `--json`. The names are an interface: they are only ever added to.

Times are ISO 8601 with an offset, in the schedule's zone; durations are seconds; absent values are
null.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pydantic_core import to_jsonable_python

from polos._display.values import as_json_types
from polos.cli.ui.times import iso, seconds

if TYPE_CHECKING:
    from polos.models import (
        BackfillInfo,
        Calendar,
        ErrorInfo,
        LedgerEntry,
        LimitInfo,
        Overview,
        Progress,
        Run,
        Schedule,
        StepInfo,
        WorkerInfo,
    )

__all__ = [
    "calendar_json",
    "entry_json",
    "limit_json",
    "overview_json",
    "run_json",
    "schedule_json",
    "value_json",
    "worker_json",
]


def schedule_json(schedule: Schedule) -> dict[str, Any]:
    """Return a schedule."""
    return {
        "id": schedule.id,
        "workflow": schedule.workflow,
        "key": schedule.key,
        "status": schedule.status,
        "note": schedule.note,
        "cron": list(schedule.cron) if isinstance(schedule.cron, tuple) else schedule.cron,
        "every": seconds(schedule.every),
        "at": iso(schedule.at),
        "timezone": schedule.timezone,
        "upcoming": iso(schedule.upcoming),
        "last_timestamp": iso(schedule.last_timestamp),
        "overlap": schedule.overlap,
        "catch_up": schedule.catch_up,
        "max_catch_up": schedule.max_catch_up,
        "catch_up_window": seconds(schedule.catch_up_window),
        "jitter": seconds(schedule.jitter),
        "start_at": iso(schedule.start_at),
        "end_at": iso(schedule.end_at),
        "max_runs": schedule.max_runs,
        "pause_after_failures": schedule.pause_after_failures,
        "priority": schedule.priority,
        "skip": [day.isoformat() for day in schedule.skip or ()],
        "input": value_json(schedule.input),
        "owner": schedule.owner,
        "overridden": schedule.overridden,
        "worker_available": schedule.worker_available,
        "created_at": iso(schedule.created_at),
        "updated_at": iso(schedule.updated_at),
        "days": schedule.days,
        "weeks": schedule.weeks,
        "skipped": [iso(slot) for slot in schedule.skipped],
        "tags": dict(schedule.tags),
        "skip_cron": [*schedule.skip_cron],
        "calendars": [*schedule.calendars],
        "counts": {
            "ran": schedule.counts.ran,
            "skipped": schedule.counts.skipped,
            "missed": schedule.counts.missed,
        },
        "on_skip": schedule.on_skip,
    }


def backfill_json(backfill: BackfillInfo) -> dict[str, Any]:
    """Return a backfill and how far it is."""
    return {**asdict(backfill), "done": backfill.done, "total": backfill.total}


def calendar_json(calendar: Calendar) -> dict[str, Any]:
    """Return a calendar with its dates."""
    return {
        "name": calendar.name,
        "dates": [day.isoformat() for day in calendar.dates],
        "updated_at": iso(calendar.updated_at),
    }


def limit_json(limit: LimitInfo) -> dict[str, Any]:
    """Return a limit and its use."""
    return {
        "name": limit.name,
        "max": limit.max,
        "per_key": limit.per_key,
        "rate": limit.rate,
        "per": seconds(limit.per),
        "declared": {**limit.declared, "per": seconds(limit.declared["per"])},
        "overridden": limit.overridden,
        "declared_by": list(limit.declared_by),
        "set_values": {
            name: seconds(value) if name == "per" else value
            for name, value in limit.set_values.items()
        },
        "declared_differently": list(limit.declared_differently),
        "workflows": list(limit.workflows),
        "running": limit.running,
        "starts_left": limit.starts_left,
        "next_start_at": iso(limit.next_start_at),
        "queued": limit.queued,
        "queued_since": iso(limit.queued_since),
        "updated_at": iso(limit.updated_at),
    }


def run_json(run: Run, *, is_whole: bool = False) -> dict[str, Any]:
    """Return a run; its steps and payload only if they were read."""
    shape = {
        "id": run.id,
        "workflow": run.workflow,
        "key": run.key,
        "schedule_id": run.schedule_id,
        "timestamp": iso(run.timestamp),
        "status": run.status,
        "attempt": run.attempt,
        "priority": run.priority,
        "interruptions": run.interruptions,
        "note": run.note,
        "progress": _progress_json(run.progress),
        "origin": run.origin,
        "worker": run.worker,
        "created_at": iso(run.created_at),
        "due_at": iso(run.due_at),
        "started_at": iso(run.started_at),
        "finished_at": iso(run.finished_at),
        "result": value_json(run.result),
        "error": _error_json(run.error),
    }
    if is_whole:
        shape["payload"] = value_json(run.payload)
        shape["input"] = value_json(run.input)
        shape["parent"] = run.parent
        shape["last_timestamp"] = iso(run.last_timestamp)
        shape["upcoming"] = iso(run.upcoming)
        shape["steps"] = [_step_json(step) for step in run.steps]
    return shape


def _progress_json(progress: Progress | None) -> dict[str, Any] | None:
    if progress is None:
        return None
    return {
        "fraction": progress.fraction,
        "message": progress.message,
        "timestamp": iso(progress.timestamp),
    }


def _step_json(step: StepInfo) -> dict[str, Any]:
    return {
        "name": step.name,
        "status": step.status,
        "attempt": step.attempt,
        "started_at": iso(step.started_at),
        "finished_at": iso(step.finished_at),
        "wakes_at": iso(step.wakes_at),
        "awaits_event": step.awaits_event,
        "timed_out": step.timed_out,
        "result": value_json(step.result),
        "error": _error_json(step.error),
    }


def _error_json(error: ErrorInfo | None) -> dict[str, Any] | None:
    if error is None:
        return None
    return {
        "type": error.type,
        "message": error.message,
        "traceback": error.traceback,
        "cause": _error_json(error.cause),
        "not_retried": error.not_retried,
    }


def entry_json(entry: LedgerEntry) -> dict[str, Any]:
    """Return the outcome of one slot or of several."""
    return {
        "timestamp": iso(entry.timestamp),
        "until": iso(entry.until),
        "count": entry.count,
        "status": entry.status,
        "reason": entry.reason,
        "run_id": entry.run_id,
        "late_by": seconds(entry.late_by),
        "worker": entry.worker,
    }


def value_json(value: Any) -> Any:
    """Return a stored value as plain JSON: a datetime as ISO text, a set as a list, an object by
    its fields, secrets masked.
    """
    return to_jsonable_python(as_json_types(value), inf_nan_mode="strings", fallback=str)


def worker_json(worker: WorkerInfo) -> dict[str, Any]:
    """Return a registered worker."""
    return {
        "id": worker.id,
        "app": worker.app,
        "host": worker.host,
        "pid": worker.pid,
        "workflows": list(worker.workflows),
        "held": worker.held,
        "started_at": iso(worker.started_at),
        "seen_at": iso(worker.seen_at),
        "is_gone": worker.is_gone,
        "about": value_json(worker.about),
    }


def overview_json(overview: Overview) -> dict[str, Any]:
    """Return counts; one that equals `counted_to` means "at least"."""
    return {
        "now": iso(overview.now),
        "schedules": dict(overview.schedules),
        "runs": dict(overview.runs),
        "overdue": overview.overdue,
        "oldest_due": iso(overview.oldest_due),
        "counted_to": overview.counted_to,
        "hook_calls": dict(overview.hook_calls),
        "oldest_hook_call": iso(overview.oldest_hook_call),
    }
