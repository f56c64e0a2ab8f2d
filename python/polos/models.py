"""The return types of the API: frozen objects built from the core's answers.

All times are aware: in the schedule's own zone if there is a schedule, else in UTC. Building an
object never fails because of one row's data (a result whose class is not imported here, a zone that
this machine does not know). Otherwise one row would hide all others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta, timezone, tzinfo
from typing import Any, Generic, Literal, TypeVar
from zoneinfo import ZoneInfo

from typing_extensions import Self

from polos._codec.codec import decode_for_display
from polos._core.real_datetime import date, datetime
from polos._display.notebook import Shown

__all__ = [
    "Calendar",
    "CatchUp",
    "Days",
    "ErrorInfo",
    "LedgerEntry",
    "LedgerStatus",
    "LimitInfo",
    "OnSkip",
    "Overlap",
    "Overview",
    "Page",
    "Progress",
    "Run",
    "RunStatus",
    "Schedule",
    "ScheduleStatus",
    "SlotCounts",
    "StepInfo",
    "StepStatus",
    "WorkerHealth",
    "WorkerInfo",
]

ScheduleStatus = Literal["active", "paused", "retired", "finished", "broken"]
RunStatus = Literal["queued", "running", "waiting", "succeeded", "failed", "cancelled"]
StepStatus = Literal["running", "waiting", "succeeded", "failed", "cancelled"]
LedgerStatus = Literal["ran", "skipped", "missed"]
Overlap = Literal["buffer_one", "skip", "buffer_all", "cancel_running", "allow"]
CatchUp = Literal["latest", "all", "none"]
Days = Literal["or", "and"]
OnSkip = Literal["next_workday"]

ItemT = TypeVar("ItemT")


@dataclass(frozen=True, slots=True)
class ErrorInfo:
    """The recorded error of a run or step."""

    type: str
    """The exception's type, as a dotted name without ``builtins``."""

    message: str
    """The exception's text, possibly shortened."""

    traceback: str = field(default="", repr=False)
    """The traceback as text, possibly shortened."""

    cause: ErrorInfo | None = None
    """The exception that caused it: ``__cause__``, or the one being handled."""

    not_retried: str | None = None
    """Why it was not retried although retries were left: ``retry_on``, or a
    :class:`PermanentError`."""

    record: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    """The complete record."""

    def __str__(self) -> str:
        return f"{self.type}: {self.message}" if self.message else self.type

    @classmethod
    def _from_core(cls, record: Mapping[str, Any] | None, depth: int = 0) -> ErrorInfo | None:
        if not isinstance(record, Mapping):
            return None
        # Chains of causes are recorded up to ten deep; records from elsewhere may be longer.
        cause = cls._from_core(record.get("cause"), depth + 1) if depth < 20 else None
        return cls(
            type=str(record.get("type") or "error").removeprefix("builtins:").replace(":", "."),
            message=str(record.get("message") or ""),
            traceback=str(record.get("traceback") or ""),
            cause=cause,
            not_retried=str(record["not_retried"]) if record.get("not_retried") else None,
            record=record,
        )


@dataclass(frozen=True, slots=True)
class SlotCounts:
    """How many slots of a schedule had which outcome since its creation.

    The counts are the sums of ``schedules.history``, and also include what was pruned from it.
    """

    ran: int = 0
    """Slots that have a run, whatever became of it. Those of backfills are included."""

    skipped: int = 0
    """Slots that were skipped, including coming ones that are skipped on request."""

    missed: int = 0
    """Slots that no worker could run in time."""


