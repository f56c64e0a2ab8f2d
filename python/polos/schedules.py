"""Create, read, and change schedules.

Every function takes the client first. :data:`sync` has blocking versions of all of them.
"""

from __future__ import annotations

import functools
import json
import sys
import warnings
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from datetime import timezone as _utc_zone
from typing import TYPE_CHECKING, Any, Literal
from zoneinfo import ZoneInfo

from pydantic_core import to_json

from polos import _polos
from polos._core.blocking import blocking
from polos._core.drafts import Drafts
from polos._core.instants import aware, from_micros, to_micros
from polos._core.real_datetime import datetime
from polos._display.notebook import Listed
from polos._validate.arguments import count_of, one_of
from polos._validate.formatting import shown
from polos._validate.payloads import check_schedulable
from polos._validate.schedule_options import check_identifier, core_spec, normalise_schedule
from polos.client import checked_client
from polos.exceptions import InvalidArgumentError, InvalidScheduleError, ScheduleFrequencyWarning
from polos.runs import RunHandle
from polos.workflow import Workflow, registered, registry

if TYPE_CHECKING:
    import builtins

    from polos.client import PolosClient
    from polos.models import CatchUp, LedgerEntry, Overlap, Schedule, ScheduleStatus

__all__ = [
    "Explanation",
    "backfill",
    "coming",
    "create",
    "create_many",
    "delete",
    "explain",
    "get",
    "history",
    "list",
    "pause",
    "preview",
    "reset",
    "resume",
    "skip",
    "sync",
    "trigger",
    "update",
]

_PAGE = 1_000
_STATES = ("active", "paused", "retired", "finished", "broken")


# --- create ----------------------------------------------------------------------------------


async def create(
    client: PolosClient,
    workflow: str | Workflow[Any, Any],
    cron: str | None = None,
    timezone: str = "UTC",
    key: str = "global",
    *,
    every: float | timedelta | None = None,
    at: datetime | None = None,
    overlap: Overlap = "buffer_one",
    catch_up: CatchUp = "latest",
    max_catch_up: int = 100,
    catch_up_window: float | timedelta = timedelta(days=1),
    jitter: float | timedelta = timedelta(0),
    start_at: datetime | None = None,
    end_at: datetime | None = None,
    max_runs: int | None = None,
    pause_after_failures: int | None = None,
    skip: Any = None,
    input: Any = None,
) -> str:
    """Create the schedule for ``(workflow, key)``, or update it, and return its id.

    This is safe to call on every start. If the trigger is unchanged, the schedule keeps its next
    slot and loses none that is due. A changed trigger counts from now. A paused schedule stays
    paused.

    Cron times that a clock change skips fire at the first instant after the gap. Times that occur
    twice fire once, in the first pass. Expressions whose minutes or hours begin with ``*`` follow
    elapsed time instead.

    :param workflow: an id, or the decorated function.
    :param cron: five fields. Pass exactly one of ``cron``, ``every``, and ``at``.
    :param timezone: an IANA name.
    :param key: distinguishes the schedules of one workflow: a user's id, for example.
    :param every: a period of at least one second, as ``timedelta`` or seconds. Slots are counted
        from ``start_at``, or else from the Unix epoch, so they do not drift.
    :param at: an aware datetime at which to fire once. If it has passed, it follows ``catch_up``:
        it runs once, late, if it is within ``catch_up_window``, or else it enters the history as
        missed. The worker logs which. A slot that is in the history does not run again.
    :param overlap: what happens to a slot that comes due while a run of this schedule is
        unfinished: ``"buffer_one"`` (one waits, further ones are skipped), ``"skip"``,
        ``"buffer_all"``, ``"cancel_running"``, ``"allow"``.
    :param catch_up: what happens to slots that no worker could run on time: ``"latest"`` (run the
        newest), ``"all"`` (run the newest ``max_catch_up``, oldest first, one after another; with
        ``overlap="cancel_running"`` each cancels the one before, so only the newest runs),
        ``"none"``.
    :param max_catch_up: how many slots ``catch_up="all"`` runs at most.
    :param catch_up_window: slots older than this are missed under every policy. Seconds or
        ``timedelta``.
    :param jitter: the longest delay added to a start, always the same for a given slot. Seconds or
        ``timedelta``.
    :param start_at: no slot before this. :param end_at: no slot at or after this.
    :param max_runs: the schedule is finished after this many runs.
    :param pause_after_failures: the schedule pauses after this many failed runs in a row.
    :param skip: dates to leave out.
    :param input: JSON-able data that the handler gets as ``ctx.input``.

    Raises :class:`InvalidScheduleError` (:class:`InvalidCronError`,
    :class:`InvalidTimezoneError`), :class:`WorkflowNotFoundError` with the nearest id, or
    :class:`WorkflowNotSchedulableError`. Then nothing is written.
    """
    options = {
        name: value
        for name, value in {
            "cron": cron,
            "every": every,
            "at": at,
            "timezone": timezone,
            "key": key,
            "overlap": overlap,
            "catch_up": catch_up,
            "max_catch_up": max_catch_up,
            "catch_up_window": catch_up_window,
            "jitter": jitter,
            "start_at": start_at,
            "end_at": end_at,
            "max_runs": max_runs,
            "pause_after_failures": pause_after_failures,
            "skip": skip,
            "input": input,
        }.items()
        if value is not _default(name)
    }
    checked_client(client)
    drafts = Drafts()
    _add(drafts, workflow, options)
    return (await _put(client, drafts))[0]


