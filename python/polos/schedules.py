"""Create, read, and change schedules.

Every function takes the client first. :data:`sync` has blocking versions of all of them.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable, Container, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Concatenate, Literal, ParamSpec
from zoneinfo import ZoneInfo

from polos import _polos
from polos._codec.codec import decode
from polos._core import requests
from polos._core.addressing import schedule_id, workflow_id
from polos._core.blocking import blocking
from polos._core.drafts import Drafts
from polos._core.instants import aware, from_micros
from polos._core.real_datetime import datetime
from polos._core.specs import compile_spec
from polos._display.notebook import Listed
from polos._validate.arguments import count_of, one_of
from polos._validate.formatting import shown
from polos._validate.schedule_options import (
    CATCH_UPS,
    check_identifier,
    check_input,
    check_tags,
    normalise_schedule,
)
from polos.client import checked_client
from polos.exceptions import (
    InvalidArgumentError,
    InvalidScheduleError,
    InvalidStateError,
    ScheduleFrequencyWarning,
)
from polos.runs import RunHandle
from polos.workflow import Workflow, registered, registry

if TYPE_CHECKING:
    import builtins
    from datetime import date

    from polos.backfills import Backfill
    from polos.client import PolosClient
    from polos.models import (
        Calendar,
        CatchUp,
        Days,
        LedgerEntry,
        OnSkip,
        Overlap,
        Schedule,
        ScheduleStatus,
    )

    Calendars = Iterable[Calendar] | Mapping[str, Iterable[date | str]]

__all__ = [
    "Explanation",
    "PutResult",
    "backfill",
    "coming",
    "create",
    "create_in",
    "create_many",
    "delete",
    "explain",
    "get",
    "history",
    "list",
    "pause",
    "preview",
    "put",
    "reset",
    "resume",
    "skip",
    "sync",
    "trigger",
    "unskip",
    "upcoming",
    "update",
]

P = ParamSpec("P")

_PAGE = 1_000
# The core keeps so many skipped slots per schedule.
_SKIPS_MAX = 1_000
_AT_ONCE_MAX = 100_000
_STATES = ("active", "paused", "retired", "finished", "broken")


# --- create ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PutResult:
    """What :func:`put` did."""

    id: str
    """The schedule's id."""

    outcome: Literal["created", "updated", "unchanged"]
    """Whether the schedule was created, was changed, or was so already."""


