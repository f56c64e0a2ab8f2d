"""``polos import``: print the schedules of another tool as Python. It changes nothing."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from polos._validate.formatting import shown
from polos.cli.importers.local_zone import local_zone
from polos.cli.importers.model import Imported
from polos.cli.ui.console import HAPPENED, NOT_FOUND, TYPED_WRONG, fail, out, out_json, say
from polos.cli.ui.options import Json
from polos.cli.ui.words import counted

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True,
    help="Print the schedules of another tool as Python. Changes nothing.",
)

_LARGEST = 10_000_000


def _report(found: Imported, as_json: bool) -> None:
    """Print the result, and exit with 1 if something could not be converted."""
    from polos.cli.importers.printer import as_json as objects
    from polos.cli.importers.printer import as_python

    for remark in found.remarks:
        say(f"note: {remark}")
    if not found.entries:
        say(f"`{found.source}` has no schedules; there is nothing to convert")
        return
    if as_json:
        for item in objects(found):
            out_json(item)
    else:
        out(as_python(found).rstrip("\n"))
    refused = len(found.refused)
    if refused:
        say(
            f"{counted(len(found.converted), 'schedule')} converted, {refused} not; "
            f"{'`reason` and `remedy` say' if as_json else 'the end of the output says'} why, and "
            f"what to do"
        )
        raise typer.Exit(HAPPENED)
    say(f"{counted(len(found.converted), 'schedule')} converted; check the differences")


@app.command()
def crontab(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A crontab; `-` for stdin.")],
    zone: Annotated[
        str | None,
        typer.Option("--tz", metavar="ZONE", help="Its zone.  [default: that of this machine]"),
    ] = None,
    system: Annotated[
        bool | None,
        typer.Option(
            "--system/--user",
            help="Whether the sixth column is a user.  [default: in /etc/crontab and cron.d]",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Convert a crontab.

    Prints a workflow for each line, which runs its command.
    """
    from polos.cli.importers.crontab import read_crontab

    text = _text(file)
    path = Path(file)
    if system is None:
        system = path.name == "crontab" and path.absolute().parent.name == "etc"
        system = system or path.absolute().parent.name == "cron.d"
    given = zone or local_zone()
    _check_zone(given)
    name = "stdin" if file == "-" else file
    found = read_crontab(text, name, given or "UTC", has_users=system)
    if given is None:
        found.remarks.append("this machine doesn't name its zone; UTC is used, or pass `--tz ZONE`")
    _report(found, as_json)


@app.command()
def apscheduler(
    url: Annotated[
        str,
        typer.Argument(metavar="URL", help="The job store: a SQLite file, or SQLAlchemy's URL."),
    ],
    table: Annotated[
        str, typer.Option("--table", metavar="NAME", help="The table of APScheduler 3.")
    ] = "apscheduler_jobs",
    as_json: Json = False,
) -> None:
    """Convert the jobs that APScheduler 3 or 4 has stored with SQLAlchemy.

    Reads the pickles as data: imports and calls nothing that they name.
    """
    from polos.cli.importers.apscheduler import read_apscheduler
    from polos.cli.importers.stored import opened

    with opened(url) as stored:
        found = read_apscheduler(stored, table)
    _report(found, as_json)


@app.command()
def celery_beat(
    target: Annotated[
        str,
        typer.Argument(metavar="MODULE", help="A file or module, or MODULE:APP."),
    ],
    as_json: Json = False,
) -> None:
    """Convert the `beat_schedule` of a Celery application.

    Imports the module, as `celery beat` does, and connects to nothing.
    """
    from polos.cli.importers.celery_beat import read_celery_beat

    _report(read_celery_beat(target), as_json)


@app.command()
def django_celery_beat(
    url: Annotated[
        str, typer.Argument(metavar="URL", help="Django's database: a SQLite file, or a URL.")
    ],
    as_json: Json = False,
) -> None:
    """Convert the periodic tasks of django-celery-beat.

    Reads its tables; needs neither Django nor Celery.
    """
    from polos.cli.importers.django_celery_beat import read_django_celery_beat
    from polos.cli.importers.stored import opened

    with opened(url) as stored:
        found = read_django_celery_beat(stored)
    _report(found, as_json)


def _check_zone(zone: str | None) -> None:
    if zone is not None:
        from polos import schedules

        schedules.preview("0 0 * * *", zone, count=1)


def _text(file: str) -> str:
    """Return the content of a text file."""
    try:
        if file == "-":
            text = sys.stdin.read(_LARGEST + 1)
        else:
            with open(file, "rb") as opened:
                text = opened.read(_LARGEST + 1).decode()
    except FileNotFoundError:
        fail(f"there is no file {shown(file)}; `crontab -l` prints yours: "
             "crontab -l | polos import crontab -", NOT_FOUND)  # fmt: skip
    except IsADirectoryError:
        fail(f"{shown(file)} is a folder; name a file in it", TYPED_WRONG)
    except UnicodeDecodeError:
        text = "\0"
    except OSError as error:
        fail(f"can't read {shown(file)}: {error.strerror or error}")
    if "\0" in text:
        fail(f"{shown(file)} isn't a text file in UTF-8; expected a crontab", TYPED_WRONG)
    if len(text) > _LARGEST:
        fail(f"{shown(file)} has more than 10 MB; expected a crontab", TYPED_WRONG)
    return text
