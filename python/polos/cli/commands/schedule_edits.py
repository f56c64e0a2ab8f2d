"""``polos schedules``: the commands that change schedules."""

from __future__ import annotations

import functools
from collections.abc import Callable
from datetime import datetime, timezone, tzinfo
from typing import Annotated, Literal, cast
from zoneinfo import ZoneInfo

import typer

from polos import schedules
from polos._validate.formatting import shown
from polos._validate.schedule_options import CATCH_UPS
from polos.cli.commands.runs import end_of
from polos.cli.commands.schedules import (
    Name,
    PrefixFilter,
    StatusFilter,
    app,
    status_of,
)
from polos.cli.ui.confirm import Yes, confirmed
from polos.cli.ui.console import TYPED_WRONG, fail, out, out_json, say
from polos.cli.ui.json import schedule_json
from polos.cli.ui.lookup import find_schedule, named
from polos.cli.ui.matching import (
    DELETING,
    PAUSING,
    RESUMING,
    change_matching,
    change_pages,
    filters_given,
)
from polos.cli.ui.options import (
    Database,
    Json,
    KeyFilter,
    Project,
    TagFilter,
    WorkflowFilter,
    opened,
)
from polos.cli.ui.progress import advancing
from polos.cli.ui.schedule_options import (
    At,
    CatchUp,
    CatchUpWindow,
    Cron,
    Days,
    EndAt,
    Every,
    Input,
    Jitter,
    MaxCatchUp,
    MaxRuns,
    OnSkip,
    Overlap,
    PauseAfterFailures,
    Priority,
    RunOnCreate,
    SkippedDates,
    StartAt,
    Tags,
    Unset,
    Weeks,
    removed_options,
    schedule_options,
)
from polos.cli.ui.times import instant, iso, until, when
from polos.cli.ui.times import now as clock
from polos.cli.ui.values import json_value, tags_given
from polos.cli.ui.words import called, counted
from polos.client import PolosClient
from polos.exceptions import PolosError
from polos.models import CatchUp as CatchUpPolicy
from polos.models import Schedule

__all__ = ["app"]

_NAMES = typer.Argument(
    metavar="SCHEDULE", help="Ids, workflows, or WORKFLOW/KEY; - reads them from stdin."
)
Names = Annotated[list[str], _NAMES]
# Of commands that also take filters.
OptionalNames = Annotated[list[str] | None, _NAMES]

# Slots per commit of a backfill, so that the bar moves and workers do not wait for long.
_BACKFILL_CHUNK = 500

# --- create ----------------------------------------------------------------------------------


@app.command()
def create(
    workflow: Annotated[str, typer.Argument(metavar="WORKFLOW", help="The workflow's id.")],
    cron: Cron = None,
    every: Every = None,
    at: At = None,
    days: Days = None,
    weeks: Weeks = None,
    zone: Annotated[
        str, typer.Option("--tz", metavar="ZONE", help="An IANA name, such as Europe/Paris.")
    ] = "UTC",
    key: Annotated[
        str, typer.Option("--key", "-k", metavar="KEY", help="One schedule per workflow and key.")
    ] = "global",
    overlap: Overlap = None,
    catch_up: CatchUp = None,
    max_catch_up: MaxCatchUp = None,
    catch_up_window: CatchUpWindow = None,
    jitter: Jitter = None,
    start_at: StartAt = None,
    end_at: EndAt = None,
    max_runs: MaxRuns = None,
    pause_after_failures: PauseAfterFailures = None,
    priority: Priority = None,
    skip: SkippedDates = None,
    on_skip: OnSkip = None,
    tags: Tags = None,
    run_on_create: RunOnCreate = False,
    input: Input = None,
    as_json: Json = False,
    database: Database = None,
    project: Project = "default",
) -> None:
    """Create or update a schedule.

    A workflow and a key identify one schedule. An existing one loses the options that are not
    given; `polos schedules update` keeps them.

    Times without an offset are in the zone of --tz.
    """
    given = schedule_options(
        _zone(zone),
        cron=cron,
        every=every,
        at=at,
        days=days,
        weeks=weeks,
        timezone=zone,
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
        run_on_create=run_on_create or None,
        input=input,
    )
    with opened(database, project) as client:
        done = schedules.sync.put(client, workflow, **given)
        made = schedules.sync.get(client, done.id)
    if as_json:
        out_json({**schedule_json(made), "outcome": done.outcome})
        return
    out(done.id)
    begun = "; a run has started" if run_on_create and done.outcome == "created" else ""
    say(f"{done.outcome}: {_coming(made)}{begun}")