async def create(
    client: PolosClient,
    workflow: str | Workflow[Any, Any],
    cron: str | Sequence[str] | None = None,
    timezone: str = "UTC",
    key: str = "global",
    *,
    every: float | timedelta | None = None,
    at: datetime | None = None,
    days: Days | None = None,
    weeks: int | None = None,
    overlap: Overlap = "buffer_one",
    catch_up: CatchUp = "latest",
    max_catch_up: int = 100,
    catch_up_window: float | timedelta = timedelta(days=1),
    jitter: float | timedelta = timedelta(0),
    start_at: datetime | None = None,
    end_at: datetime | None = None,
    max_runs: int | None = None,
    pause_after_failures: int | None = None,
    priority: int | None = None,
    skip: Any = None,
    on_skip: OnSkip | None = None,
    tags: Mapping[str, str] | None = None,
    run_on_create: bool = False,
    input: Any = None,
) -> str:
    """Create the schedule for ``(workflow, key)``, or replace its options, and return its id.

    An existing schedule gets all options as they are given here, and the defaults of those that are
    not given; :func:`update` changes only what it names, and :func:`put` returns what it did.

    This is safe to call on every start. If the trigger is unchanged, the schedule keeps its next
    slot and loses none that is due. A changed trigger counts from now. A paused schedule stays
    paused.

    Cron times that a clock change skips fire at the first instant after the gap. Times that occur
    twice fire once, in the first pass. Expressions whose minutes or hours begin with ``*`` follow
    elapsed time instead.

    :param workflow: an id, or the decorated function.
    :param cron: five fields, or a list of such expressions: the schedule fires when any of them
        does, once where several do at the same instant. Pass exactly one of ``cron``, ``every``,
        and ``at``.
    :param timezone: an IANA name.
    :param key: distinguishes the schedules of one workflow: a user's id, for example.
    :param every: a period of at least one second, as ``timedelta`` or seconds. Slots are counted
        from ``start_at``, or else from the Unix epoch, so they do not drift. A period is elapsed
        time, so whole days in a zone other than UTC are rejected.
    :param at: an aware datetime at which to fire once. If it has passed, it follows ``catch_up``:
        it runs once, late, if it is within ``catch_up_window``, or else it enters the history as
        missed. The worker logs which. A slot that is in the history does not run again.
    :param days: ``"and"``: where a cron expression restricts both the day of the month and the day
        of the week, both must match. By default (``"or"``) either one does.
    :param weeks: only every so many weeks have slots of ``cron``, counted from the local week of
        ``start_at``, which is then required. Weeks begin on Monday.
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
    :param priority: from 0 to 9; a run with a higher one starts earlier where runs wait for a
        worker or a limit. By default that of the workflow.
    :param skip: days without slots, in the schedule's zone: dates, texts such as ``2026-12-25``,
        cron expressions of whole days such as ``"cron:* * 1 * *"``, the first day of each month,
        and names of stored calendars such as ``"us-holidays"`` (:mod:`polos.calendars`). One
        expression or name needs no list.
    :param on_skip: ``"next_workday"``: a slot on one of these days moves to the same local time of
        the next day from Monday to Friday that is not skipped, instead of being dropped. Where it
        meets another slot of the schedule, there is one run.
    :param tags: names and values of your own, such as ``{"team": "billing"}``, by which
        :func:`list` and the command line find the schedule: at most 32, with names of up to 100
        characters and values of up to 255.
    :param run_on_create: start a run at once, in the same transaction, if this creates the
        schedule, and not if it exists: of processes that create it at once, exactly one starts it.
        Its ``payload.timestamp`` is the time of the creation, and its origin is ``"create"``. It
        starts also before ``start_at``, and does not count for ``max_runs``.
    :param input: the payload of its runs, if the handler's payload is annotated with a type of its
        own: an object of that type, or data that describes one. Otherwise data that the handler
        reads as ``ctx.input``.

    Raises :class:`InvalidScheduleError` (:class:`InvalidCronError`,
    :class:`InvalidTimezoneError`), :class:`WorkflowNotFoundError` with the nearest id,
    :class:`CalendarNotFoundError`, or :class:`WorkflowNotSchedulableError`. Then nothing is
    written.
    """
    checked_client(client)
    drafts = Drafts()
    options = _given(
        cron=cron,
        every=every,
        at=at,
        days=days,
        weeks=weeks,
        timezone=timezone,
        key=key,
        overlap=overlap,
        catch_up=catch_up,
        max_catch_up=max_catch_up,
        catch_up_window=catch_up_window,
        jitter=jitter,
        start_at=start_at,
        end_at=end_at,
        max_runs=max_runs,
        pause_after_failures=pause_after_failures,
        priority=priority,
        skip=skip,
        on_skip=on_skip,
        tags=tags,
        run_on_create=run_on_create,
        input=input,
    )
    _add(drafts, workflow, options)
    return (await client._ask(requests.create(drafts.for_core(), _local_for(drafts))))[0]


async def put(
    client: PolosClient,
    workflow: str | Workflow[Any, Any],
    cron: str | Sequence[str] | None = None,
    timezone: str = "UTC",
    key: str = "global",
    *,
    every: float | timedelta | None = None,
    at: datetime | None = None,
    days: Days | None = None,
    weeks: int | None = None,
    overlap: Overlap = "buffer_one",
    catch_up: CatchUp = "latest",
    max_catch_up: int = 100,
    catch_up_window: float | timedelta = timedelta(days=1),
    jitter: float | timedelta = timedelta(0),
    start_at: datetime | None = None,
    end_at: datetime | None = None,
    max_runs: int | None = None,
    pause_after_failures: int | None = None,
    priority: int | None = None,
    skip: Any = None,
    on_skip: OnSkip | None = None,
    tags: Mapping[str, str] | None = None,
    run_on_create: bool = False,
    input: Any = None,
) -> PutResult:
    """Create or update a schedule like :func:`create`, and tell which.

    Takes what :func:`create` takes. The outcome is decided by the transaction that writes: of
    several processes that put the same schedule at once, exactly one gets ``"created"``.

    Raises what :func:`create` raises.
    """
    checked_client(client)
    drafts = Drafts()
    options = _given(
        cron=cron,
        every=every,
        at=at,
        days=days,
        weeks=weeks,
        timezone=timezone,
        key=key,
        overlap=overlap,
        catch_up=catch_up,
        max_catch_up=max_catch_up,
        catch_up_window=catch_up_window,
        jitter=jitter,
        start_at=start_at,
        end_at=end_at,
        max_runs=max_runs,
        pause_after_failures=pause_after_failures,
        priority=priority,
        skip=skip,
        on_skip=on_skip,
        tags=tags,
        run_on_create=run_on_create,
        input=input,
    )
    _add(drafts, workflow, options)
    answer = (await client._ask(requests.put(drafts.for_core(), _local_for(drafts))))[0]
    return PutResult(id=answer["id"], outcome=answer["outcome"])


