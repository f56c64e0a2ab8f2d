"""The database of a command, and the options that all commands share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from polos._core.location import DATABASE_VARIABLE
from polos.cli.ui.console import NOT_FOUND, fail
from polos.cli.ui.interrupts import at_once
from polos.client import PolosClient

__all__ = ["Database", "Json", "KeyFilter", "Project", "WorkflowFilter", "missing", "opened"]

Database = Annotated[
    str | None,
    typer.Option(
        "--database",
        metavar="URL",
        help="A path or URL.  [default: $POLOS_DATABASE_URL, else polos.db]",
    ),
]

Project = Annotated[
    str,
    typer.Option(
        "--project", metavar="ID", envvar="POLOS_PROJECT", help="The namespace in the database."
    ),
]

Json = Annotated[bool, typer.Option("--json", help="Print JSON, one object per line.")]

WorkflowFilter = Annotated[
    str | None, typer.Option("--workflow", "-w", metavar="ID", help="Only this workflow.")
]

TagFilter = Annotated[
    list[str] | None,
    typer.Option("--tag", metavar="NAME=VALUE", help="Only with this tag; repeatable."),
]

KeyFilter = Annotated[str | None, typer.Option("--key", "-k", metavar="KEY", help="Only this key.")]


@contextmanager
def opened(database: str | None, project: str) -> Iterator[PolosClient]:
    """Open a client of an existing database. Reading must not create one."""
    client = PolosClient(database, project_id=project)
    trouble = missing(client, was_named=database is not None)
    if trouble is not None:
        fail(trouble, NOT_FOUND)
    with at_once(), client:
        yield client


def missing(client: PolosClient, *, was_named: bool) -> str | None:
    """Return the message for a database that does not exist, or ``None``."""
    path = client._location.path
    if path is None:
        return None
    try:
        if os.stat(path).st_size > 0 or os.path.exists(f"{path}-wal"):
            return None
        state = "is empty"
    except FileNotFoundError:
        state = "doesn't exist"
    except OSError:
        return None  # the store reports the cause
    if was_named:
        origin = "`--database` names it"
    elif os.environ.get(DATABASE_VARIABLE):
        origin = f"{DATABASE_VARIABLE} names it"
    else:
        origin = "the default; name another with `--database` or in POLOS_DATABASE_URL"
    return (
        f"the database `{path}` {state} ({origin}); a worker creates it when it "
        f"starts, `polos run app.py`"
    )
