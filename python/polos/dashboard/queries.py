"""Read the data for the pages, and no more often than needed.

Several viewers can open several pages that update themselves. A query that costs more than an index
lookup is made once for all of them, and its result is kept for some seconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta, timezone
from pathlib import Path
from typing import Any, TypeVar

from polos import _polos, backfills, calendars, limits, runs, schedules, workers
from polos._core.instants import from_micros, to_micros
from polos._core.own_thread import in_own_thread
from polos._core.real_datetime import date, datetime
from polos._core.slot_spec import skipped_dates, slot_spec
from polos._overview import _stuck_parents, overview
from polos.client import PolosClient
from polos.dashboard import charts
from polos.exceptions import PolosError, StoreUnavailableError
from polos.models import BackfillInfo, Calendar, LimitInfo, Overview, Run, Schedule, WorkerInfo

__all__ = ["Reader", "calendar_dates", "next_slots"]

T = TypeVar("T")

CalendarDates = Mapping[str, Sequence[date]]
"""The dates of stored calendars, by name."""

# Maximum number of schedules whose next slots are counted.
COMING_MAX = 1_000

# Number of runs in the lateness histogram.
SAMPLE = 500

KEPT_SECONDS = 5.0

_TICK = timedelta(microseconds=1)

# A worker without a heartbeat for this long is shown as silent: four default leases.
SILENT_AFTER = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class Coming:
    """The next 24 hours, as far as they were read."""

    schedules: tuple[Schedule, ...]
    slots: tuple[charts.Due, ...]
    known_until: datetime | None


class Reader:
    """Reads through one client."""

    def __init__(self, client: PolosClient) -> None:
        self.client = client
        self._kept: dict[str, tuple[float, Any]] = {}
        self._asked: dict[str, asyncio.Future[Any]] = {}

    async def check(self) -> None:
        """Raise if there is no database yet: viewing must not create one."""
        client = self.client
        path = client._location.path
        if path is None or client._core is not None:
            return
        where = await in_own_thread(_missing, path)
        if where is not None:
            raise StoreUnavailableError(
                f"there is no database at `{where}` yet; start a worker or create a "
                f"schedule there, or name another one with POLOS_DATABASE_URL"
            )

    async def now(self) -> datetime:
        """Return the time of the clock that decides when slots are due."""
        return (await self.overview()).now

    async def overview(self) -> Overview:
        """Return counts that are at most a second old."""
        return await self._shared("overview", 0.5, lambda: overview(self.client))

    async def backfills(self) -> list[BackfillInfo]:
        """Return the backfills and how far they are. Each reads all of its runs."""
        return await self._shared("backfills", 0.5, lambda: backfills.list(self.client))

    async def calendars(self) -> list[Calendar]:
        """Return the stored calendars."""
        return await self._shared("calendars", 0.5, lambda: calendars.list(self.client))

    async def limits(self) -> list[LimitInfo]:
        """Return the limits with their use."""
        return await self._shared("limits", 0.5, lambda: limits.list(self.client))

    async def workers(self) -> list[WorkerInfo]:
        """Return the workers."""
        return await self._shared("workers", 0.5, lambda: workers.list(self.client))

    async def coming(self) -> Coming:
        """Return what is due within 24 hours."""
        return await self._shared("coming", KEPT_SECONDS, self._coming)

    async def late_by(self) -> list[timedelta]:
        """Return the lateness of the last runs that have a slot."""
        return await self._shared("late_by", KEPT_SECONDS, self._late_by)

    async def stuck_parents(self) -> list[str]:
        """Ids of runs that wait for a child run that has ended, and that nothing would wake."""
        if not (await self.overview()).runs.get("waiting"):
            return []
        return await self._shared("stuck", KEPT_SECONDS, lambda: _stuck_parents(self.client))

    async def _coming(self) -> Coming:
        now = await self.now()
        until = now + charts.HORIZON
        found = await schedules.coming(self.client, until=until, limit=COMING_MAX)
        is_all = len(found) < COMING_MAX
        last = found[-1].upcoming if found else None
        known_until = None if is_all else last
        slots = await in_own_thread(
            _slots_of,
            found,
            until if known_until is None else known_until + _TICK,
            await calendar_dates(self.client, found),
        )
        return Coming(tuple(found), tuple(slots), known_until)

    async def _late_by(self) -> list[timedelta]:
        latest = await runs.list(self.client, limit=SAMPLE, brief=True)
        return [late for run in latest if (late := late_by(run)) is not None]

    async def _shared(self, name: str, seconds: float, ask: Callable[[], Awaitable[T]]) -> T:
        """Return the result of ``ask``, at most ``seconds`` old; concurrent callers share one
        query.
        """
        loop = asyncio.get_running_loop()
        kept = self._kept.get(name)
        if kept is not None and not self.client._is_virtual() and loop.time() < kept[0]:
            answer: T = kept[1]
            return answer
        asked = self._asked.get(name)
        if asked is None or asked.done() or asked.get_loop() is not loop:
            asked = asyncio.ensure_future(ask())
            asked.add_done_callback(_looked_at)
            self._asked[name] = asked
        # Shielded: a caller that gives up must not cancel the query of the others.
        answer = await asyncio.shield(asked)
        self._kept[name] = (loop.time() + seconds, answer)
        return answer


def _missing(path: str) -> Path | None:
    """Return the path of the database file if it does not exist."""
    file = Path(path)
    return None if file.exists() else file.absolute()


def _looked_at(asked: asyncio.Future[Any]) -> None:
    """Mark an exception as retrieved, because all callers may have gone."""
    if not asked.cancelled():
        asked.exception()


def late_by(run: Run) -> timedelta | None:
    """Return how long after its slot a run started; runs are prepared shortly before."""
    if run.origin != "schedule" or run.timestamp is None or run.started_at is None:
        return None
    return max(run.started_at - run.timestamp, timedelta())


async def calendar_dates(client: PolosClient, found: Sequence[Schedule]) -> CalendarDates:
    """Return the dates of the stored calendars, if one of the schedules names any."""
    if not any(schedule.calendars for schedule in found):
        return {}
    return {calendar.name: calendar.dates for calendar in await calendars.list(client)}


def next_slots(schedule: Schedule, count: int, dates: CalendarDates) -> list[datetime]:
    """Return the next slots; the first is the one that the schedule waits for."""
    first = schedule.upcoming
    if first is None:
        return []
    try:
        later = _polos.spec_slots(slot_spec(schedule, dates), count - 1, to_micros(first))
    except PolosError:  # a zone unknown to this machine
        return [first]
    return [first, *(from_micros(slot).astimezone(first.tzinfo) for slot in later)]


def _slots_of(found: list[Schedule], until: datetime, dates: CalendarDates) -> list[charts.Due]:
    """Return all slots of these schedules before ``until``; dense ones are counted per
    quarter-hour.
    """
    slots: list[charts.Due] = []
    known: dict[tuple[str, datetime], list[tuple[datetime, int]]] = {}
    for schedule in found:
        if schedule.upcoming is None:
            continue
        spec = slot_spec(schedule, dates)
        # Many schedules share few cron expressions.
        mark = (spec, schedule.upcoming)
        if mark not in known:
            known[mark] = _slots_until(schedule, spec, until, dates)
        slots += [charts.Due(schedule.workflow, slot, count) for slot, count in known[mark]]
    return slots


def _slots_until(
    schedule: Schedule, spec: str, until: datetime, dates: CalendarDates
) -> list[tuple[datetime, int]]:
    first = schedule.upcoming
    assert first is not None
    if schedule.every is not None and schedule.every < charts.CELL:
        return _counted(schedule, schedule.every, first, until, skipped_dates(schedule, dates))
    # Anything else has at most one slot a minute.
    slots, number = [first], 16
    while slots[-1] < until:
        try:
            more = _polos.spec_slots(spec, number, to_micros(slots[-1]))
        except PolosError:
            break
        slots += [from_micros(slot) for slot in more]
        if len(more) < number:
            break
        number = 256
    return [(slot, 1) for slot in slots if slot < until]


def _counted(
    schedule: Schedule, every: timedelta, first: datetime, until: datetime, excluded: set[date]
) -> list[tuple[datetime, int]]:
    """Return the slots of an interval, counted per quarter-hour instead of listed."""
    end = until if schedule.end_at is None else min(until, schedule.end_at)
    counts = []
    slot = first.astimezone(timezone.utc)
    while slot < end:
        next_cell = charts.floor(slot, charts.CELL) + charts.CELL
        number = -((slot - min(next_cell, end)) // every)
        if slot.astimezone(first.tzinfo).date() not in excluded:
            counts.append((slot, number))
        slot += number * every
    return counts