def _given(**options: Any) -> dict[str, Any]:
    """Return the options that differ from the defaults of the signature, which need no check."""
    return {name: value for name, value in options.items() if value is not _default(name)}


_default = {**(create.__kwdefaults__ or {}), "timezone": "UTC", "key": "global"}.get


def _with_options_of(
    create: Callable[Concatenate[PolosClient, P], Coroutine[Any, Any, str]],
) -> Callable[
    [Callable[..., Coroutine[Any, Any, str]]],
    Callable[Concatenate[Any, PolosClient, P], Coroutine[Any, Any, str]],
]:
    """Give a function the parameters of ``create``, after a connection."""
    return lambda function: function


@_with_options_of(create)
async def create_in(
    connection: Any,
    client: PolosClient,
    workflow: str | Workflow[Any, Any],
    *values: Any,
    **options: Any,
) -> str:
    """Create the schedule for ``(workflow, key)`` in a transaction of the application.

    It exists when the transaction has committed, and not after a rollback. ``connection`` is what
    ``Workflow.invoke_in`` takes; the other parameters are those of :func:`create`.

    If the schedule exists already and is equal, its id is returned. One that differs is not
    changed, because its row would stay locked until the transaction ends, and workers would wait
    for it: then :class:`InvalidStateError` is raised. The call waits while another transaction that
    creates a schedule with the same key is open.

    Slots are counted from this call. Those that are due before the commit follow ``catch_up``.
    Raises what :func:`create` and ``Workflow.invoke_in`` raise.
    """
    named = dict(zip(_POSITIONAL, values, strict=False))
    if len(values) > len(_POSITIONAL) or not named.keys().isdisjoint(options):
        raise TypeError(
            f"create_in() takes {', '.join(_POSITIONAL)} by position, each once; give the other "
            f"options by name"
        )
    if options.get("run_on_create"):
        raise InvalidArgumentError(
            "run_on_create: not with `create_in`; start the run with `invoke_in` on the same "
            "connection, or call `schedules.create` after the commit"
        )
    drafts = Drafts()
    _add(drafts, workflow, {**named, **options})
    local = _local_for(drafts)
    from polos._transactions.execute import create_in_transaction  # few programs need it

    created = await create_in_transaction(
        connection,
        checked_client(client),
        "schedules.create_in",
        lambda: requests.create_in(drafts.for_core(), local),
    )
    if not created.is_equal:
        raise InvalidStateError(
            f"the schedule `{created.id}` has this workflow and key already, and differs or is not "
            f"active; a transaction can't change it without blocking workers: call "
            f"`schedules.create` after the commit"
        )
    return created.id


# The options that `create` takes by position too.
_POSITIONAL = ("cron", "timezone", "key")


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
    if not drafts:
        return []
    ids: builtins.list[str] = await client._ask(
        requests.create(drafts.for_core(), _local_for(drafts))
    )
    return ids


def _local_for(drafts: Drafts) -> builtins.list[str]:
    """Return the workflows of this process, if a draft names one that it has not registered."""
    return sorted(registry()) if drafts.has_unknown_workflows() else []


def _add(drafts: Drafts, workflow: str | Workflow[Any, Any], options: Mapping[str, Any]) -> None:
    known = workflow if isinstance(workflow, Workflow) else None
    if type(workflow) is str:
        known = registered(workflow)
    if known is None:
        drafts.add(check_identifier("workflow", workflow), None, options, _compiled)
        return
    if not known.takes_slot:
        options = {**options, "input": known.input_from(options.get("input"))}
    drafts.add(known.id, known.schedulable, options, _compiled)