def _zone(name: str) -> tzinfo:
    # Let the core reject unknown names: its error suggests the most similar one.
    return schedules.preview("0 0 * * *", name, count=1)[0].tzinfo or timezone.utc


def _coming(schedule: Schedule) -> str:
    name = called(schedule.workflow, schedule.key)
    if schedule.upcoming is None:
        return f"{name} is {schedule.status}; it has no next slot"
    now = clock()
    if schedule.at is not None and schedule.at <= now:
        passed = f"{name} was due at {when(schedule.at)}, {until(schedule.at, now)}"
        if schedule.catch_up == "none" or now - schedule.at > schedule.catch_up_window:
            return f"{passed}; it enters the history as missed (catch_up {schedule.catch_up})"
        return f"{passed}; it runs once, late, when a worker takes it"
    return f"{name} is next at {when(schedule.upcoming)}, {until(schedule.upcoming, clock())}"


# --- one or several --------------------------------------------------------------------------


@app.command()
def update(
    names: Names,
    cron: Cron = None,
    every: Every = None,
    at: At = None,
    days: Days = None,
    weeks: Weeks = None,
    zone: Annotated[
        str | None, typer.Option("--tz", metavar="ZONE", help="An IANA name, such as Asia/Tokyo.")
    ] = None,
    overlap: Overlap = None,
    catch_up: CatchUp = None,
    max_catch_up: MaxCatchUp = None,
    catch_up_window: CatchUpWindow = None,
    jitter: Jitter = None,
    start_at: StartAt = None,
    end_at: EndAt = None,
    max_runs: MaxRuns = None,
    pause_after_failures: PauseAfterFailures = None,
    priority: Priority = None,
    skip: SkippedDates = None,
    on_skip: OnSkip = None,
    tags: Tags = None,
    input: Input = None,
    unset: Unset = None,
    as_json: Json = False,
    database: Database = None,
    project: Project = "default",
) -> None:
    """Change some options of schedules, and keep the rest.

    A changed trigger or time zone counts from now. --tag replaces all tags. Times without an offset
    are in the zone of the schedule, or of --tz.
    """
    removed = removed_options(unset or [])

    def act(client: PolosClient, schedule: Schedule) -> None:
        changes = schedule_options(
            _zone(zone or schedule.timezone),
            cron=cron,
            every=every,
            at=at,
            days=days,
            weeks=weeks,
            timezone=zone,
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
            input=input,
        )
        if both := sorted(changes.keys() & removed.keys()):
            fail(f"--unset {both[0].replace('_', '-')}: it is also given a value", TYPED_WRONG)
        if not changes and not removed:
            fail("nothing to change; give an option, such as --cron '0 9 * * *'", TYPED_WRONG)
        after = schedules.sync.update(client, schedule.id, **changes, **removed)
        _tell(after, _coming(after), as_json)
        if after.overridden:
            say(
                f"the code declares it otherwise; `polos schedules reset {schedule.id}` undoes this"
            )

    _each(names, database, project, act)


@app.command()
def pause(
    names: OptionalNames = None,
    note: Annotated[
        str | None, typer.Option(metavar="TEXT", help="A note, shown in lists.")
    ] = None,
    workflow: WorkflowFilter = None,
    key: KeyFilter = None,
    key_prefix: PrefixFilter = None,
    tag: TagFilter = None,
    yes: Yes = False,
    as_json: Json = False,
    database: Database = None,
    project: Project = "default",
) -> None:
    """Pause schedules until they are resumed, by name or by filters."""
    filters = filters_given(
        names, workflow=workflow, key=key, key_prefix=key_prefix, tags=tags_given(tag)
    )
    if not names:
        pause_one = functools.partial(schedules.pause, note=note)
        with opened(database, project) as client:
            change_matching(client, {**filters, "status": "active"}, PAUSING, pause_one, yes)
        return

    def act(client: PolosClient, schedule: Schedule) -> None:
        after = schedules.sync.pause(client, schedule.id, note)
        _tell(after, f"{called(after.workflow, after.key)} is paused", as_json)

    _each(names, database, project, act)


