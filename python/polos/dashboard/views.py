"""The pages: what to read for each, and the values for its template. Independent of HTTP."""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta, timezone
from typing import Any

from polos import _polos, calendars, limits, runs, schedules
from polos._core.instants import to_micros
from polos._core.real_datetime import date, datetime
from polos._core.slot_spec import described_spec, slot_spec
from polos._display.cron import cron_text
from polos._display.limits import described_values, limit_wait, override_text
from polos._validate.formatting import shown
from polos._validate.limits import described
from polos.client import PolosClient
from polos.dashboard import charts
from polos.dashboard import filters as words
from polos.dashboard.queries import (
    SILENT_AFTER,
    CalendarDates,
    Reader,
    calendar_dates,
    late_by,
    next_slots,
)
from polos.exceptions import (
    InvalidArgumentError,
    PolosError,
    RunNotFoundError,
    ScheduleNotFoundError,
)
from polos.models import Calendar, ErrorInfo, LimitInfo, Run, Schedule, StepInfo, WorkerInfo

__all__ = ["PAGES", "Ask", "Page", "PageMaker", "Redirect"]

ROWS = 50
STEPS = 100
SLOTS = 8
LATEST = 8

SCHEDULE_STATES = ("active", "paused", "retired", "finished", "broken")
RUN_STATES = ("running", "queued", "waiting", "succeeded", "failed", "cancelled")


@dataclass(frozen=True, slots=True)
class Ask:
    """A request for a page."""

    reader: Reader
    params: Mapping[str, str]
    id: str = ""

    @property
    def client(self) -> PolosClient:
        """The client to read through."""
        return self.reader.client

    def text(self, name: str, length_max: int = 300) -> str | None:
        """Return a parameter; ``None`` if it is missing or empty."""
        value = self.params.get(name, "").strip()
        if len(value) > length_max:
            raise InvalidArgumentError(f"{name}: at most {length_max} characters are expected")
        if any(unicodedata.category(character) in ("Cc", "Cs") for character in value):
            raise InvalidArgumentError(f"{name}: it contains control characters")
        return value or None

    def one_of(self, name: str, allowed: tuple[str, ...]) -> Any:
        """Return a parameter that must be one of a few words."""
        value = self.text(name)
        if value is not None and value not in allowed:
            raise InvalidArgumentError(
                f"{name}: {shown(value)} given, expected one of {', '.join(allowed)}"
            )
        return value

    def cursor(self, prefix: str) -> str | None:
        """Return the id after which a page starts."""
        value = self.text("after")
        if value is not None and not (value.startswith(prefix) and value.isascii()):
            raise InvalidArgumentError(
                f"after: {shown(value)} is not an id that begins with `{prefix}`; "
                f"go back to the first page"
            )
        return value

    def instant(self, name: str) -> datetime | None:
        """Return a parameter that is a point in time."""
        value = self.text(name)
        if value is None:
            return None
        with suppress(ValueError):
            # An unescaped `+` arrives as a blank; Python 3.10 does not parse `Z`.
            instant = datetime.fromisoformat(value.replace(" ", "+").replace("Z", "+00:00"))
            if instant.utcoffset() is not None:
                return instant
        raise InvalidArgumentError(
            f"{name}: {shown(value)} isn't a time such as `2026-03-01T09:00:00+01:00`"
        )

    def number(self, name: str) -> int:
        """Return a parameter that is a whole number from 0."""
        value = self.text(name)
        if value is None:
            return 0
        if not (value.isascii() and value.isdecimal() and len(value) <= 9):
            raise InvalidArgumentError(f"{name}: {shown(value)} isn't a whole number from 0")
        return int(value)


@dataclass(frozen=True, slots=True)
class Page:
    """The values for a template."""

    template: str
    title: str
    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Redirect:
    """The page is at another address."""

    path: str


PageMaker = Callable[[Ask], Awaitable["Page | Redirect"]]


async def overview(ask: Ask) -> Page:
    """Runs, failures, next slots, lateness, and workers."""
    reader, client = ask.reader, ask.client
    state = await reader.overview()
    now = state.now
    coming = await reader.coming()
    late = await reader.late_by()
    workers = await reader.workers()
    running = await runs.list(client, status="running", limit=LATEST, brief=True)
    failed = await runs.list(client, status="failed", limit=LATEST, brief=True)
    return Page(
        "overview.html",
        "Overview",
        {
            "now": now,
            "state": state,
            "agenda": charts.agenda(coming.slots, now, coming.known_until),
            "coming": coming.schedules[:LATEST],
            "coming_count": len(coming.schedules),
            "known_until": coming.known_until,
            "lateness": charts.lateness(late),
            "running": running,
            "failed": failed,
            "stuck": await reader.stuck_parents(),
            "workers": [WorkerRow.of(worker, workers, now) for worker in workers],
            "is_fresh": not any(state.schedules.values()) and not any(state.runs.values()),
        },
    )


