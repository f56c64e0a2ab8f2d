"""Read the tables of django-celery-beat, without Django and Celery."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from typing import Any

from polos.cli.importers.celery_schedules import (
    ALL,
    SOLAR,
    Unsupported,
    cron_options,
    every_options,
    policies,
    task_of,
)
from polos.cli.importers.cron_fields import MONTHS, expand
from polos.cli.importers.model import Entry, Imported, Names, Refusal, check
from polos.cli.importers.stored import Stored
from polos.exceptions import PolosError

__all__ = ["read_django_celery_beat"]

_PREFIX = "django_celery_beat_"
_TOOL = "django-celery-beat"
_WEEKDAYS = {n: i for i, n in enumerate(["sun", "mon", "tue", "wed", "thu", "fri", "sat"])}
_RANGES: dict[str, tuple[int, int, dict[str, int]]] = {
    "minute": (0, 59, {}),
    "hour": (0, 23, {}),
    "day_of_month": (1, 31, {}),
    "month_of_year": (1, 12, MONTHS),
    "day_of_week": (0, 6, _WEEKDAYS),
}
_KINDS = ("crontab", "interval", "solar", "clocked")


def read_django_celery_beat(stored: Stored) -> Imported:
    """Convert the periodic tasks."""
    stored.need(f"{_PREFIX}periodictask", _TOOL)
    found = Imported("django-celery-beat", stored.name.strip("`"), differences=list(ALL))
    found.differences.append(
        "application: `celery_app` is the Celery application that was created last; import yours "
        "above it, or replace it"
    )
    schedules = {kind: _by_id(stored, kind) for kind in _KINDS}
    names = Names()
    for row in sorted(stored.rows(f"{_PREFIX}periodictask"), key=lambda row: str(row["name"])):
        found.entries.append(_entry(row, schedules, names))
    return found


def _by_id(stored: Stored, kind: str) -> dict[Any, dict[str, Any]]:
    table = f"{_PREFIX}{kind}schedule"
    return {row["id"]: row for row in stored.rows(table)} if table in stored.tables else {}


def _entry(
    row: dict[str, Any], schedules: dict[str, dict[Any, dict[str, Any]]], names: Names
) -> Entry | Refusal:
    name, source = str(row["name"]), str(row["task"])
    try:
        kind, schedule = _schedule(row, schedules)
        source = f"{row['task']} {_described(kind, schedule)}"
        options, differences = _trigger(kind, schedule)
        options |= policies()
        differences += _bounds(row, options)
        task = task_of(
            str(row["task"]), _json(row, "args", []), _json(row, "kwargs", {}), _sending(row)
        )
        check({**options, "key": name})
    except Unsupported as error:
        return Refusal(name, source, str(error), error.remedy)
    except (PolosError, ValueError, TypeError, KeyError, OverflowError) as error:
        return Refusal(name, source, str(error), "correct the row, or add the schedule by hand")
    is_paused = not row["enabled"]
    if is_paused:
        differences.append("it is disabled: the schedule is created, then paused")
    return Entry(name, source, task, names.unique(name), options, differences, is_paused)


def _schedule(
    row: dict[str, Any], schedules: dict[str, dict[Any, dict[str, Any]]]
) -> tuple[str, dict[str, Any]]:
    for kind in _KINDS:
        id = row.get(f"{kind}_id")
        if id is not None:
            if id not in schedules[kind]:
                break
            return kind, schedules[kind][id]
    raise Unsupported("it has no schedule", "give it one in Django's admin, or delete it")


def _described(kind: str, schedule: dict[str, Any]) -> str:
    if kind == "crontab":
        fields = ("minute", "hour", "day_of_month", "month_of_year", "day_of_week", "timezone")
        return " ".join(str(schedule[field]) for field in fields)
    if kind == "interval":
        return f"every {schedule['every']} {schedule['period']}"
    return f"at {schedule['clocked_time']}" if kind == "clocked" else str(schedule["event"])


def _trigger(kind: str, schedule: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    if kind == "crontab":
        texts = {field: str(schedule[field]).replace(" ", "") for field in _RANGES}
        numbers = {f: expand(texts[f], *_RANGES[f], wraps=True) for f in _RANGES}
        starred = {field for field, text in texts.items() if text.startswith("*")}
        return cron_options(numbers, starred, str(schedule["timezone"] or "UTC"))
    if kind == "interval":
        return every_options(timedelta(**{str(schedule["period"]): int(schedule["every"])}))
    if kind == "clocked":
        return {"at": _instant(schedule["clocked_time"])}, []
    raise Unsupported(*SOLAR)


def _bounds(row: dict[str, Any], options: dict[str, Any]) -> list[str]:
    """Add what bounds the schedule; return what differs."""
    differences = []
    if row.get("start_time"):
        options["start_at"] = _instant(row["start_time"])
        if "every" in options:
            differences.append("start_time: the interval is counted from it")
    if row.get("expires"):
        options["end_at"] = _instant(row["expires"])
    if row.get("one_off") and "at" not in options:
        options["max_runs"] = 1
        if row.get("total_run_count"):
            differences.append("one_off: it has run; django-celery-beat would disable it")
    return differences


def _sending(row: dict[str, Any]) -> dict[str, Any]:
    """Return what beat passes to `send_task`."""
    options = {
        name: row[name]
        for name in ("queue", "exchange", "routing_key", "priority")
        if row.get(name) is not None
    }
    if row.get("expire_seconds") is not None:
        options["expires"] = row["expire_seconds"]
    headers = _json(row, "headers", {})
    return {**options, "headers": headers} if headers else options


def _json(row: dict[str, Any], column: str, default: Any) -> Any:
    try:
        value = json.loads(row.get(column) or "null")
    except ValueError:
        raise Unsupported(
            f"its `{column}` is not JSON, so beat disables it", "correct it in Django's admin"
        ) from None
    if value is not None and not isinstance(value, type(default)):
        raise Unsupported(f"its `{column}` is not what Celery takes", "correct it in the admin")
    return default if value is None else value


def _instant(value: Any) -> datetime:
    """Return an instant. SQLite has text, in UTC."""
    moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    return moment.replace(tzinfo=timezone.utc) if moment.tzinfo is None else moment