@app.command()
def resume(
    names: OptionalNames = None,
    workflow: WorkflowFilter = None,
    key: KeyFilter = None,
    key_prefix: PrefixFilter = None,
    tag: TagFilter = None,
    catch_up: Annotated[
        str | None,
        typer.Option(
            "--catch-up",
            metavar="POLICY",
            help="For the slots of this pause: latest, all, or none.  [default: the schedule's]",
        ),
    ] = None,
    yes: Yes = False,
    as_json: Json = False,
    database: Database = None,
    project: Project = "default",
) -> None:
    """Resume paused schedules, by name or by filters.

    Slots from the pause follow the catch-up policy, or --catch-up.
    """
    filters = filters_given(
        names, workflow=workflow, key=key, key_prefix=key_prefix, tags=tags_given(tag)
    )
    policy = cast("CatchUpPolicy | None", catch_up)
    if policy is not None and policy not in CATCH_UPS:
        fail(f"--catch-up: {shown(policy)} given, expected latest, all, or none", TYPED_WRONG)
    if not names:
        resume_one = functools.partial(schedules.resume, catch_up=policy)
        with opened(database, project) as client:
            matching = {**filters, "status": "paused"}
            change_matching(client, matching, RESUMING, resume_one, yes)
        return

    def act(client: PolosClient, schedule: Schedule) -> None:
        after = schedules.sync.resume(client, schedule.id, catch_up=policy)
        _tell(after, _coming(after), as_json)

    _each(names, database, project, act)


@app.command()
def reset(
    names: Names, as_json: Json = False, database: Database = None, project: Project = "default"
) -> None:
    """Undo changes to a schedule that a decorator declares.

    Restores what the code declares.
    """

    def act(client: PolosClient, schedule: Schedule) -> None:
        after = schedules.sync.reset(client, schedule.id)
        text = (
            f"{called(after.workflow, after.key)} is reset to what the code declares; "
            f"{_coming(after)}"
        )
        _tell(after, text, as_json)

    _each(names, database, project, act)


@app.command()
def skip(
    names: Names,
    count: Annotated[
        int | None,
        typer.Option("--count", "-n", metavar="N", min=1, max=1_000, help="The next N slots."),
    ] = None,
    at: Annotated[
        str | None, typer.Option("--at", metavar="TIME", help="The slot at exactly this time.")
    ] = None,
    as_json: Json = False,
    database: Database = None,
    project: Project = "default",
) -> None:
    """Skip the next slot, the next N, or the one at a time.

    The history records them as skipped. Times without an offset are in the schedule's zone.
    """
    if count is not None and at is not None:
        fail("--count: also --at is given; skip the next slots, or one slot", TYPED_WRONG)

    def act(client: PolosClient, schedule: Schedule) -> None:
        slot = None if at is None else instant("--at", at, ZoneInfo(schedule.timezone))
        after = schedules.sync.skip(client, schedule.id, n=count, at=slot)
        _tell(after, f"skips {_slots(after, schedule, slot)}; {_coming(after)}", as_json)

    _each(names, database, project, act)


def _slots(after: Schedule, before: Schedule, wanted: datetime | None) -> str:
    """Name the slots that are skipped in the one and not in the other."""
    new = [slot for slot in after.skipped if slot not in before.skipped]
    if wanted is not None or not new:
        return when(wanted or before.upcoming)
    return (
        when(new[0]) if len(new) == 1 else f"{len(new):,} slots, {when(new[0])} to {when(new[-1])}"
    )


