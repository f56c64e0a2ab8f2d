"""Convert Celery's schedules to options of polos: those of an application, and stored ones."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

from polos.cli.importers.cron_fields import render, render_days
from polos.cli.importers.model import LONGEST_WINDOW, Task
from polos.cli.importers.printer import literal

__all__ = ["ALL", "SOLAR", "Unsupported", "cron_options", "every_options", "policies", "task_of"]

ALL = [
    "tasks: each workflow sends its task to Celery's workers, as beat does, and ends then; the "
    "task's retries and results stay Celery's. To leave Celery, put the task's body into the "
    "workflow, and pass `retries` to the decorator",
    "weekdays: Celery and polos both count Sunday as 0",
    "misfires: beat sends a late task once when it starts, however late; so does "
    '`catch_up="latest"`',
    'overlap: beat sends a task whether or not the one before has ended; so does `overlap="allow"`',
    "beat must run once; workers of polos may be many, and a slot is sent by one of them",
]

SOLAR = (
    "polos has no trigger for the sun",
    "start a workflow each night that computes the time, and calls `invoke(at=...)`",
)


class Unsupported(ValueError):
    """polos has no such schedule; ``remedy`` says what to do."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(reason)
        self.remedy = remedy


def policies(deadline: float | None = None) -> dict[str, Any]:
    """Return the options for overlap and catch-up; ``deadline`` in seconds."""
    window = LONGEST_WINDOW if deadline is None else timedelta(seconds=deadline)
    return {"overlap": "allow", "catch_up": "latest", "catch_up_window": window}


def cron_options(
    fields: Mapping[str, Collection[int]], starred: Collection[str], zone: str
) -> tuple[dict[str, Any], list[str]]:
    """Return the options of a crontab, and what differs. ``starred``: fields that begin with `*`.

    Celery wants day of the month and day of the week to match both.
    """
    days = render_days(fields["day_of_month"], fields["day_of_week"])
    minute = render(fields["minute"], 0, 59, starred="minute" in starred)
    hour = render(fields["hour"], 0, 23, starred="hour" in starred)
    month = render(fields["month_of_year"], 1, 12, starred="month_of_year" in starred)
    differences = []
    if len(fields["day_of_week"]) < 7 and len(fields["day_of_month"]) < 31:
        differences.append("days: Celery wants both to match; so does this schedule")
    if _has_clock_changes(zone):
        if minute.startswith("*") or hour.startswith("*"):
            differences.append(
                "clock changes: it fires in both passes of a repeated hour; Celery leaves out the "
                "second one"
            )
        else:
            differences.append(
                "clock changes: a skipped time fires at the end of the gap (Celery: as long after "
                "it as the time is in it)"
            )
    cron = f"{minute} {hour} {days.day} {month} {days.weekday}"
    return {"cron": cron, "timezone": zone, **days.options}, differences


def every_options(period: timedelta) -> tuple[dict[str, Any], list[str]]:
    """Return the options of an interval, and what differs."""
    if period < timedelta(seconds=1):
        raise Unsupported(
            f"its period of {period.total_seconds():g} s is shorter than a second",
            "loop in a task; a schedule is for a second or more",
        )
    return {"every": period}, [
        "interval: beat counts from the last time it sent the task, polos from a fixed instant, so "
        "a restart moves no time"
    ]


def task_of(name: str, args: Any, kwargs: Any, options: dict[str, Any]) -> Task:
    """Return a task. Raises :class:`Unsupported` for arguments that can't be written."""
    task = Task(name, tuple(args or ()), dict(kwargs or {}), options)
    for value in (task.args, task.kwargs, task.options):
        try:
            literal(value)
        except TypeError as error:
            raise Unsupported(
                f"an argument or option is {error}, which can't be written as Python",
                "pass an id or other plain data, and look the object up in the task",
            ) from None
    return task


def _has_clock_changes(name: str) -> bool:
    zone, year = ZoneInfo(name), datetime.now(timezone.utc).year
    return len({datetime(year, month, 1, tzinfo=zone).utcoffset() for month in range(1, 13)}) > 1