# The default objects of the signature, which need no check.
_default = {**(create.__kwdefaults__ or {}), "timezone": "UTC", "key": "global"}.get


async def create_many(
    client: PolosClient, schedules: Iterable[Mapping[str, Any]]
) -> builtins.list[str]:
    """Create or update many schedules in one transaction: all or none.

    Each schedule is a dict with the names that :func:`create` takes. The ids are returned in the
    same order. Raises what :func:`create` raises, with the position of the invalid schedule.
    """
    checked_client(client)
    drafts = Drafts()
    for index, options in enumerate(schedules):
        if not isinstance(options, Mapping):
            raise InvalidScheduleError(
                f"schedules[{index}]: {shown(options)} given, expected a dict with the names "
                f"that `schedules.create` takes"
            )
        rest = dict(options)
        if "workflow" not in rest:
            raise InvalidScheduleError(f"schedules[{index}] has no `workflow`")
        try:
            _add(drafts, rest.pop("workflow"), rest)
        except (InvalidScheduleError, InvalidArgumentError) as error:
            raise type(error)(f"schedules[{index}]: {error}") from None
    return await _put(client, drafts) if drafts else []


async def _put(client: PolosClient, drafts: Drafts) -> builtins.list[str]:
    local = sorted(registry()) if drafts.has_unknown_workflows() else []
    request = {"create": {"drafts": drafts.for_core(), "local_workflows": local}}
    ids: builtins.list[str] = await client._ask_text(to_json(request).decode())
    return ids


def _add(drafts: Drafts, workflow: str | Workflow[Any, Any], options: Mapping[str, Any]) -> None:
    if isinstance(workflow, Workflow):
        check_schedulable(workflow, workflow.payload_type)
        drafts.add(workflow.id, workflow.schedulable, options, check_declaration)
        return
    known = registered(workflow) if type(workflow) is str else None
    if known is not None:
        check_schedulable(known, known.payload_type)
        drafts.add(known.id, known.schedulable, options, check_declaration)
    else:
        drafts.add(check_identifier("workflow", workflow), None, options, check_declaration)


def declared(workflows: Container[str]) -> dict[str, Any]:
    """Return what the decorators of this process declare for these workflows, for the core."""
    drafts = Drafts()
    for workflow in registry().values():
        schedule = workflow.schedule
        if workflow.id in workflows and schedule is not None and schedule is not True:
            check_schedulable(workflow, workflow.payload_type)
            calendar = schedule.skip_calendar
            drafts.declare(workflow.id, schedule.spec, has_calendar=calendar is not None)
    return drafts.for_core()


_frequent_seen: set[tuple[str, str]] = set()


def check_declaration(spec: Mapping[str, Any]) -> None:
    """Check what only the core understands: cron syntax and time zones.

    Also warns, once per schedule text, if a schedule fires too often.
    """
    stored = core_spec(spec)
    is_frequent = _is_frequent(json.dumps(stored))
    mark = (str(stored.get("cron")), str(stored.get("timezone")))
    if is_frequent and mark not in _frequent_seen:
        _frequent_seen.add(mark)
        warnings.warn(
            f"the schedule `{stored['cron']}` fires more than once in 5 minutes; for work that "
            f"arrives, use a queue or an event, and for a steady pace use `every=`. "
            f"To silence this: warnings.simplefilter('ignore', polos.ScheduleFrequencyWarning)",
            ScheduleFrequencyWarning,
            stacklevel=_caller_depth(),
        )


