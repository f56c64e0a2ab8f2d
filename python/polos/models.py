"""What the API gives back: frozen objects built from what the core reports.

All times are aware: in the schedule's own zone where there is a schedule, else in UTC.
Building them never fails for a reason that lies in one row's data (a result whose class isn't
imported here, a zone that this machine doesn't know), or one row would hide all others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta, timezone, tzinfo
from typing import Any, Generic, Literal, TypeVar
from zoneinfo import ZoneInfo

from typing_extensions import Self

from polos._codec import decode_for_display
from polos._notebook import Shown
from polos._real_datetime import date, datetime

__all__ = [
    "CatchUp",
    "ErrorInfo",
    "LedgerEntry",
    "LedgerStatus",
    "Overlap",
    "Overview",
    "Page",
    "Run",
    "RunStatus",
    "Schedule",
    "ScheduleStatus",
    "StepInfo",
    "StepStatus",
    "WorkerInfo",
]

ScheduleStatus = Literal["active", "paused", "retired", "finished", "broken"]
RunStatus = Literal["queued", "running", "waiting", "succeeded", "failed", "cancelled"]
StepStatus = Literal["running", "waiting", "succeeded", "failed", "cancelled"]
LedgerStatus = Literal["ran", "skipped", "missed"]
Overlap = Literal["buffer_one", "skip", "buffer_all", "cancel_running", "allow"]
CatchUp = Literal["latest", "all", "none"]

ItemT = TypeVar("ItemT")


@dataclass(frozen=True, slots=True)
class ErrorInfo:
    """What a run or step failed with, as it was recorded."""

    type: str
    """The exception's type, as a dotted name without ``builtins``."""

    message: str
    """The exception's text, possibly shortened."""

    traceback: str = field(default="", repr=False)
    """The traceback as text, possibly shortened."""

    cause: ErrorInfo | None = None
    """The exception that it was raised from, or while handling."""

    record: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    """All that was recorded."""

    def __str__(self) -> str:
        return f"{self.type}: {self.message}" if self.message else self.type

    @classmethod
    def _from_core(cls, record: Mapping[str, Any] | None, depth: int = 0) -> ErrorInfo | None:
        if not isinstance(record, Mapping):
            return None
        # A cause of a cause of a cause...: records are cut at ten, hand-made ones may not be.
        cause = cls._from_core(record.get("cause"), depth + 1) if depth < 20 else None
        return cls(
            type=str(record.get("type") or "error").removeprefix("builtins:").replace(":", "."),
            message=str(record.get("message") or ""),
            traceback=str(record.get("traceback") or ""),
            cause=cause,
            record=record,
        )


@dataclass(frozen=True, slots=True)
class Schedule(Shown):
    """A schedule as it was when it was read."""

    id: str
    workflow: str
    key: str
    cron: str | None
    every: timedelta | None
    at: datetime | None
    timezone: str
    status: ScheduleStatus
    note: str | None
    """Why it is paused, retired or broken, if that was said."""

    upcoming: datetime | None
    """The next slot; ``None`` if there is none, or none while it isn't active."""

    last_timestamp: datetime | None
    """The slot of the last run that was started."""

    overlap: Overlap
    catch_up: CatchUp
    max_catch_up: int
    catch_up_window: timedelta
    jitter: timedelta
    start_at: datetime | None
    end_at: datetime | None
    max_runs: int | None
    pause_after_failures: int | None
    skip: tuple[date, ...] | None
    """Stored dates that are left out; a calendar in the application's code isn't listed."""

    input: Any = field(hash=False)
    """What the handler gets as ``ctx.input``."""

    owner: str | None
    """The application whose decorator declared it; ``None`` if it was made through the API."""

    overridden: bool
    """Whether ``update`` or ``create`` changed what the decorator declares; see ``reset``."""

    worker_available: bool
    """Whether a live worker registers its workflow; without one, its slots wait or are missed."""

    created_at: datetime
    updated_at: datetime

    def _fields_shown(self) -> dict[str, Any]:
        return {
            "workflow": self.workflow,
            "key": self.key,
            "due": self.cron or self.every or self.at,
            "timezone": self.timezone,
            "status": self.status,
            "note": self.note,
            "upcoming": self.upcoming,
            "last_timestamp": self.last_timestamp,
            "id": self.id,
        }

    @classmethod
    def _from_core(cls, core: Mapping[str, Any]) -> Self:
        zone = _zone(core.get("timezone"))
        return cls(
            id=core["id"],
            workflow=core["workflow"],
            key=core["key"],
            cron=core.get("cron"),
            every=_duration(core.get("every")),
            at=_instant(core.get("at"), zone),
            timezone=core.get("timezone") or "UTC",
            status=core["status"],
            note=core.get("note"),
            upcoming=_instant(core.get("upcoming"), zone),
            last_timestamp=_instant(core.get("last_timestamp"), zone),
            overlap=core.get("overlap", "buffer_one"),
            catch_up=core.get("catch_up", "latest"),
            max_catch_up=core.get("max_catch_up", 100),
            catch_up_window=_duration(core.get("catch_up_window")) or timedelta(),
            jitter=_duration(core.get("jitter")) or timedelta(),
            start_at=_instant(core.get("start_at"), zone),
            end_at=_instant(core.get("end_at"), zone),
            max_runs=core.get("max_runs"),
            pause_after_failures=core.get("pause_after_failures"),
            skip=_dates(core.get("skip")),
            input=_value(core.get("input"), None, "input"),
            owner=core.get("owner"),
            overridden=core.get("overridden", False),
            worker_available=bool(core.get("worker_available", False)),
            created_at=_known(core["created_at"], zone),
            updated_at=_known(core["updated_at"], zone),
        )