async def schedule_list(ask: Ask) -> Page | Redirect:
    """Schedules by filter."""
    client = ask.client
    find = ask.text("find")
    if find is not None and find.startswith("sch_") and await _exists(client, find):
        return Redirect(f"/schedules/{find}")
    filters = {
        "find": find,
        "workflow": ask.text("workflow"),
        "status": ask.one_of("status", SCHEDULE_STATES),
        "tag": ask.text("tag", length_max=360),
    }
    try:
        found = await schedules.list(
            client,
            tags=_tags(filters["tag"]),
            workflow=filters["workflow"],
            status=filters["status"],
            key_prefix=find,
            limit=ROWS + 1,
            after=ask.cursor("sch_"),
        )
    except ScheduleNotFoundError:
        raise _gone(ask) from None
    rows = [(row, says(row)) for row in found[:ROWS]]
    given = {
        "rows": rows,
        "filters": filters,
        "states": SCHEDULE_STATES,
        **await _around(ask, found),
    }
    return Page("schedules.html", "Schedules", given)


def _tags(text: str | None) -> dict[str, str] | None:
    if text is None:
        return None
    name, _, value = text.partition("=")
    if not (name and value):
        raise InvalidArgumentError(
            f"tag: {shown(text)} given, expected a name and a value such as `team=billing`"
        )
    return {name: value}


async def _around(ask: Ask, found: Sequence[Schedule] | Sequence[Run]) -> dict[str, Any]:
    """Return what every list needs besides its rows. One row more than shown has been read."""
    workers = await ask.reader.workers()
    return {
        "workflows": sorted({id for worker in workers for id in worker.workflows}),
        "after": ask.text("after"),
        "next": found[ROWS - 1].id if len(found) > ROWS else None,
        "now": await ask.reader.now(),
    }


def _gone(ask: Ask) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"after: there is no {shown(ask.params.get('after'))} any more; go back to the first page"
    )


async def _exists(client: PolosClient, id: str) -> bool:
    try:
        await schedules.get(client, id)
    except ScheduleNotFoundError:
        return False
    return True


async def schedule(ask: Ask) -> Page:
    """One schedule, its next slots, and its recent history."""
    client, now = ask.client, await ask.reader.now()
    found = await schedules.get(client, ask.id)
    before = ask.instant("before")
    history = await schedules.history(client, ask.id, limit=ROWS + 1, before=before)
    entries = history[:ROWS]
    dates = await calendar_dates(client, [found])
    return Page(
        "schedule.html",
        f"{found.workflow} · {found.key}",
        {
            "schedule": found,
            "says": says(found),
            "notes": _notes(found, now, dates),
            "slots": next_slots(found, SLOTS, dates),
            "entries": entries,
            "before": before,
            "next": entries[-1].timestamp if len(history) > ROWS else None,
            "now": now,
        },
    )


async def run_list(ask: Ask) -> Page | Redirect:
    """Runs by filter, newest first."""
    client = ask.client
    find = ask.text("find")
    if find is not None and find.startswith("run_"):
        return Redirect(f"/runs/{find}")
    filters = {
        "find": find,
        "workflow": ask.text("workflow"),
        "status": ask.one_of("status", RUN_STATES),
        "schedule": ask.text("schedule"),
    }
    try:
        found = await runs.list(
            client,
            workflow=filters["workflow"],
            status=filters["status"],
            schedule=filters["schedule"],
            key=find,
            brief=True,
            limit=ROWS + 1,
            after=ask.cursor("run_"),
        )
    except RunNotFoundError:
        raise _gone(ask) from None
    rows = [(row, late_by(row)) for row in found[:ROWS]]
    given = {"rows": rows, "filters": filters, "states": RUN_STATES, **await _around(ask, found)}
    return Page("runs.html", "Runs", given)


async def run(ask: Ask) -> Page:
    """One run and its steps."""
    found = await runs.get(ask.client, ask.id)
    now = await ask.reader.now()
    first = ask.number("from")
    steps = found.steps[first : first + STEPS]
    known = await limits._of_run(ask.client, found)
    return Page(
        "run.html",
        f"{found.status} · {found.workflow}",
        {
            "run": found,
            "now": now,
            "late_by": late_by(found),
            "took": _took(found, now),
            "steps": steps,
            "awaited": [step for step in found.steps if step.awaits_event],
            "limit": limit_wait(found, known, now),
            "first": first,
            "timeline": charts.timeline(found, now, steps),
            "children": {step.name: child for step in steps if (child := _child_of(step))},
            "causes": _causes(found),
            "arguments": _arguments(found),
            "next": first + STEPS if len(found.steps) > first + STEPS else None,
        },
    )


async def limit_list(ask: Ask) -> Page:
    """All limits, with their use."""
    now = await ask.reader.now()
    found = await ask.reader.limits()
    return Page("limits.html", "Limits", {"now": now, "limits": [LimitRow.of(it) for it in found]})


async def calendar_list(ask: Ask) -> Page:
    """All stored calendars, and a form that stores one."""
    now = await ask.reader.now()
    found = await ask.reader.calendars()
    rows = [CalendarRow.of(calendar, now) for calendar in found]
    return Page("calendars.html", "Calendars", {"now": now, "calendars": rows})