# Many schedules, created one by one, share few specifications.
_is_frequent = functools.lru_cache(maxsize=1_000)(_polos.check_spec)


def _caller_depth() -> int:
    """Return the depth of the first frame outside this package, so that a warning points there."""
    depth, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("polos"):
        depth, frame = depth + 1, frame.f_back
    return depth


# --- read ------------------------------------------------------------------------------------


async def get(client: PolosClient, id: str) -> Schedule:
    """Return a schedule. Raises :class:`ScheduleNotFoundError`."""
    return _schedule(await checked_client(client)._ask("get_schedule", id=_id(id)))


async def list(
    client: PolosClient,
    *,
    workflow: str | Workflow[Any, Any] | None = None,
    key: str | None = None,
    status: ScheduleStatus | None = None,
    owner: str | None = None,
    key_prefix: str | None = None,
    limit: int | None = None,
    after: str | None = None,
) -> builtins.list[Schedule]:
    """Return the schedules that match all filters, ordered by id.

    :param key_prefix: only keys with this prefix. The list is then ordered by key and workflow, and
        ``after`` must exist (otherwise :class:`ScheduleNotFoundError`).
    :param limit: return at most this many; all by default.
    :param after: continue after this id, the last one of the previous page.
    """
    if limit is not None:
        count_of("limit", limit)
    if status is not None:
        one_of("status", status, _STATES)
    if key_prefix is not None and not isinstance(key_prefix, str):
        raise InvalidArgumentError(f"key_prefix: {shown(key_prefix)} given, expected text")
    found: Listed[Schedule] = Listed()
    # Where the previous page ended, in case that schedule is deleted meanwhile.
    after_key: tuple[str, str] | None = None
    while limit is None or len(found) < limit:
        count = _PAGE if limit is None else min(_PAGE, limit - len(found))
        page = await checked_client(client)._ask(
            "list_schedules",
            workflow=_workflow_id(workflow),
            key=key,
            status=status,
            owner=owner,
            key_prefix=key_prefix,
            limit=count,
            after=after,
            after_key=after_key,
        )
        found += [_schedule(item) for item in page]
        if len(page) < count:
            break
        after = page[-1]["id"]
        if key_prefix is not None:
            after_key = (page[-1]["key"], page[-1]["workflow"])
    return found


async def coming(
    client: PolosClient, *, until: datetime, limit: int = 100
) -> builtins.list[Schedule]:
    """Return active schedules of all workflows whose next slot is at or before ``until``.

    Earliest first, and at most ``limit``.
    """
    found = await checked_client(client)._ask(
        "coming", until=aware("until", until), limit=count_of("limit", limit, most=10_000)
    )
    return Listed(_schedule(item) for item in found)


async def history(
    client: PolosClient, id: str, *, limit: int = 100, before: datetime | None = None
) -> builtins.list[LedgerEntry]:
    """Return the outcomes of the schedule's slots, newest first.

    Returns at most ``limit`` entries, of slots before ``before``. A deleted schedule keeps its
    history. Raises :class:`ScheduleNotFoundError`.
    """
    after = None if before is None else aware("before", before)
    entries = await checked_client(client)._ask(
        "history", id=_id(id), limit=count_of("limit", limit), after=after
    )
    return Listed(_ledger_entry(entry) for entry in entries)


# --- change ----------------------------------------------------------------------------------


async def update(client: PolosClient, id: str, **changes: Any) -> Schedule:
    """Change some of the options of :func:`create`, keep the rest, and return the schedule.

    A changed trigger or time zone counts from now. ``None`` removes an optional bound. For a
    schedule that a decorator declares, the change is an override (``Schedule.overridden``): it is
    kept through restarts until :func:`reset`, or until the decorator itself changes.

    An ``at`` that has passed follows ``catch_up``, as for :func:`create`. If ``start_at`` or
    ``end_at`` changes, due slots within the new bounds stay due. A slot that was skipped, or has
    run, gets no second outcome. A finished schedule is active again if the change gives it a slot.

    Raises what :func:`create` raises, and :class:`ScheduleNotFoundError`.
    """
    if "key" in changes:
        raise InvalidScheduleError(
            "key: a schedule's key cannot change; create one with the other key and delete this one"
        )
    spec = normalise_schedule(changes, partial=True)
    fields: dict[str, Any] = {"has_input": "input" in spec}
    data = spec.pop("input", None)
    fields["input"] = None if data is None else json.loads(data)
    if spec.pop("skip_calendar", None) is not None:
        raise InvalidScheduleError(
            "skip: a calendar object cannot be stored with a schedule; pass a list of dates"
        )
    answer = await checked_client(client)._ask("update", id=_id(id), changes=spec, **fields)
    return _schedule(answer)