@dataclass(frozen=True, slots=True)
class Schedule(Shown):
    """The state of a schedule when it was read."""

    id: str
    workflow: str
    key: str
    cron: str | tuple[str, ...] | None
    """The cron expression, or several of them."""

    every: timedelta | None
    at: datetime | None
    timezone: str
    status: ScheduleStatus
    note: str | None
    """Why it is paused, retired, or broken, if known."""

    upcoming: datetime | None
    """The next slot; ``None`` if there is none, or if the schedule is not active."""

    last_timestamp: datetime | None
    """The slot of the most recent run."""

    overlap: Overlap
    catch_up: CatchUp
    max_catch_up: int
    catch_up_window: timedelta
    jitter: timedelta
    start_at: datetime | None
    end_at: datetime | None
    max_runs: int | None
    pause_after_failures: int | None
    priority: int | None
    """The priority of its runs; ``None`` for that of the workflow."""

    skip: tuple[date, ...] | None
    """The stored dates to skip. A calendar in the application's code is not listed."""

    input: Any = field(hash=False)
    """The data that the handler gets as ``ctx.input``."""

    owner: str | None
    """The application whose decorator declared it; ``None`` if it was created through the API."""

    overridden: bool
    """Whether ``update`` or ``create`` changed what the decorator declares; see ``reset``."""

    worker_available: bool
    """Whether a live worker has registered its workflow. Without one, slots wait or are missed."""

    created_at: datetime
    updated_at: datetime

    days: Days = "or"
    """Whether either day field of ``cron`` matches by itself, or both must."""

    weeks: int | None = None
    """Every how many weeks ``cron`` has slots; ``None`` for every week."""

    skipped: tuple[datetime, ...] = ()
    """Coming slots that are skipped on request; see ``schedules.unskip``."""

    tags: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Names and values by which ``schedules.list`` finds it."""

    skip_cron: tuple[str, ...] = ()
    """The days to skip besides the dates of ``skip``, as it takes them: ``"cron:* * 1 * *"``."""

    calendars: tuple[str, ...] = ()
    """The names of the stored calendars whose dates are skipped besides."""

    counts: SlotCounts = SlotCounts()
    """How many of its slots ran, were skipped, and were missed."""

    on_skip: OnSkip | None = None
    """What happens to slots on these days; ``None`` if they are only skipped."""

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
            cron=_cron(core.get("cron")),
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
            priority=core.get("priority"),
            skip=_dates(core.get("skip")),
            input=_value(core.get("input"), None, "input"),
            owner=core.get("owner"),
            overridden=core.get("overridden", False),
            worker_available=bool(core.get("worker_available", False)),
            created_at=_known(core["created_at"], zone),
            updated_at=_known(core["updated_at"], zone),
            days=core.get("days", "or"),
            weeks=core.get("weeks"),
            skipped=tuple(_known(slot, zone) for slot in core.get("skipped", ())),
            tags=dict(core.get("tags", {})),
            skip_cron=tuple(f"cron:{text}" for text in core.get("skip_cron", ())),
            calendars=tuple(core.get("calendars", ())),
            counts=SlotCounts(**core.get("counts", {})),
            on_skip=core.get("on_skip"),
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
    """What it returned; plain JSON data if the result's class is not imported here."""

    error: ErrorInfo | None = field(hash=False)
    wakes_at: datetime | None
    """When a waiting step continues: the end of a sleep, the next attempt, or the deadline of a
    wait for an event.
    """

    awaits_event: bool = False
    """Whether it waits for the event of its name (:func:`polos.runs.send`)."""

    timed_out: bool = False
    """Whether it waited for an event that did not come in time."""

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
            awaits_event=core.get("awaits_event", False),
            timed_out=core.get("timed_out", False),
        )


@dataclass(frozen=True, slots=True)
class Progress:
    """What a handler last reported with ``ctx.progress``."""

    fraction: float | None
    """From 0 to 1, or ``None`` if it is unknown."""

    message: str | None
    timestamp: datetime
    """When it was reported."""

    def __str__(self) -> str:
        parts = [] if self.fraction is None else [f"{self.fraction:.0%}"]
        return ", ".join([*parts, *([self.message] if self.message else [])])

    @classmethod
    def _from_core(cls, core: Any, zone: tzinfo) -> Self | None:
        if not isinstance(core, Mapping) or not isinstance(core.get("at"), int):
            return None
        fraction, message = core.get("fraction"), core.get("message")
        return cls(
            fraction=float(fraction) if isinstance(fraction, (int, float)) else None,
            message=message if isinstance(message, str) else None,
            timestamp=_known(core["at"], zone),
        )


