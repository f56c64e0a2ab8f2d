"""``polos calendars``: list, show, set, and delete stored calendars."""

from __future__ import annotations

import sys
from datetime import date
from pathlib import Path
from typing import Annotated

import typer

from polos import calendars
from polos._validate.formatting import shown
from polos.cli.ui.console import NOT_FOUND, TYPED_WRONG, fail, out, out_json, say, styled
from polos.cli.ui.json import calendar_json
from polos.cli.ui.options import Database, Json, Project, opened
from polos.cli.ui.table import Cell, Column, Table
from polos.cli.ui.times import when
from polos.cli.ui.words import counted
from polos.exceptions import InvalidArgumentError
from polos.models import Calendar

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Keep calendars: days that schedules skip.")

Name = Annotated[str, typer.Argument(metavar="CALENDAR", help="The calendar's name.")]


@app.command("list")
def list_(as_json: Json = False, database: Database = None, project: Project = "default") -> None:
    """List calendars with the number of their dates and the last one."""
    with opened(database, project) as client:
        found = calendars.sync.list(client)
        if as_json:
            for calendar in found:
                out_json(calendar_json(calendar))
            return
        if not found:
            say(
                f"project `{project}` of `{client.database}` has no calendars; create one with "
                "`polos calendars set us-holidays FILE`"
            )
            return
    table = Table(
        Column("CALENDAR", least=12, is_name=True),
        Column("DATES"),
        Column("LAST"),
        Column("UPDATED", rank=1),
    )
    table.add(
        [
            Cell(calendar.name),
            Cell(f"{len(calendar.dates):,}"),
            Cell(_last(calendar)),
            Cell(when(calendar.updated_at)),
        ]
        for calendar in found
    )


def _last(calendar: Calendar) -> str:
    return calendar.dates[-1].isoformat() if calendar.dates else ""


@app.command()
def show(
    name: Name, as_json: Json = False, database: Database = None, project: Project = "default"
) -> None:
    """Show the dates of a calendar, one per line, as `polos calendars set` reads them."""
    with opened(database, project) as client:
        calendar = calendars.sync.get(client, name)
    if as_json:
        out_json(calendar_json(calendar))
        return
    for day in calendar.dates:
        out(day.isoformat())


@app.command("set")
def set_(
    name: Name,
    file: Annotated[
        str,
        typer.Argument(metavar="FILE", help="iCalendar, or one date per line; - is stdin."),
    ],
    years: Annotated[
        int,
        typer.Option(metavar="N", help="How many years ahead yearly rules without an end count."),
    ] = 10,
    as_json: Json = False,
    database: Database = None,
    project: Project = "default",
) -> None:
    """Create a calendar from a file, or replace its dates.

    Schedules that name it (`--skip us-holidays`) follow within a second or two.
    """
    if not 1 <= years <= 100:
        fail(f"--years: {years} given, expected 1 to 100", TYPED_WRONG)
    text = _read(file)
    try:
        dates = calendars.parse(text, until=date(date.today().year + years, 12, 31))
    except InvalidArgumentError as error:
        fail(f"{shown(file)}, {error}", TYPED_WRONG)
    with opened(database, project) as client:
        calendar = calendars.sync.set(client, name, dates)
    if as_json:
        out_json(calendar_json(calendar))
        return
    if not calendar.dates:
        out(f"{styled(calendar.name, 'bold')}: no dates")
        return
    first, last = calendar.dates[0], calendar.dates[-1]
    out(
        f"{styled(calendar.name, 'bold')}: {counted(len(calendar.dates), 'date')} from "
        f"{first.isoformat()} to {last.isoformat()}"
    )


def _read(file: str) -> str:
    try:
        if file == "-":
            return sys.stdin.read()
        return Path(file).read_text(encoding="utf-8")
    except FileNotFoundError:
        fail(f"there is no file {shown(file)}", NOT_FOUND)
    except UnicodeDecodeError:
        fail(f"{shown(file)} isn't a text file in UTF-8; expected a calendar", TYPED_WRONG)
    except OSError as error:
        fail(f"can't read {shown(file)}: {error.strerror or error}", TYPED_WRONG)


@app.command()
def delete(name: Name, database: Database = None, project: Project = "default") -> None:
    """Delete a calendar that no schedule names."""
    with opened(database, project) as client:
        calendars.sync.delete(client, name)
    out(f"{name}: deleted")
