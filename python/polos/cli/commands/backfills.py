"""``polos backfills``: list, show, and cancel backfills."""

from __future__ import annotations

from typing import Annotated

import typer

from polos import backfills
from polos.cli.ui.confirm import Yes, confirmed
from polos.cli.ui.console import out, out_json, say, styled
from polos.cli.ui.json import backfill_json
from polos.cli.ui.options import Database, Json, Project, opened
from polos.cli.ui.table import Cell, Column, Row, Table, facts
from polos.cli.ui.words import counted
from polos.models import BackfillInfo

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Watch and cancel backfills.")

Id = Annotated[str, typer.Argument(metavar="BACKFILL", help="The backfill's id.")]


@app.command("list")
def list_(as_json: Json = False, database: Database = None, project: Project = "default") -> None:
    """List backfills whose runs are stored, and how far they are.

    `polos schedules backfill` starts them.
    """
    with opened(database, project) as client:
        found = backfills.sync.list(client)
        if as_json:
            for backfill in found:
                out_json(backfill_json(backfill))
            return
        if not found:
            say(f"no backfills in project `{project}` of `{client.database}`")
            return
    table = Table(
        Column("BACKFILL", least=20, is_name=True),
        Column("WORKFLOW", rank=1),
        Column("DONE", is_number=True),
        Column("FAILED", rank=2, is_number=True),
        Column("RUNNING", is_number=True),
        Column("WAITING", is_number=True),
    )
    table.add(map(_row, found))


def _row(backfill: BackfillInfo) -> Row:
    return [
        Cell(backfill.id),
        backfill.workflow,
        f"{backfill.done:,}",
        f"{backfill.failed:,}",
        f"{backfill.running:,}",
        f"{backfill.waiting:,}",
    ]


@app.command()
def show(
    id: Id, as_json: Json = False, database: Database = None, project: Project = "default"
) -> None:
    """Show how far a backfill is."""
    with opened(database, project) as client:
        backfill = backfills.sync.get(client, id)
    _print(backfill, as_json)


@app.command()
def cancel(
    id: Id,
    yes: Yes = False,
    as_json: Json = False,
    database: Database = None,
    project: Project = "default",
) -> None:
    """Cancel the unfinished runs of a backfill.

    Those in progress are asked to stop. What is finished stays.
    """
    with opened(database, project) as client:
        before = backfills.sync.get(client, id)
        unfinished = before.running + before.waiting
        if unfinished:
            confirmed(f"Cancel {counted(unfinished, 'run')}?", yes)
        after = backfills.sync.cancel(client, id)
    _print(after, as_json)


def _print(backfill: BackfillInfo, as_json: bool) -> None:
    if as_json:
        out_json(backfill_json(backfill))
        return
    out(styled(backfill.id, "bold"))
    at_once = backfill.concurrency
    facts(
        [
            ("workflow", backfill.workflow),
            ("schedule", backfill.schedule_id),
            ("at once", "as the overlap policy says" if at_once is None else f"{at_once:,}"),
            ("done", f"{backfill.done:,} of {backfill.total:,}"),
            ("failed", f"{backfill.failed:,}" if backfill.failed else None),
            ("cancelled", f"{backfill.cancelled:,}" if backfill.cancelled else None),
            ("running", f"{backfill.running:,}"),
            ("waiting", f"{backfill.waiting:,}"),
        ]
    )