@dataclass(frozen=True, slots=True)
class Run(Shown):
    """The state of a run when it was read."""

    id: str
    workflow: str
    key: str | None
    schedule_id: str | None
    timestamp: datetime | None
    """The slot; ``None`` if no schedule started it."""

    status: RunStatus
    attempt: int
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    result: Any = field(hash=False)
    """What it returned; plain JSON data if the result's class is not imported here."""

    error: ErrorInfo | None = field(hash=False)
    steps: tuple[StepInfo, ...] = field(hash=False)
    """Its steps, in the order in which they started; empty in lists of runs."""

    worker: str | None
    """The worker that executes it, or was the last to do so."""

    origin: str | None
    """What started it: ``schedule``, ``trigger``, ``backfill``, ``invoke``, ``child``,
    or ``hook``.
    """

    payload: Any = field(default=None, hash=False)
    """Its payload, if it was invoked; ``None`` in lists of runs."""

    input: Any = field(default=None, hash=False)
    """Its schedule's data when its slot came due; ``None`` in lists of runs."""

    parent: str | None = None
    """The run whose step invoked it; ``None`` in lists of runs."""

    last_timestamp: datetime | None = None
    """The slot of its schedule's previous run; ``None`` in lists of runs."""

    upcoming: datetime | None = None
    """The slot that was next when its own came due; ``None`` in lists of runs."""

    interruptions: int = 0
    """How many times in a row its worker died while it executed the run, without a newly recorded
    step. See ``max_interruptions`` of :func:`polos.workflow`.
    """

    note: str | None = None
    """Why it waits, if known."""

    due_at: datetime | None = None
    """When it may start, while it is queued; later than ``created_at`` for a delayed run.

    While it is waiting, when it continues at the latest, or since when it could; ``None`` if only
    an event or another run ends the wait.
    """

    progress: Progress | None = None
    """What its handler last reported with ``ctx.progress``, if anything."""

    priority: int = 0
    """From 0 to 9: of the runs that wait, those with a higher priority start first."""

    def _fields_shown(self) -> dict[str, Any]:
        steps = [f"{step.name}: {step.status}" for step in self.steps]
        return {
            "workflow": self.workflow,
            "key": self.key,
            "timestamp": self.timestamp,
            "status": self.status,
            "attempt": self.attempt,
            "priority": self.priority or None,
            "interruptions": self.interruptions or None,
            "note": self.note,
            "due_at": self.due_at,
            "progress": None if self.progress is None else str(self.progress),
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
            due_at=_instant(core.get("due_at"), zone),
            progress=Progress._from_core(core.get("progress"), zone),
            priority=core.get("priority", 0),
        )


@dataclass(frozen=True, slots=True)
class LedgerEntry(Shown):
    """The outcome of a slot, or of ``count`` consecutive slots with the same outcome."""

    timestamp: datetime
    """The slot, or the first of several."""

    until: datetime
    """The last of several slots; ``timestamp`` if there is only one."""

    count: int
    status: LedgerStatus
    reason: str | None
    run_id: str | None
    late_by: timedelta | None
    """The time from the slot to the start of the run."""

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


# Workers expire an idle one after three of its heartbeats, which are a minute apart.
_IDLE_SILENCE = timedelta(minutes=4)


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """A registered worker: neither deregistered nor expired."""

    id: str
    app: str
    """The application whose code it runs."""

    host: str
    """The machine, its boot, and its process namespace, within which ``pid`` is meaningful."""

    pid: int
    workflows: tuple[str, ...]
    """The workflows that it executes."""

    held: int
    """The number of runs that it holds now."""

    started_at: datetime
    seen_at: datetime
    """Its last heartbeat, by its own clock."""

    is_gone: bool
    """Whether its process is known to have died. Its runs are about to be released."""

    about: Mapping[str, Any] = field(hash=False)
    """Versions and the host name: ``polos``, ``python``, ``tzdata``, ``host``."""

    def _silent_for(
        self, now: datetime, workers: Sequence[WorkerInfo], limit: timedelta
    ) -> timedelta | None:
        """Return how long it has sent no heartbeat, where it should have: for more than ``limit``.

        A worker that holds runs sends heartbeats within its lease. An idle one sends one a minute
        while others are registered, and none while it is alone.
        """
        if not self.held:
            if len(workers) < 2:
                return None
            limit = max(limit, _IDLE_SILENCE)
        silence = now - self.seen_at
        return silence if silence > limit else None

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
class WorkerHealth:
    """Whether a worker of this process is alive, and whether it takes work: what its probes say."""

    live: bool
    """Whether its core and its event loop run. If not, a restart is the remedy."""

    ready: bool
    """Whether it is registered, is not draining, and reaches its database."""

    live_problem: str | None
    """Why it is not live, in one sentence."""

    ready_problem: str | None
    """Why it is not ready, in one sentence."""

    registered: bool
    draining: bool
    database_reachable: bool

    core_silent_for: timedelta
    """How long ago its core last moved; that happens several times a second."""

    loop_silent_for: timedelta
    """For how long its event loop has owed an answer; zero if it owes none."""

    @classmethod
    def _from_core(cls, core: Mapping[str, Any]) -> Self:
        return cls(
            live=core["live_problem"] is None,
            ready=core["ready_problem"] is None,
            live_problem=core["live_problem"],
            ready_problem=core["ready_problem"],
            registered=core["is_registered"],
            draining=core["is_draining"],
            database_reachable=core["is_database_reachable"],
            core_silent_for=timedelta(microseconds=core["core_silent_us"]),
            loop_silent_for=timedelta(microseconds=core["loop_silent_us"]),
        )

    @classmethod
    def _of_none(cls) -> Self:
        problem = "the worker is not running"
        return cls(
            live=False,
            ready=False,
            live_problem=problem,
            ready_problem=problem,
            registered=False,
            draining=False,
            database_reachable=False,
            core_silent_for=timedelta(0),
            loop_silent_for=timedelta(0),
        )