def declared(workflows: Container[str]) -> requests.Drafts:
    """Return what the decorators of this process declare for these workflows, for the core."""
    drafts = Drafts()
    for workflow in registry().values():
        schedule = workflow.schedule
        if workflow.id in workflows and schedule is not None and schedule is not True:
            spec = schedule.spec
            if not workflow.takes_slot:
                # Its annotation may have named what the module defines after the decorator.
                data = None if spec["input"] is None else decode(spec["input"], name="input")
                data = workflow.input_from(data)
                spec = {**spec, "input": None if data is None else check_input("input", data)}
            drafts.declare(workflow.id, spec, has_calendar=schedule.skip_calendar is not None)
    return drafts.for_core()


_frequent_seen: set[tuple[str, str]] = set()


def check_declaration(spec: Mapping[str, Any]) -> None:
    """Check what only the core understands: cron syntax and time zones.

    Also warns, once per schedule text, if a schedule fires too often.
    """
    _compiled(spec)


def _compiled(spec: Mapping[str, Any]) -> str:
    """Check like :func:`check_declaration`, and return the text by which the core knows it."""
    text, is_frequent = compile_spec(spec)
    mark = (str(spec["cron"]), str(spec["timezone"]))
    if is_frequent and mark not in _frequent_seen:
        _frequent_seen.add(mark)
        warnings.warn(
            f"the schedule {_cron_text(spec['cron'])} fires more than once in 5 minutes; for "
            f"work that arrives, use a queue or an event, and for a steady pace use `every=`. "
            f"To silence this: warnings.simplefilter('ignore', polos.ScheduleFrequencyWarning)",
            ScheduleFrequencyWarning,
            stacklevel=_caller_depth(),
        )
    return text


def _cron_text(cron: str | builtins.list[str]) -> str:
    return " and ".join(f"`{text}`" for text in ((cron,) if isinstance(cron, str) else cron))


def _caller_depth() -> int:
    """Return the depth of the first frame outside this package, so that a warning points there."""
    depth, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("polos"):
        depth, frame = depth + 1, frame.f_back
    return depth


# --- read ------------------------------------------------------------------------------------


async def get(
    client: PolosClient,
    id: str | Schedule | None = None,
    *,
    workflow: str | Workflow[Any, Any] | None = None,
    key: str | None = None,
) -> Schedule:
    """Return a schedule.

    This and the functions that change a schedule take its id, a :class:`Schedule`, or its
    ``workflow`` and ``key``. Without ``key`` they mean the key ``"global"``.

    Raises :class:`ScheduleNotFoundError`, and :class:`InvalidArgumentError` if the schedule is
    named in no way, or in two.
    """
    named = await schedule_id(client, id, workflow, key)
    return _schedule(await checked_client(client)._ask(requests.get_schedule(named)))


async def list(
    client: PolosClient,
    *,
    workflow: str | Workflow[Any, Any] | None = None,
    key: str | None = None,
    status: ScheduleStatus | None = None,
    owner: str | None = None,
    key_prefix: str | None = None,
    tags: Mapping[str, str] | None = None,
    limit: int | None = None,
    after: str | None = None,
) -> builtins.list[Schedule]:
    """Return the schedules that match all filters, ordered by id.

    :param key_prefix: only keys with this prefix. The list is then ordered by key and workflow, and
        ``after`` must exist (otherwise :class:`ScheduleNotFoundError`).
    :param tags: only schedules that have all of these tags. The database looks at each schedule
        with the first of them, by name.
    :param limit: return at most this many; all by default.
    :param after: continue after this id, the last one of the previous page.
    """
    if limit is not None:
        count_of("limit", limit)
    if status is not None:
        one_of("status", status, _STATES)
    wanted = {} if tags is None else _wanted_tags(tags)
    if key_prefix is not None and not isinstance(key_prefix, str):
        raise InvalidArgumentError(f"key_prefix: {shown(key_prefix)} given, expected text")
    found: Listed[Schedule] = Listed()
    # Where the previous page ended, in case that schedule is deleted meanwhile.
    after_key: tuple[str, str] | None = None
    while limit is None or len(found) < limit:
        count = _PAGE if limit is None else min(_PAGE, limit - len(found))
        request = requests.list_schedules(
            workflow=workflow_id(workflow),
            key=key,
            status=status,
            owner=owner,
            key_prefix=key_prefix,
            tags=wanted,
            limit=count,
            after=after,
            after_key=after_key,
        )
        page = await checked_client(client)._ask(request)
        found += [_schedule(item) for item in page]
        if len(page) < count:
            break
        after = page[-1]["id"]
        if key_prefix is not None:
            after_key = (page[-1]["key"], page[-1]["workflow"])
    return found