@dataclass(frozen=True, slots=True)
class StepInfo:
    """A step of a run."""

    name: str
    status: StepStatus
    attempt: int
    started_at: datetime | None
    finished_at: datetime | None
    result: Any = field(hash=False)
    """What it returned; plain JSON data if the result's class isn't imported here."""

    error: ErrorInfo | None = field(hash=False)
    wakes_at: datetime | None
    """When a waiting step goes on: a sleep's end, or its next attempt."""

    @classmethod
    def _from_core(cls, core: Mapping[str, Any], zone: tzinfo = timezone.utc) -> Self:
        return cls(
            name=core["name"],
            status=core["status"],
            attempt=core.get("attempt", 1),
            started_at=_instant(core.get("started_at"), zone),
            finished_at=_instant(core.get("finished_at"), zone),
            result=_value(core.get("result"), None, "result"),
            error=ErrorInfo._from_core(core.get("error")),
            wakes_at=_instant(core.get("wakes_at"), zone),
        )


@dataclass(frozen=True, slots=True)
class Run(Shown):
    """A run as it was when it was read."""

    id: str
    workflow: str
    key: str | None
    schedule_id: str | None
    timestamp: datetime | None
    """The slot that it runs for; ``None`` if it was started by hand."""

    status: RunStatus
    attempt: int
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    result: Any = field(hash=False)
    """What it returned; plain JSON data if the result's class isn't imported here."""

    error: ErrorInfo | None = field(hash=False)
    steps: tuple[StepInfo, ...] = field(hash=False)
    """Its steps, in the order they were started; empty in lists of runs."""

    worker: str | None
    """The worker that has it, or had it last."""

    origin: str | None
    """What started it, such as ``schedule``, ``trigger``, ``backfill`` or ``invoke``."""

    payload: Any = field(default=None, hash=False)
    """What it was started with, if it was started by hand; ``None`` in lists of runs."""

    input: Any = field(default=None, hash=False)
    """Its schedule's data when its slot came due; ``None`` in lists of runs."""

    parent: str | None = None
    """The run whose step started it; ``None`` in lists of runs."""

    last_timestamp: datetime | None = None
    """The slot of its schedule's run before; ``None`` in lists of runs."""

    upcoming: datetime | None = None
    """The slot that was to come next when its own came due; ``None`` in lists of runs."""

    interruptions: int = 0
    """How often in a row its worker disappeared while it executed the run, without a newly recorded
    step; see ``max_interruptions`` of :func:`polos.workflow`.
    """

    note: str | None = None
    """Why it waits, where there is something to say about that."""

    def _fields_shown(self) -> dict[str, Any]:
        steps = [f"{step.name}: {step.status}" for step in self.steps]
        return {
            "workflow": self.workflow,
            "key": self.key,
            "timestamp": self.timestamp,
            "status": self.status,
            "attempt": self.attempt,
            "interruptions": self.interruptions or None,
            "note": self.note,
            "started_at": self.started_at,
            "finished_at": self.finished_at,
            "result": self.result,
            "error": None if self.error is None else str(self.error),
            "steps": ", ".join(steps) or None,
            "id": self.id,
        }

    @classmethod
    def _from_core(cls, core: Mapping[str, Any], result_type: Any = None) -> Self:
        zone = _zone(core.get("timezone"))
        return cls(
            id=core["id"],
            workflow=core["workflow"],
            key=core.get("key"),
            schedule_id=core.get("schedule_id"),
            timestamp=_instant(core.get("timestamp"), zone),
            status=core["status"],
            attempt=core.get("attempt", 1),
            created_at=_known(core["created_at"], zone),
            started_at=_instant(core.get("started_at"), zone),
            finished_at=_instant(core.get("finished_at"), zone),
            result=_value(core.get("result"), result_type, "result"),
            error=ErrorInfo._from_core(core.get("error")),
            steps=tuple(StepInfo._from_core(step, zone) for step in core.get("steps") or ()),
            worker=core.get("worker"),
            origin=core.get("origin"),
            payload=_value(core.get("payload"), None, "payload"),
            input=_value(core.get("input"), None, "input"),
            parent=core.get("parent"),
            last_timestamp=_instant(core.get("last_timestamp"), zone),
            upcoming=_instant(core.get("upcoming"), zone),
            interruptions=core.get("interruptions", 0),
            note=core.get("note"),
        )


