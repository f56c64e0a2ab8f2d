"""Convert instants between Python and the core: whole microseconds since the epoch."""

from __future__ import annotations

from datetime import timedelta, timezone
from typing import Any

from polos._core.real_datetime import datetime
from polos._validate.formatting import shown
from polos.exceptions import InvalidArgumentError

__all__ = ["aware", "from_micros", "micros_of", "to_micros"]

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MICROSECOND = timedelta(microseconds=1)


def to_micros(instant: datetime) -> int:
    """Return the microseconds since the epoch of an aware ``datetime``."""
    return (instant - _EPOCH) // _MICROSECOND


def from_micros(micros: int) -> datetime:
    """Return the instant, in UTC."""
    return _EPOCH + timedelta(microseconds=micros)


def micros_of(duration: timedelta) -> int:
    """Return a duration in microseconds."""
    return duration // _MICROSECOND


def aware(name: str, value: Any) -> int:
    """Return the microseconds of an argument, which must be an aware ``datetime``."""
    if not isinstance(value, datetime):
        raise InvalidArgumentError(f"{name}: {shown(value)} given, expected an aware datetime")
    if value.utcoffset() is None:
        raise InvalidArgumentError(
            f"{name}: {value.isoformat()} has no time zone; add one, for example "
            f"`tzinfo=timezone.utc`"
        )
    return to_micros(value)
