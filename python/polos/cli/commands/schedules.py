"""``polos schedules``: the commands that read schedules. The next module has those that change
them.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime, timezone, tzinfo
from typing import Annotated, Any, cast, get_args
from zoneinfo import ZoneInfo

import typer

from polos import _polos, schedules
from polos._core.slot_spec import slot_spec
from polos._validate.formatting import shown
from polos.cli.ui.console import out, out_json, say, styled
from polos.cli.ui.json import entry_json, schedule_json
from polos.cli.ui.lookup import find_schedule
from polos.cli.ui.options import (
    Database,
    Json,
    KeyFilter,
    Project,
    TagFilter,
    WorkflowFilter,
    opened,
)
from polos.cli.ui.pager import After, All, Limit, listed
from polos.cli.ui.table import Cell, Column, Row, Table, facts
from polos.cli.ui.times import duration, instant, iso, now, spoken, took, until, when
from polos.cli.ui.values import status_value, tags_given
from polos.cli.ui.words import cadence, called, note_of, status_cell, value_text
from polos.client import PolosClient
from polos.exceptions import (
    InvalidArgumentError,
    InvalidScheduleError,
    PolosError,
    ScheduleNotFoundError,
)
from polos.models import LedgerEntry, Schedule, ScheduleStatus

__all__ = ["Name", "app"]

app = typer.Typer(no_args_is_help=True, help="List, show, and change schedules.")

Name = Annotated[
    str,
    typer.Argument(metavar="SCHEDULE", help="An id, a workflow, or WORKFLOW/KEY."),
]
PrefixFilter = Annotated[
    str | None, typer.Option("--key-prefix", metavar="TEXT", help="Only keys with this prefix.")
]
StatusFilter = Annotated[
    str | None,
    typer.Option(
        "--status", "-s", metavar="STATUS", help="active, paused, retired, finished, or broken."
    ),
]
OwnerFilter = Annotated[
    str | None, typer.Option("--owner", metavar="APP", help="Only schedules of this application.")
]


def status_of(given: str | None) -> ScheduleStatus | None:
    """Return a valid status."""
    known = get_args(ScheduleStatus)
    return None if given is None else cast("ScheduleStatus", status_value(given, known))


@app.command("list")
def list_(
    workflow: WorkflowFilter = None,
    key: KeyFilter = None,
    key_prefix: PrefixFilter = None,
    status: StatusFilter = None,
    owner: OwnerFilter = None,
    tag: TagFilter = None,
    limit: Limit = 50,
    after: After = None,
    everything: All = False,
    as_json: Json = False,
    database: Database = None,
    project: Project = "default",
) -> None:
    """List schedules, ordered by id."""
    wanted = status_of(status)
    if after is not None and not after.startswith("sch_"):
        raise InvalidArgumentError(f"--after: {shown(after)} given, expected a schedule's id")
    filters: dict[str, Any] = {"key_prefix": key_prefix} if key_prefix is not None else {}
    if (tags := tags_given(tag)) is not None:
        filters["tags"] = tags
    table = Table(
        Column("SCHEDULE", least=20, is_name=True),
        Column("STATUS"),
        Column("CADENCE", least=11, rank=1),
        Column("ZONE", rank=4),
        Column("NEXT"),
        Column("ID", rank=3),
        Column("NOTE", least=12, rank=2),
    )
    with opened(database, project) as client:
        listed(
            lambda count, last: schedules.sync.list(
                client,
                workflow=workflow,
                key=key,
                status=wanted,
                owner=owner,
                limit=count,
                after=last,
                **filters,
            ),
            _print_json if as_json else lambda page: table.add(map(_row, page)),
            limit=None if everything else limit,
            after=after,
            nothing=f"no matching schedules in project `{project}` of `{client.database}`",
        )


def _print_json(page: list[Schedule]) -> None:
    for schedule in page:
        out_json(schedule_json(schedule))


def _row(schedule: Schedule) -> Row:
    return [
        called(schedule.workflow, schedule.key),
        status_cell(schedule.status),
        cadence(schedule),
        schedule.timezone,
        when(schedule.upcoming),
        schedule.id,
        Cell(note_of(schedule), "yellow"),
    ]


# --- one schedule ----------------------------------------------------------------------------


@app.command()
def show(
    name: Name,
    count: Annotated[
        int, typer.Option("--count", "-n", metavar="N", min=0, max=100, help="Number of slots.")
    ] = 5,
    as_json: Json = False,
    database: Database = None,
    project: Project = "default",
) -> None:
    """Show one schedule.

    Shows its policies, its next slots, and its recent history.
    """
    with opened(database, project) as client:
        schedule = find_schedule(client, name)
        coming = _next_slots(client, schedule, count)
        entries = schedules.sync.history(client, schedule.id, limit=count)
    if as_json:
        out_json(
            {
                **schedule_json(schedule),
                "next": [iso(slot) for slot in coming],
                "history": [entry_json(entry) for entry in entries],
            }
        )
        return
    out(styled(called(schedule.workflow, schedule.key), "bold"))
    facts(_facts(schedule))
    if coming:
        out(f"\n{styled('next', 'bold')}")
        _print_slots(coming)
    if entries:
        out(f"\n{styled('history', 'bold')}")
        _history_table().add(map(_history_row, entries))


def _facts(schedule: Schedule) -> list[tuple[str, Cell | str | None]]:
    bounds = [
        (schedule.start_at, f"from {when(schedule.start_at)}"),
        (schedule.end_at, f"before {when(schedule.end_at)}"),
        (schedule.max_runs, f"at most {schedule.max_runs} runs"),
    ]
    catch_up = f"{schedule.catch_up}, within {spoken(schedule.catch_up_window)}"
    if schedule.catch_up == "all":
        catch_up += f", at most {schedule.max_catch_up}"
    failures = schedule.pause_after_failures
    return [
        ("id", schedule.id),
        ("workflow", schedule.workflow),
        ("key", schedule.key),
        ("status", status_cell(schedule.status)),
        ("note", Cell(note_of(schedule), "yellow")),
        ("cadence", cadence(schedule)),
        ("meaning", _meaning(schedule)),
        ("zone", schedule.timezone),
        ("overlap", schedule.overlap),
        ("catch-up", catch_up),
        ("jitter", f"up to {spoken(schedule.jitter)}" if schedule.jitter else None),
        ("bounds", ", ".join(text for value, text in bounds if value is not None)),
        (
            "skips",
            ", ".join(
                [
                    *(day.isoformat() for day in schedule.skip or ()),
                    *schedule.skip_cron,
                    *(f"calendar {name}" for name in schedule.calendars),
                ]
            ),
        ),
        (
            "on skip",
            "moves to the next workday" if schedule.on_skip else None,
        ),
        ("skipped", ", ".join(when(slot) for slot in schedule.skipped)),
        ("outcomes", _outcomes(schedule)),
        ("pauses", f"after {failures} failures in a row" if failures else None),
        ("priority", None if schedule.priority is None else str(schedule.priority)),
        ("tags", ", ".join(f"{name}={value}" for name, value in schedule.tags.items())),
        ("input", value_text(schedule.input)),
        ("declared by", schedule.owner),
        (
            "overridden",
            "yes; to restore the decorator's: polos schedules reset"
            if schedule.overridden
            else None,
        ),
        ("created", when(schedule.created_at)),
        ("updated", when(schedule.updated_at)),
    ]


def _outcomes(schedule: Schedule) -> str:
    counts = schedule.counts
    return f"{counts.ran:,} ran, {counts.skipped:,} skipped, {counts.missed:,} missed"


def _meaning(schedule: Schedule) -> str | None:
    if schedule.cron is None:
        return None
    try:
        return _polos.explain(slot_spec(schedule), 0, 0)[0]
    except PolosError:  # a broken schedule; its note says why
        return None


@app.command("next")
def next_(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="SCHEDULE", help="An id, a workflow, or WORKFLOW/KEY. Without it, all."
        ),
    ] = None,
    count: Annotated[
        int, typer.Option("--count", "-n", metavar="N", min=1, max=10_000, help="Number of slots.")
    ] = 10,
    within: Annotated[
        str | None,
        typer.Option(
            "--within", metavar="DURATION", help="Only slots within this time, such as 2h."
        ),
    ] = None,
    as_json: Json = False,
    database: Database = None,
    project: Project = "default",
) -> None:
    """Show the next slots.

    Shows the next slots of one schedule, or the next slot of each.
    """
    base = now()
    end = _end(base, within)
    with opened(database, project) as client:
        if name is None:
            _next_of_all(client, base, end, count, as_json)
            return
        schedule = find_schedule(client, name)
        slots = [slot for slot in _next_slots(client, schedule, count) if slot <= end]
    if as_json:
        for slot in slots:
            out_json(_slot_json(schedule, slot))
    elif slots:
        _print_slots(slots)
    else:
        is_active = schedule.status == "active"
        why = "has no slot by then" if is_active else f"is {schedule.status}"
        say(f"no next slot: it {why}")


def _end(base: datetime, within: str | None) -> datetime:
    if within is None:
        return datetime.max.replace(tzinfo=timezone.utc)
    try:
        return base + duration("--within", within)
    except OverflowError:
        raise InvalidArgumentError(f"--within: {shown(within)} is too long") from None


def _next_of_all(
    client: PolosClient, base: datetime, end: datetime, count: int, as_json: bool
) -> None:
    coming = schedules.sync.coming(client, until=end, limit=count)
    if as_json:
        for schedule in coming:
            out_json(_slot_json(schedule, schedule.upcoming))
        return
    table = Table(
        Column("SLOT"),
        Column("IN", rank=1),
        Column("SCHEDULE", least=20, is_name=True),
        Column("CADENCE", least=11, rank=2),
        Column("NOTE", least=12, rank=3),
        Column("ID", rank=4),
    )
    table.add(
        [
            when(schedule.upcoming),
            Cell(until(schedule.upcoming, base), "dim"),
            called(schedule.workflow, schedule.key),
            cadence(schedule),
            Cell(note_of(schedule), "yellow"),
            schedule.id,
        ]
        for schedule in coming
    )
    if not coming:
        say("no slot by then")


def _slot_json(schedule: Schedule, slot: datetime | None) -> dict[str, Any]:
    return {
        "timestamp": iso(slot),
        "schedule_id": schedule.id,
        "workflow": schedule.workflow,
        "key": schedule.key,
        "timezone": schedule.timezone,
    }


def _next_slots(client: PolosClient, schedule: Schedule, count: int) -> list[datetime]:
    """Return the next slots; only the stored one of a schedule that cannot be computed here."""
    try:
        return schedules.sync.upcoming(client, schedule.id, count)
    except InvalidScheduleError:  # an unknown zone, for example
        return [] if schedule.upcoming is None else [schedule.upcoming][:count]


def _print_slots(slots: list[datetime]) -> None:
    base = now()
    for slot in slots:
        distance = styled(until(slot, base), "dim")
        out(f"  {slot:%a} {when(slot)} {slot:%Z}  {distance}")


# --- history ---------------------------------------------------------------------------------


@app.command()
def history(
    name: Name,
    limit: Limit = 50,
    before: Annotated[
        str | None, typer.Option("--before", metavar="TIME", help="Only slots before this.")
    ] = None,
    as_json: Json = False,
    database: Database = None,
    project: Project = "default",
) -> None:
    """Show the outcome of each slot, and the reason."""
    with opened(database, project) as client:
        id, zone = _of_history(client, name)
        end = None if before is None else instant("--before", before, zone)
        entries = schedules.sync.history(client, id, limit=limit + 1, before=end)
    if as_json:
        for entry in entries[:limit]:
            out_json(entry_json(entry))
    else:
        _history_table().add(map(_history_row, entries[:limit]))
    if len(entries) > limit:
        say(
            f"there are more: pass --before '{when(entries[limit - 1].timestamp)}' for the next "
            "ones"
        )
    elif not entries:
        say("none of its slots has come due yet")


def _of_history(client: PolosClient, name: str) -> tuple[str, tzinfo]:
    """Return the schedule's id and zone; a deleted schedule keeps its history."""
    with suppress(ScheduleNotFoundError):
        entries = schedules.sync.history(client, name, limit=1)
        if entries:
            return name, entries[0].timestamp.tzinfo or timezone.utc
    schedule = find_schedule(client, name)
    return schedule.id, ZoneInfo(schedule.timezone)


def _history_table() -> Table:
    return Table(
        Column("SLOT"),
        Column("STATUS"),
        Column("COUNT", rank=2, is_number=True),
        Column("LATE", rank=3, is_number=True),
        Column("REASON", least=10),
        Column("RUN", rank=1),
    )


def _history_row(entry: LedgerEntry) -> Row:
    several = entry.count > 1
    return [
        when(entry.timestamp),
        status_cell(entry.status),
        f"{entry.count:,}" if several else "",
        took(entry.late_by),
        f"until {when(entry.until)}: {entry.reason or ''}" if several else entry.reason,
        entry.run_id,
    ]