async def reset(client: PolosClient, id: str) -> Schedule:
    """Undo what :func:`update` or :func:`create` changed on a schedule that a decorator declares.

    Restores what the code declares. Has no effect on a schedule that was not changed.

    Raises :class:`ScheduleNotFoundError`, and :class:`InvalidStateError` for a schedule that no
    code declares.
    """
    return _schedule(await checked_client(client)._ask("reset", id=_id(id)))


async def pause(client: PolosClient, id: str, note: str | None = None) -> Schedule:
    """Pause a schedule until :func:`resume`.

    ``note`` is shown in lists. Pausing a paused schedule only updates its note.

    Raises :class:`ScheduleNotFoundError`, and :class:`InvalidStateError` for a schedule that is
    neither active nor paused.
    """
    return _schedule(await checked_client(client)._ask("pause", id=_id(id), note=note))


async def resume(client: PolosClient, id: str) -> Schedule:
    """Resume a paused schedule. Slots from the pause follow the catch-up policy.

    Has no effect on an active schedule. Raises what :func:`pause` raises.
    """
    return _schedule(await checked_client(client)._ask("resume", id=_id(id)))


async def skip(client: PolosClient, id: str) -> Schedule:
    """Skip the next slot only. The history records it as skipped.

    Raises :class:`ScheduleNotFoundError`, and :class:`InvalidStateError` if there is no next slot,
    or if it is already due.
    """
    return _schedule(await checked_client(client)._ask("skip", id=_id(id)))


async def delete(client: PolosClient, id: str) -> None:
    """Delete a schedule.

    No run of it starts after this has returned. Running runs continue, waiting runs are cancelled,
    and the history stays.

    Raises :class:`ScheduleNotFoundError`, and :class:`InvalidStateError` for a schedule that a
    decorator declares, because it would return at the next start; :func:`pause` it instead.
    """
    await checked_client(client)._ask("delete", id=_id(id))


async def trigger(
    client: PolosClient, id: str, *, overlap: Literal["schedule"] | None = None
) -> RunHandle[Any]:
    """Start a run now, beside unfinished runs of the schedule, and return its handle.

    The schedule's own slots stay as they are. Slots that come due while the run is unfinished
    follow the schedule's ``overlap`` policy.

    :param overlap: ``"schedule"`` applies that policy to this run too: ``"skip"`` raises
        :class:`InvalidStateError` while a run is unfinished, ``"buffer_one"`` runs after it (and
        raises if a run is already waiting), ``"buffer_all"`` runs after all of them,
        ``"cancel_running"`` cancels them, ``"allow"`` runs at once. By default the run starts at
        once, whatever the policy.

    Raises :class:`ScheduleNotFoundError`, and :class:`InvalidArgumentError` for another
    ``overlap``.
    """
    if overlap not in (None, "schedule"):
        raise InvalidArgumentError(
            f"overlap: {shown(overlap)} given, expected `schedule` (apply the schedule's own "
            f"policy), or nothing (run at once)"
        )
    answer = await checked_client(client)._ask(
        "trigger", id=_id(id), applies_overlap=overlap is not None
    )
    return RunHandle(client, answer["run_id"])


async def backfill(
    client: PolosClient, id: str, start: datetime, end: datetime, *, dry_run: bool = False
) -> builtins.list[datetime]:
    """Run the slots of ``[start, end)`` that have no run yet, oldest first, and return them.

    A second call adds nothing. With ``dry_run`` nothing starts. Unless ``overlap`` is ``"allow"``,
    the runs execute one after another.

    Raises :class:`ScheduleNotFoundError`, and :class:`InvalidArgumentError` for a range that
    is empty, too long, or reaches into the future.
    """
    schedule = await get(client, id)
    answer = await checked_client(client)._ask(
        "backfill",
        id=_id(id),
        start=aware("start", start),
        end=aware("end", end),
        dry_run=bool(dry_run),
    )
    zone = ZoneInfo(schedule.timezone)
    return [from_micros(slot).astimezone(zone) for slot in answer["slots"]]


