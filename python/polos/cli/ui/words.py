"""Describe schedules and runs in words, the same in every command."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from polos._display.cron import cron_text
from polos._display.values import has_objects, readable
from polos.cli.ui.console import styled
from polos.cli.ui.json import value_json
from polos.cli.ui.table import Cell, cut
from polos.cli.ui.times import spoken, took, when
from polos.models import ErrorInfo, Run, Schedule, WorkerInfo

__all__ = [
    "cadence",
    "called",
    "counted",
    "duration_of",
    "error_text",
    "host_of",
    "note_of",
    "status_cell",
    "statuses_text",
    "value_text",
]

_STYLES = {
    "active": "green",
    "paused": "yellow",
    "broken": "red",
    "retired": "dim",
    "finished": "dim",
    "queued": "cyan",
    "running": "blue",
    "waiting": "cyan",
    "succeeded": "green",
    "failed": "red",
    "cancelled": "yellow",
    "ran": "green",
    "skipped": "yellow",
    "missed": "red",
}


def status_cell(status: str) -> Cell:
    """Return a status in its color."""
    return Cell(status, _STYLES.get(status))


def called(workflow: str, key: str | None) -> str:
    """Return the name that commands accept: `workflow`, or `workflow/key`."""
    return workflow if key in (None, "global") else f"{workflow}/{key}"


def cadence(schedule: Schedule) -> str:
    """Return the trigger of a schedule."""
    if schedule.cron is not None:
        return cron_text(schedule.cron)
    if schedule.every is not None:
        return f"every {spoken(schedule.every)}"
    return f"at {when(schedule.at)}"


def note_of(schedule: Schedule) -> str:
    """Return a remark about a schedule, or an empty text."""
    if schedule.note:
        return schedule.note
    if schedule.status == "active" and not schedule.worker_available:
        return "no live worker"
    return ""


def duration_of(run: Run) -> str:
    """Return the time from the first start to the end."""
    if run.started_at is None or run.finished_at is None:
        return ""
    return took(run.finished_at - run.started_at)


def value_text(value: Any, longest: int = 500) -> str:
    """Return a stored value on one line."""
    if value is None:
        return ""
    if has_objects(value):
        return cut(readable(value, longest), longest)
    return cut(json.dumps(value_json(value), ensure_ascii=False), longest)


def error_text(error: ErrorInfo | None) -> str:
    """Return the error of a run or step in one line."""
    return "" if error is None else str(error).removeprefix("polos.exceptions.")


def host_of(worker: WorkerInfo) -> str:
    """Return the machine's name."""
    return str(worker.about.get("host") or worker.host or "an unknown host")


def counted(count: int, noun: str) -> str:
    """Return `1 run`, `1,000 runs`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def statuses_text(counts: Mapping[str, str]) -> str:
    """Return counts by status, each in its color."""
    return "  ".join(
        f"{count} {styled(status, _STYLES.get(status))}" for status, count in counts.items()
    )
