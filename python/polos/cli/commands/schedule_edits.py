"""``polos schedules``: the commands that change schedules."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable, Iterable
from datetime import date, datetime, timezone, tzinfo
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

import typer

from polos import schedules
from polos._validate.formatting import shown
from polos.cli.commands.runs import end_of
from polos.cli.commands.schedules import (
    KeyFilter,
    Name,
    PrefixFilter,
    StatusFilter,
    WorkflowFilter,
    app,
    status_of,
)
from polos.cli.ui.confirm import Yes, confirmed
from polos.cli.ui.console import TYPED_WRONG, fail, out, out_json, say
from polos.cli.ui.json import schedule_json
from polos.cli.ui.lookup import find_schedule, named
from polos.cli.ui.options import Database, Json, Project, opened
from polos.cli.ui.progress import advancing
from polos.cli.ui.times import duration, instant, iso, until, when
from polos.cli.ui.times import now as clock
from polos.cli.ui.words import called, counted
from polos.client import PolosClient
from polos.exceptions import InvalidArgumentError, PolosError, ScheduleNotFoundError
from polos.models import Schedule

__all__ = ["app"]

Names = Annotated[
    list[str],
    typer.Argument(
        metavar="SCHEDULE", help="Ids, workflows, or WORKFLOW/KEY; - reads them from stdin."
    ),
]

# Slots per commit of a backfill, so that the bar moves and workers do not wait for long.
_BACKFILL_CHUNK = 500

_DELETE_PAGE = 500


# --- create ----------------------------------------------------------------------------------


@app.command()
def create(
    workflow: Annotated[str, typer.Argument(metavar="WORKFLOW", help="The workflow's id.")],
    cron: Annotated[
        str | None, typer.Option(metavar="CRON", help="Five fields in quotes: '0 9 * * *'.")
    ] = None,
    every: Annotated[
        str | None, typer.Option(metavar="DURATION", help="A period from 1s, such as 15m.")
    ] = None,
    at: Annotated[
        str | None, typer.Option(metavar="TIME", help="Once, such as '2027-01-01 09:00'.")
    ] = None,
    zone: Annotated[
        str, typer.Option("--tz", metavar="ZONE", help="An IANA name, such as Europe/Paris.")
    ] = "UTC",
    key: Annotated[
        str, typer.Option("--key", "-k", metavar="KEY", help="One schedule per workflow and key.")
    ] = "global",
    overlap: Annotated[
        str | None,
        typer.Option(
            metavar="POLICY", help="buffer_one, skip, buffer_all, cancel_running, or allow."
        ),
    ] = None,
    catch_up: Annotated[
        str | None, typer.Option(metavar="POLICY", help="latest, all, or none.")
    ] = None,
    max_catch_up: Annotated[
        int | None, typer.Option(metavar="N", help="Maximum number of slots to catch up.")
    ] = None,
    catch_up_window: Annotated[
        str | None,
        typer.Option(metavar="DURATION", help="Slots older than this are missed, such as 1d."),
    ] = None,
    jitter: Annotated[
        str | None, typer.Option(metavar="DURATION", help="The longest delay of a start.")
    ] = None,
    start_at: Annotated[
        str | None, typer.Option(metavar="TIME", help="No slot before this.")
    ] = None,
    end_at: Annotated[
        str | None, typer.Option(metavar="TIME", help="No slot at or after this.")
    ] = None,
    max_runs: Annotated[
        int | None, typer.Option(metavar="N", help="Finish after this many runs.")
    ] = None,
    pause_after_failures: Annotated[
        int | None, typer.Option(metavar="N", help="Pause after this many failures in a row.")
    ] = None,
    skip: Annotated[
        list[str] | None, typer.Option(metavar="DATE", help="A date to skip; repeatable.")
    ] = None,
    input: Annotated[
        str | None, typer.Option(metavar="JSON", help="Data for the handler, ctx.input.")
    ] = None,
    as_json: Json = False,
    database: Database = None,
    project: Project = "default",
) -> None:
    """Create or update a schedule.

    A workflow and a key identify one schedule.

    Times without an offset are in the zone of --tz.
    """
    place = _zone(zone)
    options: dict[str, Any] = {
        "cron": cron,
        "every": _given(duration, "--every", every),
        "at": _given(instant, "--at", at, place),
        "timezone": zone,
        "key": key,
        "overlap": overlap,
        "catch_up": catch_up,
        "max_catch_up": max_catch_up,
        "catch_up_window": _given(duration, "--catch-up-window", catch_up_window),
        "jitter": _given(duration, "--jitter", jitter),
        "start_at": _given(instant, "--start-at", start_at, place),
        "end_at": _given(instant, "--end-at", end_at, place),
        "max_runs": max_runs,
        "pause_after_failures": pause_after_failures,
        "skip": [_day(text) for text in skip] if skip else None,
        "input": None if input is None else _data(input),
    }
    given = {name: value for name, value in options.items() if value is not None}
    with opened(database, project) as client:
        id = schedules.sync.create(client, workflow, **given)
        made = schedules.sync.get(client, id)
    if as_json:
        out_json(schedule_json(made))
        return
    out(id)
    say(_coming(made))


def _given(read: Callable[..., Any], name: str, text: str | None, *more: Any) -> Any:
    return None if text is None else read(name, text, *more)


def _zone(name: str) -> tzinfo:
    # Let the core reject unknown names: its error suggests the most similar one.
    return schedules.preview("0 0 * * *", name, count=1)[0].tzinfo or timezone.utc


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise InvalidArgumentError(
            f"--skip: {shown(text)} isn't a date; expected one such as `2026-12-25`"
        ) from None


def _data(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse)
    except ValueError as error:
        raise InvalidArgumentError(
            f"--input: {shown(text)} isn't JSON ({error}); expected such as '{{\"user\": 7}}'"
        ) from None


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")


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
def pause(
    names: Names,
    note: Annotated[
        str | None, typer.Option(metavar="TEXT", help="A note, shown in lists.")
    ] = None,
    as_json: Json = False,
    database: Database = None,
    project: Project = "default",
) -> None:
    """Pause schedules until they are resumed."""

    def act(client: PolosClient, schedule: Schedule) -> None:
        after = schedules.sync.pause(client, schedule.id, note)
        _tell(after, f"{called(after.workflow, after.key)} is paused", as_json)

    _each(names, database, project, act)


@app.command()
def resume(
    names: Names, as_json: Json = False, database: Database = None, project: Project = "default"
) -> None:
    """Resume paused schedules.

    Slots from the pause follow the catch-up policy.
    """

    def act(client: PolosClient, schedule: Schedule) -> None:
        after = schedules.sync.resume(client, schedule.id)
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
    names: Names, as_json: Json = False, database: Database = None, project: Project = "default"
) -> None:
    """Skip the next slot, and only this one.

    The history records it as skipped.
    """

    def act(client: PolosClient, schedule: Schedule) -> None:
        after = schedules.sync.skip(client, schedule.id)
        _tell(after, f"skips {when(schedule.upcoming)}; {_coming(after)}", as_json)

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

    def act(client: PolosClient, schedule: Schedule) -> None:
        policy: Literal["schedule"] | None = "schedule" if overlap else None
        id = schedules.sync.trigger(client, schedule.id, overlap=policy).id
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
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SCHEDULE",
            help="Ids, workflows, or WORKFLOW/KEY; - reads them from stdin.",
        ),
    ] = None,
    workflow: WorkflowFilter = None,
    key: KeyFilter = None,
    key_prefix: PrefixFilter = None,
    status: StatusFilter = None,
    yes: Yes = False,
    database: Database = None,
    project: Project = "default",
) -> None:
    """Delete schedules, by name or by filters.

    Running runs continue, waiting runs are cancelled, and the history stays.
    """
    wanted = status_of(status)
    filters = {"workflow": workflow, "key": key, "key_prefix": key_prefix, "status": wanted}
    filters = {name: value for name, value in filters.items() if value is not None}
    if bool(names) == bool(filters):
        fail("name the schedules or pass filters such as --workflow, not both", TYPED_WRONG)
    with opened(database, project) as client:
        if names:
            found = [find_schedule(client, name) for name in named(names)]
            ids = list(dict.fromkeys(schedule.id for schedule in found))
            question = called(found[0].workflow, found[0].key) if len(ids) == 1 else None
            confirmed(f"Delete {question or counted(len(ids), 'schedule')}?", yes)
            _delete(client, [ids], len(ids))
            return
        first = _page(client, filters)
        if not first:
            say("no schedules to delete")
            return
        is_all = len(first) < _DELETE_PAGE
        many = counted(len(first), "schedule") if is_all else f"{len(first):,} schedules or more"
        confirmed(f"Delete {many}?", yes)
        # Always read the first page: deleted schedules are gone, so the first is the next.
        pages = itertools.chain([first], iter(lambda: _page(client, filters), []))
        _delete(client, pages, len(first) if is_all else None)


def _page(client: PolosClient, filters: dict[str, Any]) -> list[str]:
    found = schedules.sync.list(client, limit=_DELETE_PAGE, **filters)
    return [schedule.id for schedule in found]


def _delete(client: PolosClient, pages: Iterable[list[str]], total: int | None) -> None:
    count = 0
    with advancing("deleting", total) as advance:
        for page in pages:
            count += asyncio.run(_delete_all(client, page))
            advance(len(page))
    say(f"deleted {counted(count, 'schedule')}")


async def _delete_all(client: PolosClient, ids: list[str]) -> int:
    """Delete schedules concurrently, so that they share commits."""

    async def one(id: str) -> bool:
        try:
            await schedules.delete(client, id)
        except ScheduleNotFoundError:  # another process was faster
            return False
        return True

    return sum(await asyncio.gather(*map(one, ids)))


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
    yes: Yes = False,
    as_json: Json = False,
    database: Database = None,
    project: Project = "default",
) -> None:
    """Run past slots that have no run.

    Runs the oldest first.
    Times without an offset are in the schedule's zone. Repeating it adds nothing.
    """
    with opened(database, project) as client:
        schedule = find_schedule(client, name)
        zone = ZoneInfo(schedule.timezone)
        first, last = instant("--from", start, zone), instant("--to", end, zone)
        slots = schedules.sync.backfill(client, schedule.id, first, last, dry_run=True)
        if dry_run:
            _print_backfill(schedule, slots, as_json)
            say(f"would run {counted(len(slots), 'slot')}")
            return
        if not slots:
            say("nothing to run: each slot in this range has a run")
            return
        which = when(slots[0]) if len(slots) == 1 else f"{when(slots[0])} to {when(slots[-1])}"
        name = called(schedule.workflow, schedule.key)
        confirmed(f"Run {counted(len(slots), 'slot')} of {name}, {which}?", yes)
        done = _backfill(client, schedule, slots, last)
    _print_backfill(schedule, done, as_json)
    say(f"{counted(len(done), 'run')} created")


def _backfill(
    client: PolosClient, schedule: Schedule, slots: list[datetime], last: datetime
) -> list[datetime]:
    done: list[datetime] = []
    with advancing("backfilling", len(slots)) as advance:
        for index in range(0, len(slots), _BACKFILL_CHUNK):
            following = index + _BACKFILL_CHUNK
            chunk = slots[index:following]
            end = slots[following] if following < len(slots) else last
            done += schedules.sync.backfill(client, schedule.id, chunk[0], end)
            advance(len(chunk))
    return done


def _print_backfill(schedule: Schedule, slots: list[datetime], as_json: bool) -> None:
    for slot in slots:
        if as_json:
            out_json({"timestamp": iso(slot), "schedule_id": schedule.id})
        else:
            out(when(slot))