@app.command()
def unskip(
    names: Names,
    at: Annotated[
        str | None,
        typer.Option("--at", metavar="TIME", help="Only the slot at exactly this time."),
    ] = None,
    as_json: Json = False,
    database: Database = None,
    project: Project = "default",
) -> None:
    """Undo skips of coming slots.

    Undoes all of them, or that of one slot. Slots that have passed stay skipped.
    """

    def act(client: PolosClient, schedule: Schedule) -> None:
        slot = None if at is None else instant("--at", at, ZoneInfo(schedule.timezone))
        after = schedules.sync.unskip(client, schedule.id, at=slot)
        back = [slot for slot in schedule.skipped if slot not in after.skipped]
        text = f"{counted(len(back), 'slot')} no longer skipped; {_coming(after)}"
        _tell(after, text, as_json)

    _each(names, database, project, act)


@app.command()
def trigger(
    names: Names,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait until the runs complete; exit code 1 if one fails.")
    ] = False,
    overlap: Annotated[
        str | None,
        typer.Option(
            "--overlap",
            metavar="schedule",
            help="Apply the schedule's overlap policy.  [default: run beside unfinished runs]",
        ),
    ] = None,
    input: Annotated[
        str | None,
        typer.Option(metavar="JSON", help="Input of this run.  [default: the schedule's]"),
    ] = None,
    as_json: Json = False,
    database: Database = None,
    project: Project = "default",
) -> None:
    """Start a run now, beside unfinished runs.

    The schedule's own slots stay as they are. Prints the run's id.
    """
    if overlap not in (None, "schedule"):
        fail(f"--overlap: {shown(overlap)} given, expected `schedule`", TYPED_WRONG)
    started: list[str] = []
    # `null` is an input, too.
    given = {} if input is None else {"input": json_value("--input", input, '{"user": 7}')}

    def act(client: PolosClient, schedule: Schedule) -> None:
        policy: Literal["schedule"] | None = "schedule" if overlap else None
        id = schedules.sync.trigger(client, schedule.id, overlap=policy, **given).id
        started.append(id)
        out_json({"run_id": id, "schedule_id": schedule.id}) if as_json else out(id)
        if not schedule.worker_available:
            say(
                f"no live worker has registered the workflow `{schedule.workflow}`; the run "
                "waits for one"
            )

    _each(names, database, project, act)
    if wait:
        with opened(database, project) as client:
            ends = [end_of(client, id) for id in started]
        failed = [run for run in ends if run.status != "succeeded"]
        for run in ends:
            say(f"{run.id} {run.status}{f': {run.error}' if run.error else ''}")
        if failed:
            raise typer.Exit(1)


def _each(
    names: list[str],
    database: str | None,
    project: str,
    act: Callable[[PolosClient, Schedule], None],
) -> None:
    """Apply a command to each schedule; an error of one does not stop the others."""
    failed: PolosError | None = None
    count = 0
    with opened(database, project) as client:
        for name in named(names):
            count += 1
            try:
                act(client, find_schedule(client, name))
            except PolosError as error:
                if len(names) == 1 and names[0] != "-":
                    raise
                say(f"polos: {error}")
                failed = error
    if not count:
        fail("no schedules given: stdin is empty", TYPED_WRONG)
    if failed is not None:
        raise typer.Exit(1)


def _tell(schedule: Schedule, text: str, as_json: bool) -> None:
    if as_json:
        out_json(schedule_json(schedule))
    else:
        out(text)


# --- delete ----------------------------------------------------------------------------------


@app.command()
def delete(
    names: OptionalNames = None,
    workflow: WorkflowFilter = None,
    key: KeyFilter = None,
    key_prefix: PrefixFilter = None,
    tag: TagFilter = None,
    status: StatusFilter = None,
    yes: Yes = False,
    database: Database = None,
    project: Project = "default",
) -> None:
    """Delete schedules, by name or by filters.

    Running runs continue, waiting runs are cancelled, and the history stays.
    """
    wanted = status_of(status)
    filters = filters_given(
        names,
        workflow=workflow,
        key=key,
        key_prefix=key_prefix,
        tags=tags_given(tag),
        status=wanted,
    )
    with opened(database, project) as client:
        if not names:
            change_matching(client, filters, DELETING, schedules.delete, yes)
            return
        found = [find_schedule(client, name) for name in named(names)]
        ids = list(dict.fromkeys(schedule.id for schedule in found))
        question = called(found[0].workflow, found[0].key) if len(ids) == 1 else None
        confirmed(f"Delete {question or counted(len(ids), 'schedule')}?", yes)
        change_pages(client, [ids], len(ids), DELETING, schedules.delete)