async def calendar(ask: Ask) -> Page:
    """The dates of one stored calendar."""
    now = await ask.reader.now()
    found = await calendars.get(ask.client, ask.id)
    years: dict[int, list[date]] = {}
    for day in found.dates:
        years.setdefault(day.year, []).append(day)
    context = {"now": now, "calendar": found, "years": years}
    return Page("calendar.html", found.name, context)


async def backfill_list(ask: Ask) -> Page:
    """All backfills whose runs are stored, and how far they are."""
    now = await ask.reader.now()
    return Page(
        "backfills.html", "Backfills", {"now": now, "backfills": await ask.reader.backfills()}
    )


async def worker_list(ask: Ask) -> Page:
    """All workers."""
    now = await ask.reader.now()
    workers = await ask.reader.workers()
    return Page(
        "workers.html",
        "Workers",
        {"now": now, "workers": [WorkerRow.of(worker, workers, now) for worker in workers]},
    )


PAGES: Mapping[str, PageMaker] = {
    "/": overview,
    "/schedules": schedule_list,
    "/schedules/{id}": schedule,
    "/runs": run_list,
    "/runs/{id}": run,
    "/backfills": backfill_list,
    "/workers": worker_list,
    "/calendars": calendar_list,
    "/calendars/{id}": calendar,
    "/limits": limit_list,
}


# --- derived values --------------------------------------------------------------------------


def says(found: Schedule) -> str:
    """Return the meaning of a schedule in English."""
    if found.cron is None:
        return words.english(found.every, found.at, found.start_at)
    return _cron_in_english(slot_spec(found), cron_text(found.cron), found.timezone)


@functools.lru_cache(maxsize=4_000)
def _cron_in_english(spec: str, cron: str, timezone: str) -> str:
    try:
        return _polos.explain(spec, 0, 0)[0]
    except PolosError:  # a zone that this machine doesn't know
        return f"{cron} in {timezone}"


def _notes(found: Schedule, now: datetime, dates: CalendarDates) -> list[str]:
    if found.cron is None or found.status != "active":
        return []
    known = {name: [day.isoformat() for day in days] for name, days in dates.items()}
    try:
        return _polos.explain(described_spec(found), 0, to_micros(now), known)[2]
    except PolosError as error:
        return [str(error)]


@dataclass(frozen=True, slots=True)
class CalendarRow:
    """A calendar in a table."""

    info: Calendar
    next: date | None
    """Its next date, by the calendar of UTC."""

    @classmethod
    def of(cls, calendar: Calendar, now: datetime) -> CalendarRow:
        """Compute the display values."""
        today = now.astimezone(timezone.utc).date()
        return cls(calendar, next((day for day in calendar.dates if day >= today), None))


@dataclass(frozen=True, slots=True)
class LimitRow:
    """A limit in a table."""

    info: LimitInfo
    values: str
    declared: str
    override: str

    @classmethod
    def of(cls, limit: LimitInfo) -> LimitRow:
        """Compute the display values."""
        declared = described(limit.declared.items())
        return cls(limit, described_values(limit), declared, override_text(limit))


@dataclass(frozen=True, slots=True)
class WorkerRow:
    """A worker with its display values."""

    info: WorkerInfo
    host: str
    silent_for: timedelta | None
    """Time since its last heartbeat, if that is too long."""

    @classmethod
    def of(cls, worker: WorkerInfo, workers: Sequence[WorkerInfo], now: datetime) -> WorkerRow:
        """Compute the display values of one of ``workers`` at ``now``."""
        # The unique host id is long and means nothing to people, so show the name.
        host = str(worker.about.get("host") or worker.host.partition("/")[0])
        return cls(worker, host, worker._silent_for(now, workers, SILENT_AFTER))


def _took(found: Run, now: datetime) -> timedelta | None:
    if found.started_at is None:
        return None
    return max((found.finished_at or now) - found.started_at, timedelta())


def _child_of(step: StepInfo) -> str | None:
    """Return the run that a step waits for. While it waits, its record holds the child's id."""
    if step.status == "waiting" and isinstance(step.result, str) and step.wakes_at is None:
        return step.result if step.result.startswith("run_") else None
    return None


def _arguments(found: Run) -> list[tuple[str, Any]]:
    """Return the handler's arguments by name."""
    arguments: list[tuple[str, Any]] = []
    if found.timestamp is not None:
        times = {
            "timestamp": found.timestamp,
            "last_timestamp": found.last_timestamp,
            "upcoming": found.upcoming,
        }
        arguments.append(("payload", {**times, "key": found.key}))
    elif found.payload is not None:
        arguments.append(("payload", found.payload))
    if found.input is not None:
        arguments.append(("input", found.input))
    return arguments


def _causes(found: Run) -> list[ErrorInfo]:
    """Return the error and its causes, outermost first."""
    causes: list[ErrorInfo] = []
    error = found.error
    while error is not None and len(causes) < 10:
        causes.append(error)
        error = error.cause
    return causes