def _wanted_tags(tags: Mapping[str, str]) -> dict[str, str]:
    try:
        return check_tags("tags", tags)
    except InvalidScheduleError as error:
        raise InvalidArgumentError(str(error)) from None


async def coming(
    client: PolosClient, *, until: datetime, limit: int = 100
) -> builtins.list[Schedule]:
    """Return active schedules of all workflows whose next slot is at or before ``until``.

    Earliest first, and at most ``limit``.
    """
    request = requests.coming(aware("until", until), count_of("limit", limit, most=10_000))
    found = await checked_client(client)._ask(request)
    return Listed(_schedule(item) for item in found)


async def history(
    client: PolosClient,
    id: str | Schedule | None = None,
    *,
    workflow: str | Workflow[Any, Any] | None = None,
    key: str | None = None,
    limit: int = 100,
    before: datetime | None = None,
) -> builtins.list[LedgerEntry]:
    """Return the outcomes of the schedule's slots, newest first.

    Returns at most ``limit`` entries, of slots before ``before``. A deleted schedule keeps its
    history, which only its id still names. Raises what :func:`get` raises.
    """
    after = None if before is None else aware("before", before)
    named = await schedule_id(client, id, workflow, key)
    request = requests.history(named, count_of("limit", limit), after)
    entries = await checked_client(client)._ask(request)
    return Listed(_ledger_entry(entry) for entry in entries)


async def upcoming(
    client: PolosClient,
    id: str | Schedule | None = None,
    n: int = 5,
    *,
    workflow: str | Workflow[Any, Any] | None = None,
    key: str | None = None,
) -> builtins.list[datetime]:
    """Return the next ``n`` slots of a schedule, in its zone, without those that will be skipped.

    Takes its state into account: ``max_runs`` counts the runs that there have been, and a slot that
    was skipped by hand is not included. A schedule that is not active has none. Dates that the
    application's own calendar excludes are included.

    At most 10,000. Raises what :func:`get` raises, and :class:`InvalidScheduleError` for a schedule
    that is broken.
    """
    named = await schedule_id(client, id, workflow, key)
    answer = await checked_client(client)._ask(
        requests.upcoming(named, count_of("n", n, most=10_000))
    )
    from polos._core.slot_query import in_zone

    return in_zone(answer["slots"], ZoneInfo(answer["timezone"]))


# --- change ----------------------------------------------------------------------------------


async def update(
    client: PolosClient,
    id: str | Schedule | None = None,
    *,
    workflow: str | Workflow[Any, Any] | None = None,
    key: str | None = None,
    **changes: Any,
) -> Schedule:
    """Change some of the options of :func:`create`, keep the rest, and return the schedule.

    A changed trigger or time zone counts from now. ``None`` removes an optional bound. ``tags``
    replaces all tags. For a
    schedule that a decorator declares, the change is an override (``Schedule.overridden``): it is
    kept through restarts until :func:`reset`, or until the decorator itself changes.

    An ``at`` that has passed follows ``catch_up``, as for :func:`create`. If ``start_at`` or
    ``end_at`` changes, due slots within the new bounds stay due. A slot that was skipped, or has
    run, gets no second outcome. A finished schedule is active again if the change gives it a slot.

    Raises what :func:`create` and :func:`get` raise.
    """
    if id is not None and key is not None:
        raise InvalidScheduleError(
            "key: a schedule's key cannot change; create one with the other key and delete this one"
        )
    named = await schedule_id(client, id, workflow, key)
    new_input = None
    if "input" in changes:
        known = registered(await _workflow_of(client, id, workflow, named))
        new_input = _input_change(known, changes.pop("input"))
    spec = normalise_schedule(changes, partial=True)
    new_tags = (spec.pop("tags") or {}) if "tags" in spec else None
    if spec.pop("skip_calendar", None) is not None:
        raise InvalidScheduleError(
            "skip: a calendar object cannot be stored with a schedule; pass a list of dates"
        )
    return _schedule(
        await checked_client(client)._ask(requests.update(named, spec, new_input, new_tags))
    )


async def reset(
    client: PolosClient,
    id: str | Schedule | None = None,
    *,
    workflow: str | Workflow[Any, Any] | None = None,
    key: str | None = None,
) -> Schedule:
    """Undo what :func:`update` or :func:`create` changed on a schedule that a decorator declares.

    Restores what the code declares. Has no effect on a schedule that was not changed.

    Raises :class:`ScheduleNotFoundError`, and :class:`InvalidStateError` for a schedule that no
    code declares.
    """
    named = await schedule_id(client, id, workflow, key)
    return _schedule(await checked_client(client)._ask(requests.reset(named)))