@dataclass(frozen=True, slots=True)
class BackfillInfo:
    """A backfill, and how far it is."""

    id: str
    schedule_id: str
    workflow: str
    concurrency: int | None
    """How many of its runs are in progress at once; ``None`` where the overlap policy decides."""

    succeeded: int
    failed: int
    cancelled: int
    running: int
    """The number of its runs that have started and not finished."""

    waiting: int
    """The number of its runs that have not started."""

    @property
    def total(self) -> int:
        """The number of its runs that are stored."""
        return self.done + self.running + self.waiting

    @property
    def done(self) -> int:
        """The number of its runs that are finished."""
        return self.succeeded + self.failed + self.cancelled

    @classmethod
    def _from_core(cls, core: Mapping[str, Any]) -> Self:
        return cls(**core)


@dataclass(frozen=True, slots=True)
class Calendar:
    """A stored calendar: days that schedules skip."""

    name: str
    dates: tuple[date, ...]
    """Its dates, in order."""

    updated_at: datetime

    @classmethod
    def _from_core(cls, core: Mapping[str, Any]) -> Self:
        return cls(
            name=core["name"],
            dates=tuple(map(date.fromisoformat, core["dates"])),
            updated_at=_known(core["updated_at"], _zone(None)),
        )


@dataclass(frozen=True, slots=True)
class LimitInfo:
    """A limit, and how much of it is in use."""

    name: str
    max: int | None
    """Most runs in progress at once; ``None`` for any number. Like the next three, the value that
    is in effect.
    """

    per_key: int | None
    """Most runs in progress at once with the same key."""

    rate: int | None
    """Most runs that start or resume in any period of the length ``per``."""

    per: timedelta | None
    """The period of ``rate``."""

    declared: Mapping[str, Any] = field(hash=False)
    """The values that the code declares: ``max``, ``per_key``, ``rate``, ``per``."""

    set_values: Mapping[str, Any] = field(hash=False)
    """Those of the values in effect that an operator set, under the same names."""

    overridden: bool
    """Whether an operator set values (``limits.set``)."""

    declared_by: tuple[str, ...]
    """The applications whose live workers declare it. A limit that none declares, because the code
    has it no more, can be deleted (``limits.delete``).
    """

    declared_differently: tuple[str, ...]
    """The applications whose live workers declare other values, which do not count."""

    workflows: tuple[str, ...]
    """The workflows whose runs count against it."""

    running: int
    """The number of its runs that are in progress."""

    running_of_key: int | None
    """Of these, the number with the key for which ``limits.get`` was asked."""

    starts_left: int | None
    """How many runs may start or resume now, as far as ``rate`` decides that; ``None`` without."""

    next_start_at: datetime | None
    """When the next one may, in UTC, if ``starts_left`` is 0."""

    queued: int
    """The number of its runs that are due and not in progress. Counting stops at 100,000."""

    queued_since: datetime | None
    """Since when the first of these has been due, in UTC."""

    updated_at: datetime
    """When the declaration or the operator's values last changed, in UTC."""

    @classmethod
    def _from_core(cls, core: Mapping[str, Any]) -> Self:
        declared = _limit_values(core["declared"])
        since, next_start = core["queued_since"], core["next_start_at"]
        return cls(
            name=core["name"],
            declared=declared,
            overridden=core["overridden"],
            declared_by=tuple(core["declared_by"]),
            set_values={
                name: value
                for name, value in _limit_values(core["set_values"]).items()
                if value is not None
            },
            declared_differently=tuple(core["declared_differently"]),
            workflows=tuple(core["workflows"]),
            running=core["running"],
            running_of_key=core["running_of_key"],
            starts_left=core["starts_left"],
            next_start_at=None if next_start is None else _known(next_start, timezone.utc),
            queued=core["queued"],
            queued_since=None if since is None else _known(since, timezone.utc),
            updated_at=_known(core["updated_at"], timezone.utc),
            **_limit_values(core),
        )


