"""``polos migrate``: transfer all data of a SQLite file to PostgreSQL.

The core transfers; this module checks the source and target, and shows progress and the result.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Annotated, Any

import typer

from polos import _polos
from polos._core.location import locate
from polos.cli.ui.console import NOT_FOUND, TYPED_WRONG, fail, out, out_json, say
from polos.cli.ui.interrupts import with_care
from polos.cli.ui.options import Json, missing
from polos.client import PolosClient

__all__ = ["migrate"]

_BATCH = 2_000

# A progress callback: project, whether both sides are being compared, table, rows done, total rows.
_Report = Callable[[str, bool, str, int, int], object]


def migrate(
    target: Annotated[
        str, typer.Option("--to", metavar="URL", help="The PostgreSQL database to transfer to.")
    ],
    source: Annotated[
        str, typer.Option("--from", metavar="PATH", help="The SQLite file to transfer from.")
    ] = "polos.db",
    project: Annotated[
        list[str] | None,
        typer.Option("--project", metavar="ID", help="Only this project; repeatable."),
    ] = None,
    no_history: Annotated[
        bool,
        typer.Option("--no-history", help="Leave finished runs behind."),
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Even if a worker seems to use the file.")
    ] = False,
    abandon: Annotated[
        bool,
        typer.Option("--abandon", help="Undo a transfer that has not completed."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Transfer a SQLite file to PostgreSQL.

    Transfers schedules, runs, steps, and history. Unfinished runs continue there from their first
    unfinished step, and no slot runs twice. Stop the workers first. You can kill it and start it
    again. At the end it compares every row on both sides and closes the file, which
    stays as a copy.
    """
    path, url = _places(source, target)
    projects = project or []
    with with_care():
        if abandon:
            _abandon(path, url, projects, as_json)
            return
        with _shown(as_json) as report:
            moved = json.loads(
                _polos.transfer_projects(path, url, projects, not no_history, force, _BATCH, report)
            )
    _report(moved, path, url, as_json)


def _places(source: str, target: str) -> tuple[str, str]:
    """Return the path of the source file and the URL of the target."""
    there = locate(target, argument="--to")
    if there.url is None:
        fail(f"--to: `{there.name}` isn't the URL of a PostgreSQL database", TYPED_WRONG)
    place = locate(source, argument="--from")
    if place.path is None:
        fail(
            f"--from: `{place.name}` is not a SQLite file; only a file can be transferred to a "
            "server",
            TYPED_WRONG,
        )
    here = PolosClient(source)
    if missing(here, was_named=True) is not None:
        fail(f"the file `{place.path}` doesn't exist (`--from` names it)", NOT_FOUND)
    return place.path, there.url


def _abandon(path: str, url: str, projects: list[str], as_json: bool) -> None:
    names = _polos.abandon_transfer(path, url, projects)
    if as_json:
        out_json({"abandoned": names})
    elif names:
        out(f"undone: {', '.join(names)}; the file `{path}` is open again")
    else:
        out("no transfer was in progress")


def _report(moved: list[dict[str, Any]], path: str, url: str, as_json: bool) -> None:
    if as_json:
        for item in moved:
            out_json(item)
        return
    name = locate(url).name
    if not moved:
        out(f"`{path}` has nothing to transfer")
        return
    for item in moved:
        if not item["tables"]:
            out(f"{item['project']}: transferred earlier")
            continue
        counts = ", ".join(
            f"{table['count']:,} {_named(table['table'], table['count'])}"
            for table in item["tables"]
            if table["count"]
        )
        out(f"{item['project']}: {counts or 'no rows'}; every row matches on both sides")
        if item["freed"]:
            out(
                f"  {item['freed']} of the runs had lost their worker and continue with the next "
                "one"
            )
    out(f"the database is now {name}; point workers and clients to it: POLOS_DATABASE_URL")


_NAMES = {
    "run_limit": ("limit", "limits"),
    "calendar": ("calendar", "calendars"),
    "workflow": ("workflow", "workflows"),
    "run": ("run", "runs"),
    "step": ("step", "steps"),
    "event": ("event", "events"),
    "ledger": ("history entry", "history entries"),
    "schedule": ("schedule", "schedules"),
}


def _named(table: str, count: int) -> str:
    one, many = _NAMES[table]
    return one if count == 1 else many


@contextmanager
def _shown(as_json: bool) -> Iterator[_Report]:
    """Show a progress bar if stderr is a terminal, and a line for each table otherwise."""
    is_seen = False
    with suppress(OSError, ValueError, AttributeError):
        is_seen = sys.stderr.isatty()
    if not is_seen:
        yield _lines(as_json)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        tasks: dict[tuple[str, bool, str], Any] = {}

        def report(project: str, is_comparing: bool, table: str, done: int, total: int) -> None:
            place = (project, is_comparing, table)
            if place not in tasks:
                what = (
                    f"{'compare' if is_comparing else 'transfer'} {_named(table, 2)} of {project}"
                )
                tasks[place] = bar.add_task(what, total=total)
            bar.update(tasks[place], completed=done, total=total)

        yield report


def _lines(as_json: bool) -> _Report:
    output: set[tuple[str, bool, str]] = set()

    def report(project: str, is_comparing: bool, table: str, done: int, total: int) -> None:
        place = (project, is_comparing, table)
        if place in output or as_json:
            return
        output.add(place)
        what = "comparing" if is_comparing else "transferring"
        say(f"{project}: {what} {total:,} {_named(table, total)}")

    return report