async def pause(
    client: PolosClient,
    id: str | Schedule | None = None,
    note: str | None = None,
    *,
    workflow: str | Workflow[Any, Any] | None = None,
    key: str | None = None,
) -> Schedule:
    """Pause a schedule until :func:`resume`.

    ``note`` is shown in lists. Pausing a paused schedule only updates its note.

    Raises :class:`ScheduleNotFoundError`, and :class:`InvalidStateError` for a schedule that is
    neither active nor paused.
    """
    named = await schedule_id(client, id, workflow, key)
    return _schedule(await checked_client(client)._ask(requests.pause(named, note)))


async def resume(
    client: PolosClient,
    id: str | Schedule | None = None,
    *,
    workflow: str | Workflow[Any, Any] | None = None,
    key: str | None = None,
    catch_up: CatchUp | None = None,
) -> Schedule:
    """Resume a paused schedule. Slots from the pause follow the catch-up policy.

    :param catch_up: the policy for the slots that are due now, instead of the schedule's:
        ``"none"`` (all are missed), ``"latest"``, or ``"all"``. It is decided at once, and the
        schedule keeps its own policy. ``max_catch_up`` and ``catch_up_window`` apply.

    Has no effect on an active schedule. Raises what :func:`pause` raises, and
    :class:`InvalidArgumentError` for another ``catch_up``.
    """
    if catch_up is not None:
        one_of("catch_up", catch_up, CATCH_UPS)
    named = await schedule_id(client, id, workflow, key)
    return _schedule(await checked_client(client)._ask(requests.resume(named, catch_up)))


async def skip(
    client: PolosClient,
    id: str | Schedule | None = None,
    *,
    workflow: str | Workflow[Any, Any] | None = None,
    key: str | None = None,
    n: int | None = None,
    at: datetime | None = None,
) -> Schedule:
    """Skip the next slot, the next ``n``, or the one at ``at``. The history records it as skipped.

    The schedule lists the slots that it will skip as ``Schedule.skipped``. :func:`unskip`
    undoes a skip before its slot has passed.

    :param n: skip so many of the slots that would run next, or fewer if there are no more; at most
        1,000.
    :param at: skip the slot at exactly this instant, an aware datetime. Nothing changes if it is
        skipped already.

    Raises :class:`ScheduleNotFoundError`; :class:`InvalidArgumentError`, which names the slots
    before and after, if there is no slot at ``at``; and :class:`InvalidStateError` if there is no
    next slot, or if it is already due.
    """
    if n is not None and at is not None:
        raise InvalidArgumentError("n: given together with `at`; skip the next slots, or one slot")
    count = 1 if n is None else count_of("n", n)
    if not 1 <= count <= _SKIPS_MAX:
        raise InvalidArgumentError(f"n: {shown(n)} given, expected 1 to {_SKIPS_MAX:,}")
    slot = None if at is None else aware("at", at)
    named = await schedule_id(client, id, workflow, key)
    return _schedule(await checked_client(client)._ask(requests.skip(named, count, slot)))


async def unskip(
    client: PolosClient,
    id: str | Schedule | None = None,
    *,
    workflow: str | Workflow[Any, Any] | None = None,
    key: str | None = None,
    at: datetime | None = None,
) -> Schedule:
    """Undo all skips of coming slots, or that of the slot at ``at``.

    The slot runs when it comes due, and its skip leaves the history, which has one outcome per
    slot. A slot that has passed stays skipped; so does one that is no slot of the schedule any
    more. Without ``at``, nothing changes if no coming slot is skipped.

    Raises :class:`ScheduleNotFoundError`, and :class:`InvalidStateError` if the slot at ``at`` is
    not skipped (it names those that are) or if a worker with a faster clock has decided about a
    later slot.
    """
    slot = None if at is None else aware("at", at)
    named = await schedule_id(client, id, workflow, key)
    return _schedule(await checked_client(client)._ask(requests.unskip(named, slot)))


