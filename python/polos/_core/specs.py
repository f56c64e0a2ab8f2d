"""Specifications of schedules, as the core compiles them."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from polos import _polos
from polos._validate.schedule_options import core_spec

__all__ = ["compile_spec"]


def compile_spec(spec: Mapping[str, Any], *, has_calendar: bool = False) -> tuple[str, bool]:
    """Compile what ``normalise_schedule`` returns. Return the JSON text by which the core knows it,
    and whether it fires more than once in five minutes.

    Raises :class:`InvalidScheduleError` for what only the core understands: cron syntax
    (:class:`InvalidCronError`) and time zones (:class:`InvalidTimezoneError`).
    """
    fields = core_spec(spec)
    if "cron" in fields:
        cron = fields["cron"]
        fields["cron"] = (cron,) if isinstance(cron, str) else tuple(cron)
    for name in ("skip_dates", "skip_cron", "calendars"):
        if name in fields:
            fields[name] = tuple(fields[name])
    if has_calendar:
        fields["skip_calendar"] = True
    return _compile(tuple(fields.items()))


# Many schedules, created one by one, share few specifications.
@functools.lru_cache(maxsize=1_000)
def _compile(fields: tuple[tuple[str, Any], ...]) -> tuple[str, bool]:
    return _polos.compile_spec(**dict(fields))