# --- backfill --------------------------------------------------------------------------------


@app.command()
def backfill(
    name: Name,
    start: Annotated[str, typer.Option("--from", metavar="TIME", help="Slots at or after this.")],
    end: Annotated[
        str, typer.Option("--to", metavar="TIME", help="Slots before this; not in the future.")
    ] = "now",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List the slots and start nothing.")
    ] = False,
    limit: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Run only the first N of them.")
    ] = None,
    concurrency: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=1, help="Runs in progress at once.  [default: the overlap policy's]"
        ),
    ] = None,
    yes: Yes = False,
    as_json: Json = False,
    database: Database = None,
    project: Project = "default",
) -> None:
    """Run past slots that have no run.

    Runs the oldest first; `polos backfills` shows how far they are, and cancels them.
    Times without an offset are in the schedule's zone. Repeating it adds nothing.

    More than 500 slots are started as several backfills of 500, so that workers do not wait for one
    long commit. With --concurrency, all of them are one backfill, which can be cancelled as a
    whole.
    """
    with opened(database, project) as client:
        schedule = find_schedule(client, name)
        zone = ZoneInfo(schedule.timezone)
        first, last = instant("--from", start, zone), instant("--to", end, zone)
        plan = schedules.sync.backfill(client, schedule.id, first, last, dry_run=True, limit=limit)
        if dry_run:
            _print_backfill(schedule, plan, as_json)
            say(f"would run {counted(len(plan), 'slot')}{_left(plan.left)}")
            return
        if not plan:
            say("nothing to run: each slot in this range has a run")
            return
        which = when(plan[0]) if len(plan) == 1 else f"{when(plan[0])} to {when(plan[-1])}"
        name = called(schedule.workflow, schedule.key)
        confirmed(f"Run {counted(len(plan), 'slot')} of {name}, {which}?", yes)
        if limit is None and concurrency is None:
            done, ids = _backfill(client, schedule, plan, last)
        else:
            made = schedules.sync.backfill(
                client, schedule.id, first, last, limit=limit, concurrency=concurrency
            )
            done, ids = [*made], [made.id]
    _print_backfill(schedule, done, as_json)
    say(f"{counted(len(done), 'run')} created{_left(plan.left)}")
    known = [id for id in ids if id is not None]
    if known:
        several = f"started as {len(known)} backfills of up to {_BACKFILL_CHUNK} slots each; "
        say(
            f"to watch: polos backfills show {known[0]}"
            if len(known) == 1
            else f"{several}to watch: polos backfills list"
        )


def _left(count: int) -> str:
    return f"; {counted(count, 'slot')} of the range left" if count else ""


def _backfill(
    client: PolosClient, schedule: Schedule, slots: list[datetime], last: datetime
) -> tuple[list[datetime], list[str | None]]:
    done: list[datetime] = []
    ids: list[str | None] = []
    with advancing("backfilling", len(slots)) as advance:
        for index in range(0, len(slots), _BACKFILL_CHUNK):
            following = index + _BACKFILL_CHUNK
            chunk = slots[index:following]
            end = slots[following] if following < len(slots) else last
            made = schedules.sync.backfill(client, schedule.id, chunk[0], end)
            done += made
            ids.append(made.id)
            advance(len(chunk))
    return done, ids


def _print_backfill(schedule: Schedule, slots: list[datetime], as_json: bool) -> None:
    for slot in slots:
        if as_json:
            out_json({"timestamp": iso(slot), "schedule_id": schedule.id})
        else:
            out(when(slot))