async def delete(
    client: PolosClient,
    id: str | Schedule | None = None,
    *,
    workflow: str | Workflow[Any, Any] | None = None,
    key: str | None = None,
) -> None:
    """Delete a schedule.

    After this has returned, no run of its slots is entered for the first time, not even one that a
    busy worker claimed before. Runs that have begun continue, waiting runs are cancelled, and the
    history stays. While a run is in progress that has recorded no step, this takes a second: until
    then, a worker may be about to enter it.

    Raises :class:`ScheduleNotFoundError`, and :class:`InvalidStateError` for a schedule that a
    decorator declares, because it would return at the next start; :func:`pause` it instead.
    """
    named = await schedule_id(client, id, workflow, key)
    await checked_client(client)._ask(requests.delete(named))


async def trigger(
    client: PolosClient,
    id: str | Schedule | None = None,
    *,
    workflow: str | Workflow[Any, Any] | None = None,
    key: str | None = None,
    overlap: Literal["schedule"] | None = None,
    input: Any = ...,
) -> RunHandle[Any]:
    """Start a run now, beside unfinished runs of the schedule, and return its handle.

    The schedule's own slots stay as they are. Slots that come due while the run is unfinished
    follow the schedule's ``overlap`` policy.

    :param overlap: ``"schedule"`` applies that policy to this run too: ``"skip"`` raises
        :class:`InvalidStateError` while a run is unfinished, ``"buffer_one"`` runs after it (and
        raises if a run is already waiting), ``"buffer_all"`` runs after all of them,
        ``"cancel_running"`` cancels them, ``"allow"`` runs at once. By default the run starts at
        once, whatever the policy.
    :param input: the input of this run instead of the schedule's; ``None`` for none. It is checked
        as that of :func:`create` is.

    Raises :class:`ScheduleNotFoundError`, and :class:`InvalidArgumentError` for another
    ``overlap`` or an ``input`` that does not fit.
    """
    if overlap not in (None, "schedule"):
        raise InvalidArgumentError(
            f"overlap: {shown(overlap)} given, expected `schedule` (apply the schedule's own "
            f"policy), or nothing (run at once)"
        )
    named = await schedule_id(client, id, workflow, key)
    new_input = None
    if input is not ...:
        known = registered(await _workflow_of(client, id, workflow, named))
        new_input = _input_change(known, input)
    request = requests.trigger(named, applies_overlap=overlap is not None, input=new_input)
    answer = await checked_client(client)._ask(request)
    return RunHandle(client, answer["run_id"])


async def backfill(
    client: PolosClient,
    id: str | Schedule,
    start: datetime,
    end: datetime,
    *,
    dry_run: bool = False,
    limit: int | None = None,
    concurrency: int | None = None,
) -> Backfill:
    """Run the slots of ``[start, end)`` that have no run yet, oldest first, and return them.

    The result is a list of the slots. It also shows the progress of the runs, and cancels them as
    a whole: :class:`polos.backfills.Backfill`. A second call adds nothing. With ``dry_run`` nothing
    starts.

    :param limit: run at most so many slots; ``Backfill.left`` says how many it has left out.
    :param concurrency: how many of the runs are in progress at once, over all workers, whatever
        ``overlap`` is. They start beside other runs of the schedule. By default one executes after
        another, or all at once if ``overlap`` is ``"allow"``.

    Raises :class:`ScheduleNotFoundError`, and :class:`InvalidArgumentError` for a range that
    is empty, too long, or reaches into the future.
    """
    if limit is not None:
        count_of("limit", limit, least=1)
    if concurrency is not None:
        count_of("concurrency", concurrency, least=1, most=_AT_ONCE_MAX)
    schedule = await get(client, id)
    request = requests.backfill(
        schedule.id,
        aware("start", start),
        aware("end", end),
        dry_run=bool(dry_run),
        limit=limit,
        concurrency=concurrency,
    )
    answer = await checked_client(client)._ask(request)
    zone = ZoneInfo(schedule.timezone)
    slots = [from_micros(slot).astimezone(zone) for slot in answer["slots"]]
    from polos.backfills import Backfill

    return Backfill(client, answer["id"], slots, answer["left"])