@dataclass(frozen=True, slots=True)
class LedgerEntry(Shown):
    """What became of a slot, or of ``count`` consecutive slots that share one fate."""

    timestamp: datetime
    """The slot; the first of several."""

    until: datetime
    """The last of several slots; else ``timestamp``."""

    count: int
    status: LedgerStatus
    reason: str | None
    run_id: str | None
    late_by: timedelta | None
    """How long after the slot the run was started."""

    worker: str | None

    def _fields_shown(self) -> dict[str, Any]:
        return {
            "timestamp": self.timestamp,
            "until": None if self.count == 1 else self.until,
            "count": self.count,
            "status": self.status,
            "reason": self.reason,
            "late_by": self.late_by,
            "run_id": self.run_id,
        }

    @classmethod
    def _from_core(cls, core: Mapping[str, Any]) -> Self:
        zone = _zone(core.get("timezone"))
        first = _known(core["timestamp"], zone)
        return cls(
            timestamp=first,
            until=_instant(core.get("until"), zone) or first,
            count=core.get("count", 1),
            status=core["status"],
            reason=core.get("reason"),
            run_id=core.get("run_id"),
            late_by=_duration(core.get("late_by")),
            worker=core.get("worker"),
        )


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """A worker that has signed in and was neither signed out nor buried."""

    id: str
    app: str
    """The application whose code it runs."""

    host: str
    """The machine, its boot and its process namespace: ``pid`` means something inside one only."""

    pid: int
    workflows: tuple[str, ...]
    """What it executes."""

    held: int
    """Runs that it holds now."""

    started_at: datetime
    seen_at: datetime
    """Its last sign of life, by its own clock."""

    is_gone: bool
    """Whether its process is known to have ended; its runs are about to be freed."""

    about: Mapping[str, Any] = field(hash=False)
    """Versions and the like."""

    @classmethod
    def _from_core(cls, core: Mapping[str, Any]) -> Self:
        about = core.get("about")
        return cls(
            id=core["id"],
            app=core["app"],
            host=core.get("host") or "",
            pid=core["pid"],
            workflows=tuple(core.get("workflows") or ()),
            held=core.get("held_count", 0),
            started_at=_known(core["entered_at"], timezone.utc),
            seen_at=_known(core["beat_at"], timezone.utc),
            is_gone=bool(core.get("is_gone", False)),
            about=about if isinstance(about, Mapping) else {},
        )


@dataclass(frozen=True, slots=True)
class Overview:
    """How much of what there is in a project. Nothing is counted beyond ``counted_to``, so that
    this takes no longer where there are millions.
    """

    now: datetime
    """When it was counted, in UTC, by the clock that schedules go by."""

    schedules: Mapping[str, int] = field(hash=False)
    """Of each status, how many."""

    runs: Mapping[str, int] = field(hash=False)
    """``"queued"``, ``"running"`` and ``"waiting"``: how many."""

    overdue: int
    """Active schedules whose next slot passed more than five seconds ago: nobody executes their
    workflows, or whoever does can't keep up.
    """

    oldest_due: datetime | None
    """The earliest such slot, in UTC."""

    counted_to: int
    """A count that is equal to it means: at least so many."""

    @classmethod
    def _from_core(cls, core: Mapping[str, Any]) -> Self:
        return cls(
            now=_known(core["now"], timezone.utc),
            schedules=dict(core["schedules"]),
            runs=dict(core["runs"]),
            overdue=core["overdue"],
            oldest_due=_instant(core.get("oldest_due"), timezone.utc),
            counted_to=core["counted_to"],
        )


@dataclass(frozen=True, slots=True)
class Page(Generic[ItemT]):
    """A part of a list; ``cursor`` asks for the next one, ``None`` on the last."""

    items: tuple[ItemT, ...]
    cursor: str | None = None


# --- from integers ---------------------------------------------------------------------------

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def _zone(name: Any) -> tzinfo:
    if not isinstance(name, str) or name == "UTC":
        return timezone.utc if name is None else ZoneInfo("UTC")
    try:
        return ZoneInfo(name)
    except Exception:  # not known here, or damaged: the instant is right in any zone
        return timezone.utc


def _known(micros: int, zone: tzinfo) -> datetime:
    instant = _EPOCH + timedelta(microseconds=micros)
    try:
        return instant.astimezone(zone)
    except OverflowError:  # the first or last hours that a datetime can say
        return instant


def _instant(micros: int | None, zone: tzinfo) -> datetime | None:
    return None if micros is None else _known(micros, zone)


def _duration(micros: int | None) -> timedelta | None:
    return None if micros is None else timedelta(microseconds=micros)


def _dates(texts: Any) -> tuple[date, ...] | None:
    if not isinstance(texts, (list, tuple)):
        return None
    return tuple(date.fromisoformat(text) for text in texts)


def _value(text: str | bytes | None, annotation: Any, name: str) -> Any:
    return None if text is None else decode_for_display(text, annotation, name=name)
