"""Delays between attempts: a pure function of the attempt and a random fraction."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from polos._validate.formatting import shown
from polos.exceptions import InvalidArgumentError

__all__ = ["Backoff"]

_LONGEST = timedelta(days=36_525)


@dataclass(frozen=True, init=False)
class Backoff:
    """Exponential delays: ``initial``, then ``factor`` times as long after each failure.

    ``initial`` and ``maximum`` are seconds or ``timedelta``. ``maximum`` (by default one hour) is
    the longest delay. ``jitter``, from 0 to 1, is the random share of a delay: with 0.25 (the
    default) a delay of 8 s lasts 6 to 8 s, so that runs that failed together are not retried
    together. ``factor=1`` keeps the delay constant.

    Raises :class:`InvalidArgumentError` for a negative or infinite time, a ``factor`` below 1, or a
    ``jitter`` outside 0 to 1.
    """

    initial: timedelta
    factor: float
    maximum: timedelta
    jitter: float

    def __init__(
        self,
        initial: float | timedelta = 1.0,
        *,
        factor: float = 2.0,
        maximum: float | timedelta = timedelta(hours=1),
        jitter: float = 0.25,
    ) -> None:
        set_field = object.__setattr__
        set_field(self, "initial", duration("backoff initial", initial))
        set_field(self, "maximum", duration("backoff maximum", maximum))
        if not _is_number(factor) or not 1 <= factor < math.inf:
            raise InvalidArgumentError(
                f"backoff factor: {shown(factor)} given, expected a number of 1 or more"
            )
        if not _is_number(jitter) or not 0 <= jitter <= 1:
            raise InvalidArgumentError(
                f"backoff jitter: {shown(jitter)} given, expected a number from 0 to 1, "
                f"the random share of a delay"
            )
        set_field(self, "factor", float(factor))
        set_field(self, "jitter", float(jitter))

    @classmethod
    def of(cls, value: float | timedelta | Backoff | None) -> Backoff:
        """Return the backoff for an option: a number of seconds or a ``timedelta`` is ``initial``,
        and ``None`` is the default.
        """
        if isinstance(value, Backoff):
            return value
        return cls() if value is None else cls(value)

    def delay(self, attempt: int, fraction: float) -> timedelta:
        """Return how long to wait after attempt number ``attempt`` (the first is 1) has failed.

        ``fraction`` is the random number from 0 to 1 that jitter needs. It is an argument so that
        the same attempt of the same run has the same delay wherever it is computed.
        """
        if attempt < 1:
            raise InvalidArgumentError(
                f"attempt: {shown(attempt)} given, expected 1 for the first attempt, or more"
            )
        longest = self.maximum.total_seconds()
        try:
            seconds = self.initial.total_seconds() * self.factor ** (attempt - 1)
        except OverflowError:
            # A factor of 2 leaves the range of a float after a thousand attempts.
            seconds = longest if self.initial else 0.0
        return timedelta(seconds=min(seconds, longest) * (1 - self.jitter * fraction))


def duration(name: str, value: Any, *, zero: bool = True) -> timedelta:
    """Return a duration given as seconds or as a ``timedelta``; ``name`` is for errors."""
    if isinstance(value, timedelta):
        given = value
    elif _is_number(value) and math.isfinite(value) and abs(value) <= _LONGEST.total_seconds():
        given = timedelta(seconds=value)
    else:
        raise InvalidArgumentError(
            f"{name}: {shown(value)} given, expected a number of seconds or a timedelta"
        )
    if given < timedelta(0) or given > _LONGEST or not (zero or given):
        least = "0 seconds" if zero else "more than 0 seconds"
        raise InvalidArgumentError(
            f"{name}: {shown(value)} given, expected {least} and at most 100 years"
        )
    return given


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