# --- without a client ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Explanation:
    """The meaning of a cron expression."""

    english: str
    """The meaning in English."""

    upcoming: tuple[datetime, ...]
    """The next slots, in the schedule's zone."""

    notes: tuple[str, ...]
    """Remarks: upcoming clock changes, likely mistakes."""

    def __str__(self) -> str:
        lines = [self.english]
        lines += [f"  {slot:%a %Y-%m-%d %H:%M %Z}" for slot in self.upcoming]
        lines += [f"  note: {note}" for note in self.notes]
        return "\n".join(lines)


def preview(
    cron: str, timezone: str = "UTC", count: int = 5, after: datetime | None = None
) -> builtins.list[datetime]:
    """Return the next ``count`` slots strictly after ``after`` (now by default), in the zone.

    Returns fewer at the end of the year 9999. Raises :class:`InvalidCronError` and
    :class:`InvalidTimezoneError`.
    """
    spec = normalise_schedule({"cron": cron, "timezone": timezone})
    start = _now_micros() if after is None else aware("after", after)
    slots = _polos.next_slots(spec["cron"], spec["timezone"], count_of("count", count), start)
    return _in_zone(slots, ZoneInfo(spec["timezone"]))


def _in_zone(slots: Iterable[int], zone: ZoneInfo) -> builtins.list[datetime]:
    """Convert slots to datetimes, up to the year 9999, the last that a ``datetime`` supports."""
    fromutc, epoch = zone.fromutc, datetime(1970, 1, 1, tzinfo=zone)
    found: builtins.list[datetime] = []
    for slot in slots:
        try:
            found.append(fromutc(epoch + timedelta(0, 0, slot)))
        except OverflowError:
            break
    return found


def explain(
    cron: str, timezone: str = "UTC", count: int = 5, after: datetime | None = None
) -> Explanation:
    """Explain ``cron``: its meaning in English, its next slots, and notes on clock changes.

    Raises :class:`InvalidCronError` and :class:`InvalidTimezoneError`.
    """
    spec = normalise_schedule({"cron": cron, "timezone": timezone})
    start = _now_micros() if after is None else aware("after", after)
    english, slots, notes = _polos.explain(
        spec["cron"], spec["timezone"], count_of("count", count), start
    )
    zone = ZoneInfo(spec["timezone"])
    upcoming = tuple(_in_zone(slots, zone))
    return Explanation(english, upcoming, tuple(notes))


def _now_micros() -> int:
    import datetime  # imported here because a test may have frozen the time

    return to_micros(datetime.datetime.now(_utc_zone.utc))


# --- arguments -------------------------------------------------------------------------------


def _schedule(core: Any) -> Schedule:
    from polos.models import Schedule

    return Schedule._from_core(core)


def _ledger_entry(core: Any) -> LedgerEntry:
    from polos.models import LedgerEntry

    return LedgerEntry._from_core(core)


def _id(value: Any) -> str:
    if not isinstance(value, str):
        raise InvalidArgumentError(f"id: {shown(value)} given, expected a schedule's id (text)")
    return value


def _workflow_id(value: str | Workflow[Any, Any] | None) -> str | None:
    return value.id if isinstance(value, Workflow) else value


class sync:
    """The same functions for code without an event loop. They block the calling thread.

    ``schedules.sync.create(client, ...)``; arguments, results, and errors are the same.
    """

    create = staticmethod(blocking(create))
    create_many = staticmethod(blocking(create_many))
    get = staticmethod(blocking(get))
    list = staticmethod(blocking(list))
    coming = staticmethod(blocking(coming))
    history = staticmethod(blocking(history))
    update = staticmethod(blocking(update))
    reset = staticmethod(blocking(reset))
    pause = staticmethod(blocking(pause))
    resume = staticmethod(blocking(resume))
    skip = staticmethod(blocking(skip))
    delete = staticmethod(blocking(delete))
    trigger = staticmethod(blocking(trigger))
    backfill = staticmethod(blocking(backfill))
