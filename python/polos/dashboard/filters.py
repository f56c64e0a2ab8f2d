"""Format durations, instants, and states for people. Independent of HTML and databases."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from polos._core.real_datetime import datetime

__all__ = [
    "ORIGINS",
    "clock",
    "count",
    "day_and_time",
    "duration",
    "english",
    "exact",
    "last_name",
    "period",
    "stamp",
]

ORIGINS: Mapping[str, str] = {
    "schedule": "Started by its schedule",
    "create": "Started when its schedule was created",
    "trigger": "Triggered manually",
    "backfill": "Created by a backfill",
    "invoke": "Invoked by application code",
    "child": "Invoked by a step of another run",
    "hook": "Started by a hook of another run or of a slot",
}

_UNITS = (("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1))


def duration(span: timedelta | None) -> str:
    """Format a duration briefly: ``340 ms``, ``1.2 s``, ``2 min 5 s``, ``3 d 4 h``."""
    if span is None:
        return "–"
    seconds = span.total_seconds()
    if seconds < 0:
        return "-" + duration(-span)
    if seconds == 0:
        return "0 ms"
    if seconds < 0.001:
        return "<1 ms"
    if seconds < 0.9995:
        return f"{seconds * 1_000:.0f} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3_600:
        return _pair(whole, 60, "min", "s")
    if whole < 86_400:
        return _pair(whole // 60, 60, "h", "min")
    return _pair(whole // 3_600, 24, "d", "h")


def _pair(value: int, base: int, unit: str, below: str) -> str:
    high, low = divmod(value, base)
    return f"{high} {unit} {low} {below}" if low else f"{high} {unit}"


def period(span: timedelta) -> str:
    """Format a configured duration in full: ``1 hour 30 minutes``, ``30 seconds``."""
    seconds = span.total_seconds()
    if seconds < 1 or seconds != int(seconds):
        return f"{seconds:g} seconds"
    parts, left = [], int(seconds)
    for name, size in _UNITS:
        number, left = divmod(left, size)
        if number:
            parts.append(f"{number} {name}{'' if number == 1 else 's'}")
    return " ".join(parts)


def english(every: timedelta | None, at: datetime | None, start_at: datetime | None) -> str:
    """Describe a schedule without a cron expression."""
    if at is not None:
        return f"Once, {day_and_time(at)}"
    if every is None:
        return "Its trigger cannot be read"
    text = period(every)
    text = text.removeprefix("1 ") if text.count(" ") == 1 and text.startswith("1 ") else text
    since = f", counted from {day_and_time(start_at)}" if start_at is not None else ""
    return f"Every {text}{since}"


def clock(instant: datetime) -> str:
    """Format ``14:05`` with its zone."""
    return f"{instant:%H:%M} {zone_of(instant)}"


def day_and_time(instant: datetime, now: datetime | None = None) -> str:
    """Format ``Mon 2 Mar, 14:05 CET``; with seconds, and another year, if needed."""
    seconds = f"{instant:%H:%M:%S}" if instant.second or instant.microsecond else f"{instant:%H:%M}"
    year = "" if now is not None and now.year == instant.year else f" {instant.year}"
    return f"{instant:%a} {instant.day} {instant:%b}{year}, {seconds} {zone_of(instant)}"


def stamp(instant: datetime) -> str:
    """Format an instant in a list: ``2 Mar 14:05:09 UTC``."""
    return f"{instant.day} {instant:%b %H:%M:%S} {zone_of(instant)}"


def exact(instant: datetime) -> str:
    """Format an instant in full, for programs."""
    return instant.isoformat()


def zone_of(instant: datetime) -> str:
    """Return ``CET``, or the offset if the zone has no name."""
    name = instant.tzname() or ""
    if name and name[0] not in "+-" and not name.startswith("UTC+"):
        return name
    offset = f"{instant:%z}"
    return f"UTC{offset[:3]}:{offset[3:5]}" if offset else ""


def last_name(dotted: str) -> str:
    """Return the last part of ``package.module.Name``, for places with little room."""
    return dotted.rpartition(".")[2] or dotted


def count(counts: Mapping[str, Any], name: str, limit: int) -> str:
    """Format a count; one that was stopped at ``limit`` gets a ``+``."""
    number = int(counts.get(name, 0))
    return f"{number:,}+" if number >= limit else f"{number:,}"