def _limit_values(core: Mapping[str, Any]) -> dict[str, Any]:
    values = {name: core[name] for name in ("max", "per_key", "rate")}
    per = core["per"]
    return {**values, "per": None if per is None else timedelta(microseconds=per)}


@dataclass(frozen=True, slots=True)
class Overview:
    """Counts of a project. Counting stops at ``counted_to``, so that millions take no longer."""

    now: datetime
    """The time of counting, in UTC, by the clock that decides when slots are due."""

    schedules: Mapping[str, int] = field(hash=False)
    """The number of schedules by status."""

    runs: Mapping[str, int] = field(hash=False)
    """The number of runs that are ``"queued"``, ``"running"``, and ``"waiting"``."""

    overdue: int
    """The number of active schedules whose next slot passed more than five seconds ago: no worker
    has registered their workflows, or the workers cannot keep up.
    """

    oldest_due: datetime | None
    """The earliest of these slots, in UTC."""

    counted_to: int
    """A count that equals this number means "at least"."""

    hook_calls: Mapping[str, int] = field(default_factory=dict, hash=False)
    """The number of hook calls that are due and that no live worker is making, by workflow."""

    oldest_hook_call: datetime | None = None
    """When the first of these calls became due, in UTC."""

    @classmethod
    def _from_core(cls, core: Mapping[str, Any]) -> Self:
        return cls(
            now=_known(core["now"], timezone.utc),
            schedules=dict(core["schedules"]),
            runs=dict(core["runs"]),
            overdue=core["overdue"],
            oldest_due=_instant(core.get("oldest_due"), timezone.utc),
            counted_to=core["counted_to"],
            hook_calls=dict(core["hook_calls"]),
            oldest_hook_call=_instant(core.get("oldest_hook_call"), timezone.utc),
        )


@dataclass(frozen=True, slots=True)
class Page(Generic[ItemT]):
    """A page of a list. ``cursor`` requests the next page; ``None`` on the last one."""

    items: tuple[ItemT, ...]
    cursor: str | None = None


# --- from integers ---------------------------------------------------------------------------

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def _zone(name: Any) -> tzinfo:
    if not isinstance(name, str) or name == "UTC":
        return timezone.utc if name is None else ZoneInfo("UTC")
    try:
        return ZoneInfo(name)
    except Exception:  # unknown or damaged; the instant is correct in any zone
        return timezone.utc


def _known(micros: int, zone: tzinfo) -> datetime:
    instant = _EPOCH + timedelta(microseconds=micros)
    try:
        return instant.astimezone(zone)
    except OverflowError:  # the first or last hours that a datetime supports
        return instant


def _instant(micros: int | None, zone: tzinfo) -> datetime | None:
    return None if micros is None else _known(micros, zone)


def _duration(micros: int | None) -> timedelta | None:
    return None if micros is None else timedelta(microseconds=micros)


def _cron(given: Any) -> str | tuple[str, ...] | None:
    return tuple(given) if isinstance(given, (list, tuple)) else given


def _dates(texts: Any) -> tuple[date, ...] | None:
    if not isinstance(texts, (list, tuple)):
        return None
    return tuple(date.fromisoformat(text) for text in texts)


def _value(text: str | bytes | None, annotation: Any, name: str) -> Any:
    return None if text is None else decode_for_display(text, annotation, name=name)
