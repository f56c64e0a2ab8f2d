"""Parse times and durations that people type, and format them.

Formatted times can be typed again: `2026-11-23 09:00+01:00`.
"""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta, timezone, tzinfo
from typing import Any

from polos._validate.formatting import shown
from polos.exceptions import InvalidArgumentError

__all__ = ["duration", "instant", "iso", "now", "seconds", "spoken", "took", "until", "when"]

_UNITS = {
    "w": timedelta(weeks=1),
    "d": timedelta(days=1),
    "h": timedelta(hours=1),
    "min": timedelta(minutes=1),
    "m": timedelta(minutes=1),
    "s": timedelta(seconds=1),
    "ms": timedelta(milliseconds=1),
}
_PART = re.compile(r"\s*(\d{1,12}(?:\.\d{1,6})?)\s*(w|d|h|min|m|s|ms)(?![a-z])")


def now() -> datetime:
    """Return the machine's time, in UTC."""
    return datetime.now(timezone.utc)


# --- input -----------------------------------------------------------------------------------


def duration(name: str, text: str) -> timedelta:
    """Parse `90s`, `15m`, `1h30m`, `2d`, `1w`, `0`; ``name`` is for the error."""
    found = _duration(text)
    if found is None:
        raise InvalidArgumentError(
            f"{name}: {shown(text)} isn't a duration; expected one such as `90s`, `15m`, `1h30m`, "
            f"`2d` or `1w`, with its unit"
        )
    return found


def _duration(text: str) -> timedelta | None:
    total, position = timedelta(0), 0
    text = text.strip().lower()
    if text == "0":
        return total
    while position < len(text):
        part = _PART.match(text, position)
        if part is None:
            return None
        try:
            total += float(part[1]) * _UNITS[part[2]]
        except OverflowError:
            return None
        position = part.end()
    return total if position else None


def instant(name: str, text: str, zone: tzinfo, *, base: datetime | None = None) -> datetime:
    """Parse `now`, `2h ago`, `in 30m`, `2026-11-23`, `2026-11-23 09:00`, with or without an offset.

    A time without an offset is in ``zone``. ``name`` is for the error, ``base`` is now.
    """
    base = now() if base is None else base
    words = text.strip()
    if words.lower() == "now":
        return base
    relative = _relative(words.lower())
    try:
        if relative is not None:
            return base + relative
        read = _read(words)
        moment = read if read.tzinfo is not None else read.replace(tzinfo=zone)
        moment.astimezone(timezone.utc)  # raises near the first and last supported days
        return moment
    except (ValueError, OverflowError):
        raise InvalidArgumentError(
            f"{name}: {shown(text)} isn't a time; expected one such as `2026-11-23`, "
            f"`2026-11-23 09:00`, `2026-11-23T09:00+01:00`, `now`, `2h ago` or `in 30m`"
        ) from None


def _relative(words: str) -> timedelta | None:
    if words.endswith(" ago") and (past := _duration(words.removesuffix("ago"))) is not None:
        return -past
    if words.startswith("in "):
        return _duration(words.removeprefix("in "))
    return None


def _read(words: str) -> datetime:
    # Python 3.10 does not parse `Z`.
    if words[-1:] in ("Z", "z"):
        words = words[:-1] + "+00:00"
    if len(words) == 10:
        day = date.fromisoformat(words)
        return datetime(day.year, day.month, day.day)
    return datetime.fromisoformat(words)


# --- output ----------------------------------------------------------------------------------


def when(moment: datetime | None) -> str:
    """Format a time in its own zone, with the offset, to the second."""
    if moment is None:
        return ""
    moment = moment.replace(microsecond=0)
    return moment.isoformat(sep=" ", timespec="seconds" if moment.second else "minutes")


def until(moment: datetime | None, base: datetime) -> str:
    """Format the distance to a time: `in 3 h`, `2 min ago`."""
    if moment is None:
        return ""
    delta = moment - base
    if abs(delta) < timedelta(seconds=1):
        return "now"
    return f"in {_rounded(delta)}" if delta > timedelta(0) else f"{_rounded(-delta)} ago"


def _rounded(delta: timedelta) -> str:
    seconds = delta.total_seconds()
    for name, size, least in (("d", 86_400, 2 * 86_400), ("h", 3_600, 7_200), ("min", 60, 120)):
        if seconds >= least:
            return f"{seconds // size:,.0f} {name}"
    return f"{seconds:.0f} s"


def took(delta: timedelta | None) -> str:
    """Format a duration with reasonable precision."""
    if delta is None:
        return ""
    seconds = delta.total_seconds()
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 120:
        return f"{seconds:.1f} s"
    return _rounded(delta)


def spoken(period: timedelta) -> str:
    """Format a period: `30 s`, `15 min`, `2 h`, `1 d`."""
    for name in ("d", "h", "min"):
        if not period % _UNITS[name]:
            return f"{period // _UNITS[name]} {name}"
    return f"{period.total_seconds():g} s"


def iso(moment: datetime | None) -> str | None:
    """Format for JSON: ISO 8601 with the offset."""
    return None if moment is None else moment.isoformat()


def seconds(delta: timedelta | None) -> Any:
    """Format for JSON: seconds, whole ones without a fraction."""
    if delta is None:
        return None
    value = delta.total_seconds()
    return int(value) if value.is_integer() else value
