"""What decides the slots of a stored schedule, in the core's form."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from polos._core.instants import micros_of, to_micros

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import date

    from polos.models import Schedule

__all__ = ["described_spec", "skipped_dates", "slot_spec"]


def slot_spec(schedule: Schedule, calendars: Mapping[str, Iterable[date]] | None = None) -> str:
    """Return the specification (JSON text) of the slots of a schedule, without its policies.

    ``calendars`` are the dates of the stored calendars, by name. Without them, the dates of the
    calendars that it names count as slots.
    """
    spec = _without_dates(schedule)
    dates = skipped_dates(schedule, calendars or {})
    if dates:
        spec["skip_dates"] = sorted(day.isoformat() for day in dates)
    return json.dumps(spec)


def described_spec(schedule: Schedule) -> str:
    """Return the specification (JSON text) from which the core describes the slots: it names the
    stored calendars.
    """
    spec = _without_dates(schedule)
    if schedule.skip:
        spec["skip_dates"] = [day.isoformat() for day in schedule.skip]
    if schedule.calendars:
        spec["calendars"] = schedule.calendars
    return json.dumps(spec)


def _without_dates(schedule: Schedule) -> dict[str, Any]:
    spec: dict[str, Any] = {"timezone": schedule.timezone}
    for name in ("cron", "weeks", "on_skip"):
        value = getattr(schedule, name)
        if value is not None:
            spec[name] = value
    if schedule.days != "or":
        spec["days"] = schedule.days
    if schedule.every is not None:
        spec["every_us"] = micros_of(schedule.every)
    for name in ("at", "start_at", "end_at"):
        instant = getattr(schedule, name)
        if instant is not None:
            spec[f"{name}_us"] = to_micros(instant)
    if schedule.skip_cron:
        spec["skip_cron"] = [text.removeprefix("cron:") for text in schedule.skip_cron]
    return spec


def skipped_dates(schedule: Schedule, calendars: Mapping[str, Iterable[date]]) -> set[date]:
    """Return the dates that a schedule skips, with those of the stored calendars that it names."""
    dates = set(schedule.skip or ())
    return dates.union(*(calendars.get(name, ()) for name in schedule.calendars))
