"""The slot of a scheduled run, and the application's calendar, which may exclude days."""

from __future__ import annotations

import json
from collections.abc import Container
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from polos._core.instants import from_micros
from polos._core.real_datetime import date, datetime
from polos._polos import spec_slots
from polos._validate.schedule_options import ScheduleDeclaration, core_spec

if TYPE_CHECKING:
    from polos._runtime.active_run import ActiveRun

__all__ = ["RunSlot", "excluded_day"]

# Maximum number of consecutive slots that an application's calendar may exclude before `upcoming`
# names one of them.
_EXCLUDED_MAX = 4_000


class RunSlot:
    """The slot that a run belongs to, the last one before it, and the next one, in microseconds
    since the epoch, and the name of the schedule's zone. All slots are ``None`` without a schedule.
    """

    __slots__ = ("last", "timezone", "upcoming", "value")

    def __init__(
        self, value: int | None, last: int | None, upcoming: int | None, timezone: str
    ) -> None:
        self.value = value
        self.last = last
        self.upcoming = upcoming
        self.timezone = timezone

    def local(self) -> datetime | None:
        """Return the slot in the schedule's zone, or ``None`` if there is none."""
        return None if self.value is None else self._local(self.value)

    def _local(self, slot: int) -> datetime:
        return from_micros(slot).astimezone(ZoneInfo(self.timezone))

    def day(self, slot: int) -> date:
        """Return the date of ``slot`` in the schedule's zone."""
        return self._local(slot).date()

    def next_slot(self, active: ActiveRun) -> int:
        """Return the next slot that the application's calendar does not exclude. A schedule that
        ends with this slot has none; then the slot itself is returned.
        """
        slot, upcoming = self.value, self.upcoming
        assert slot is not None
        calendar = _calendar(active)
        if upcoming is None or calendar is None:
            return slot if upcoming is None else upcoming
        assert isinstance(active.workflow.schedule, ScheduleDeclaration)
        spec = json.dumps(core_spec(active.workflow.schedule.spec))
        for _ in range(_EXCLUDED_MAX):
            if self.day(upcoming) not in calendar:
                return upcoming
            later = spec_slots(spec, 1, upcoming)
            if not later:
                return slot
            upcoming = later[0]
        return upcoming


def excluded_day(active: ActiveRun) -> date | None:
    """Return the day of the run's slot if the application's calendar excludes it, or ``None``.

    Raises what the calendar raises.
    """
    calendar = _calendar(active)
    slot = active.slot
    if calendar is None or slot is None or active.origin not in ("schedule", "backfill"):
        return None
    day = active.slots.day(slot)
    return day if day in calendar else None


def _calendar(active: ActiveRun) -> Container[date] | None:
    declared = active.workflow.schedule
    if declared is True or not declared or declared.skip_calendar is None:
        return None
    calendar: Container[date] = declared.skip_calendar
    return calendar if declared.spec["key"] == active.key else None
