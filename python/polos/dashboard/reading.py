"""What the pages ask of the database, and no more often than needed.

Several people may look at several pages that refresh themselves. What costs more than a look into
an index is asked once for all of them, and kept for some seconds.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta, timezone
from pathlib import Path
from typing import Any, TypeVar

import polos
from polos import _polos, runs, schedules, workers
from polos._overview import _stuck_parents
from polos._own_thread import in_own_thread
from polos._real_datetime import datetime
from polos._time import from_micros, micros_of, to_micros
from polos.client import PolosClient
from polos.dashboard import charts
from polos.exceptions import PolosError, StoreUnavailableError
from polos.models import Overview, Run, Schedule, WorkerInfo

__all__ = ["Reader", "next_slots"]

T = TypeVar("T")

# Schedules whose coming slots are counted.
COMING_MAX = 1_000

# Runs that the lateness histogram looks at.
SAMPLE = 500

KEPT_SECONDS = 5.0

_TICK = timedelta(microseconds=1)

# A worker without a sign of life for so long is shown as silent: four of its default leases.
SILENT_AFTER = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class Coming:
    """The next day, as far as it was looked at."""

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
        """Raises where there is no database yet: looking at one must not create it."""
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
        """The time by the clock that slots are due by."""
        return (await self.overview()).now

    async def overview(self) -> Overview:
        """The counts of this second."""
        return await self._shared("overview", 0.5, lambda: polos.overview(self.client))

    async def workers(self) -> list[WorkerInfo]:
        """Who works."""
        return await self._shared("workers", 0.5, lambda: workers.list(self.client))

    async def coming(self) -> Coming:
        """What is due within a day."""
        return await self._shared("coming", KEPT_SECONDS, self._coming)

    async def late_by(self) -> list[timedelta]:
        """How late the last runs were that had a slot."""
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
            _slots_of, found, until if known_until is None else known_until + _TICK
        )
        return Coming(tuple(found), tuple(slots), known_until)

    async def _late_by(self) -> list[timedelta]:
        latest = await runs.list(self.client, limit=SAMPLE, brief=True)
        return [late for run in latest if (late := late_by(run)) is not None]

    async def _shared(self, name: str, seconds: float, ask: Callable[[], Awaitable[T]]) -> T:
        """The answer of ``ask``, at most ``seconds`` old, and asked by one of those who want it."""
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
        # Shielded: who gives up takes the answer from nobody else.
        answer = await asyncio.shield(asked)
        self._kept[name] = (loop.time() + seconds, answer)
        return answer


def _missing(path: str) -> Path | None:
    """Where it should be, if it isn't there."""
    file = Path(path)
    return None if file.exists() else file.absolute()


def _looked_at(asked: asyncio.Future[Any]) -> None:
    """Nobody may be left who waits for it, and then nobody is to be warned about its error."""
    if not asked.cancelled():
        asked.exception()


def late_by(run: Run) -> timedelta | None:
    """How long after its slot a run began; runs are made ready shortly before."""
    if run.origin != "schedule" or run.timestamp is None or run.started_at is None:
        return None
    return max(run.started_at - run.timestamp, timedelta())


def next_slots(schedule: Schedule, count: int) -> list[datetime]:
    """The slots that come next, the first being the one that it waits for."""
    first = schedule.upcoming
    if first is None:
        return []
    try:
        later = _polos.spec_slots(_spec(schedule), count - 1, to_micros(first))
    except PolosError:  # a zone that this machine doesn't know
        return [first]
    return [first, *(from_micros(slot).astimezone(first.tzinfo) for slot in later)]


def _slots_of(found: list[Schedule], until: datetime) -> list[charts.Due]:
    """All slots of these schedules before ``until``; dense ones counted by quarter hour."""
    slots: list[charts.Due] = []
    known: dict[tuple[str, datetime], list[tuple[datetime, int]]] = {}
    for schedule in found:
        if schedule.upcoming is None:
            continue
        spec = _spec(schedule)
        # Many users share few cron lines.
        mark = (spec, schedule.upcoming)
        if mark not in known:
            known[mark] = _slots_until(schedule, spec, until)
        slots += [charts.Due(schedule.workflow, slot, count) for slot, count in known[mark]]
    return slots


def _slots_until(schedule: Schedule, spec: str, until: datetime) -> list[tuple[datetime, int]]:
    first = schedule.upcoming
    assert first is not None
    if schedule.every is not None and schedule.every < charts.CELL:
        return _counted(schedule, schedule.every, first, until)
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
    schedule: Schedule, every: timedelta, first: datetime, until: datetime
) -> list[tuple[datetime, int]]:
    """The slots of an interval, counted for each quarter of an hour instead of listed."""
    excluded = set(schedule.skip or ())
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


def _spec(schedule: Schedule) -> str:
    """What decides its slots, as the core reads it."""
    spec: dict[str, Any] = {"timezone": schedule.timezone}
    if schedule.cron is not None:
        spec["cron"] = schedule.cron
    if schedule.every is not None:
        spec["every_us"] = micros_of(schedule.every)
    for name in ("at", "start_at", "end_at"):
        instant = getattr(schedule, name)
        if instant is not None:
            spec[f"{name}_us"] = to_micros(instant)
    if schedule.skip:
        spec["skip_dates"] = [day.isoformat() for day in schedule.skip]
    return json.dumps(spec)
