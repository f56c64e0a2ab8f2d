"""Slots of a schedule that is described in a call and not stored."""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass
from datetime import timedelta, timezone
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from polos import _polos
from polos._core.instants import aware, to_micros
from polos._core.real_datetime import datetime
from polos._core.specs import compile_spec
from polos._validate.arguments import count_of
from polos._validate.calendar_dates import dates_of_calendars
from polos._validate.schedule_options import normalise_schedule

if TYPE_CHECKING:
    from polos.schedules import Calendars

__all__ = ["SlotQuery", "in_zone"]


@dataclass(frozen=True, slots=True)
class SlotQuery:
    """A checked call of :func:`preview` or :func:`explain`."""

    spec: str
    zone: ZoneInfo
    count: int
    after: int
    max_runs: int | None
    skipped: Container[Any] | None
    """The calendar of the application."""

    calendars: dict[str, list[str]]
    """The dates of the stored calendars that the schedule names."""

    @classmethod
    def of(
        cls, *, count: int, after: datetime | None, calendars: Calendars | None, **options: Any
    ) -> SlotQuery:
        given = {name: value for name, value in options.items() if value is not None}
        spec = normalise_schedule(given)
        skipped: Container[Any] | None = spec.pop("skip_calendar", None)
        dates = dates_of_calendars(spec["calendars"] or (), calendars)
        text, _ = compile_spec(spec)
        return cls(
            spec=text,
            zone=ZoneInfo(spec["timezone"]),
            count=count_of("count", count),
            after=_now_micros() if after is None else aware("after", after),
            max_runs=spec["max_runs"],
            skipped=skipped,
            calendars=dates,
        )

    @property
    def arguments(self) -> tuple[str, int, int, dict[str, list[str]]]:
        """The arguments for the core."""
        return self.spec, self.count, self.after, self.calendars

    def slots(self, found: Iterable[int]) -> list[datetime]:
        """Return the slots that the core has found, without those that only we know to skip."""
        slots = in_zone(found, self.zone)
        if self.skipped is None:
            return slots
        most = min(self.count, self.max_runs or self.count)
        return _without_excluded(self.spec, slots, most, self.skipped, self.zone)


# So many slots in a row may be excluded before the search ends.
_EXCLUDED_MAX = 10_000


def _without_excluded(
    spec: str,
    found: list[datetime],
    count: int,
    calendar: Container[Any],
    zone: ZoneInfo,
) -> list[datetime]:
    """Return the first ``count`` slots whose dates are not in the calendar."""
    kept: list[datetime] = []
    seen = 0
    while found and seen < _EXCLUDED_MAX:
        kept += [slot for slot in found if slot.date() not in calendar]
        if len(kept) >= count:
            break
        seen += len(found)
        found = in_zone(_polos.spec_slots(spec, count, to_micros(found[-1])), zone)
    return kept[:count]


def in_zone(slots: Iterable[int], zone: ZoneInfo) -> list[datetime]:
    """Convert slots to datetimes, up to the year 9999, the last that a ``datetime`` supports."""
    fromutc, epoch = zone.fromutc, datetime(1970, 1, 1, tzinfo=zone)
    found: list[datetime] = []
    for slot in slots:
        try:
            found.append(fromutc(epoch + timedelta(0, 0, slot)))
        except OverflowError:
            break
    return found


def _now_micros() -> int:
    import datetime  # imported here because a test may have frozen the time

    return to_micros(datetime.datetime.now(timezone.utc))