# --- without a client ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Explanation:
    """The meaning of a schedule."""

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
    cron: str | Sequence[str] | None = None,
    timezone: str = "UTC",
    count: int = 5,
    after: datetime | None = None,
    *,
    every: float | timedelta | None = None,
    at: datetime | None = None,
    days: Days | None = None,
    weeks: int | None = None,
    start_at: datetime | None = None,
    end_at: datetime | None = None,
    max_runs: int | None = None,
    skip: Any = None,
    on_skip: OnSkip | None = None,
    jitter: float | timedelta | None = None,
    calendars: Calendars | None = None,
) -> builtins.list[datetime]:
    """Return the next ``count`` slots strictly after ``after`` (now by default), in the zone.

    Takes what decides about slots as :func:`create` does, and raises the same errors. The slots are
    those of a schedule without runs. ``jitter`` delays runs, so it changes no slot. A container of
    dates, such as ``holidays.US()``, is asked about each slot. Returns fewer slots if there are no
    more.

    :param calendars: the stored calendars that ``skip`` may name, because this call knows no
        database: ``await calendars.list(client)``, or a mapping of names to dates. Raises
        :class:`CalendarNotFoundError` for a name that is not among them.
    """
    from polos._core.slot_query import SlotQuery

    query = SlotQuery.of(
        cron=cron,
        timezone=timezone,
        every=every,
        at=at,
        days=days,
        weeks=weeks,
        start_at=start_at,
        end_at=end_at,
        max_runs=max_runs,
        skip=skip,
        on_skip=on_skip,
        jitter=jitter,
        calendars=calendars,
        count=count,
        after=after,
    )
    return query.slots(_polos.first_slots(*query.arguments))


def explain(
    cron: str | Sequence[str] | None = None,
    timezone: str = "UTC",
    count: int = 5,
    after: datetime | None = None,
    *,
    every: float | timedelta | None = None,
    at: datetime | None = None,
    days: Days | None = None,
    weeks: int | None = None,
    start_at: datetime | None = None,
    end_at: datetime | None = None,
    max_runs: int | None = None,
    skip: Any = None,
    on_skip: OnSkip | None = None,
    jitter: float | timedelta | None = None,
    calendars: Calendars | None = None,
) -> Explanation:
    """Explain a schedule: its meaning in English, its next slots, and notes.

    The notes say what clock changes do, name bounds, skipped dates, and jitter, and point out
    likely mistakes. Takes and raises the same as :func:`preview`.
    """
    from polos._core.slot_query import SlotQuery

    query = SlotQuery.of(
        cron=cron,
        timezone=timezone,
        every=every,
        at=at,
        days=days,
        weeks=weeks,
        start_at=start_at,
        end_at=end_at,
        max_runs=max_runs,
        skip=skip,
        on_skip=on_skip,
        jitter=jitter,
        calendars=calendars,
        count=count,
        after=after,
    )
    english, slots, notes = _polos.explain(*query.arguments)
    if query.skipped is not None:
        notes.append("slots on the dates of the calendar are skipped")
    return Explanation(english, tuple(query.slots(slots)), tuple(notes))


# --- arguments -------------------------------------------------------------------------------


async def _workflow_of(
    client: PolosClient,
    schedule: str | Schedule | None,
    workflow: str | Workflow[Any, Any] | None,
    id: str,
) -> str:
    """Return the workflow of the schedule with this id. Reads it only if the call doesn't say."""
    named = workflow_id(workflow) or getattr(schedule, "workflow", None)
    return (await get(client, id)).workflow if named is None else str(named)


def _input_change(known: Workflow[Any, Any] | None, value: Any) -> requests.InputChange:
    """Check an input, by the payload's type if the workflow is known here."""
    if known is not None:
        value = known.input_from(value)
    return {"set": None if value is None else json.loads(check_input("input", value))}


def _schedule(core: Any) -> Schedule:
    from polos.models import Schedule

    return Schedule._from_core(core)


def _ledger_entry(core: Any) -> LedgerEntry:
    from polos.models import LedgerEntry

    return LedgerEntry._from_core(core)


class sync:
    """The same functions for code without an event loop. They block the calling thread.

    ``schedules.sync.create(client, ...)``; arguments, results, and errors are the same.
    """

    create = staticmethod(blocking(create))
    put = staticmethod(blocking(put))
    create_in = staticmethod(blocking(create_in))
    create_many = staticmethod(blocking(create_many))
    get = staticmethod(blocking(get))
    list = staticmethod(blocking(list))
    coming = staticmethod(blocking(coming))
    history = staticmethod(blocking(history))
    upcoming = staticmethod(blocking(upcoming))
    update = staticmethod(blocking(update))
    reset = staticmethod(blocking(reset))
    pause = staticmethod(blocking(pause))
    resume = staticmethod(blocking(resume))
    skip = staticmethod(blocking(skip))
    unskip = staticmethod(blocking(unskip))
    delete = staticmethod(blocking(delete))
    trigger = staticmethod(blocking(trigger))
    backfill = staticmethod(blocking(backfill))
