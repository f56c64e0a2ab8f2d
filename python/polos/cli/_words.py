"""How schedules and runs are put into words: the same in every command."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from polos._display import has_objects, readable
from polos.cli._moments import spoken, took, when
from polos.cli._say import styled
from polos.cli._shapes import value_json
from polos.cli._table import Cell, cut
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
    """A status in its colour."""
    return Cell(status, _STYLES.get(status))


def called(workflow: str, key: str | None) -> str:
    """What commands take for it: `workflow`, or `workflow/key`."""
    return workflow if key in (None, "global") else f"{workflow}/{key}"


def cadence(schedule: Schedule) -> str:
    """What makes it due."""
    if schedule.cron is not None:
        return schedule.cron
    if schedule.every is not None:
        return f"every {spoken(schedule.every)}"
    return f"at {when(schedule.at)}"


def note_of(schedule: Schedule) -> str:
    """What a person should know of it."""
    if schedule.note:
        return schedule.note
    if schedule.status == "active" and not schedule.worker_available:
        return "no live worker"
    return ""


def duration_of(run: Run) -> str:
    """From its first start to its end."""
    if run.started_at is None or run.finished_at is None:
        return ""
    return took(run.finished_at - run.started_at)


def value_text(value: Any, longest: int = 500) -> str:
    """A stored value on one line."""
    if value is None:
        return ""
    if has_objects(value):
        return cut(readable(value, longest), longest)
    return cut(json.dumps(value_json(value), ensure_ascii=False), longest)


def error_text(error: ErrorInfo | None) -> str:
    """What a run or step failed with."""
    return "" if error is None else str(error).removeprefix("polos.exceptions.")


def host_of(worker: WorkerInfo) -> str:
    """The machine's name, as its people know it."""
    return str(worker.about.get("host") or worker.host or "an unknown host")


def counted(count: int, noun: str) -> str:
    """`1 run`, `1,000 runs`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def statuses_text(counts: Mapping[str, str]) -> str:
    """Counts by status, each in its colour."""
    return "  ".join(
        f"{count} {styled(status, _STYLES.get(status))}" for status, count in counts.items()
    )
