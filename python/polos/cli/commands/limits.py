"""``polos limits``: list, show, set, reset, and delete limits."""

from __future__ import annotations

from typing import Annotated

import typer

from polos import limits
from polos._display.limits import described_values, override_text
from polos._validate.limits import described
from polos.cli.ui.console import out, out_json, say, styled
from polos.cli.ui.json import limit_json
from polos.cli.ui.options import Database, Json, Project, opened
from polos.cli.ui.table import Cell, Column, Row, Table, facts
from polos.cli.ui.times import duration, now, until, when
from polos.exceptions import InvalidArgumentError
from polos.models import LimitInfo

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="List and change limits on runs.")

_UNDECLARED = "no live worker; if the code has it no more: polos limits delete {}"

Name = Annotated[str, typer.Argument(metavar="LIMIT", help="The limit's name.")]


@app.command("list")
def list_(as_json: Json = False, database: Database = None, project: Project = "default") -> None:
    """List limits with their values and their use."""
    with opened(database, project) as client:
        found = limits.sync.list(client)
        if as_json:
            for limit in found:
                out_json(limit_json(limit))
            return
        if not found:
            say(f"no worker of project `{project}` of `{client.database}` has declared a limit")
            return
    table = Table(
        Column("LIMIT", least=12, is_name=True),
        Column("VALUES"),
        Column("RUNNING"),
        Column("QUEUED"),
        Column("SINCE", rank=2),
        Column("WORKFLOWS", least=12, rank=1),
    )
    table.add(map(_row, found))


def _row(limit: LimitInfo) -> Row:
    values = described_values(limit)
    if limit.overridden:
        declared = f"declared: {described(limit.declared.items())}"
        set_values = override_text(limit).removeprefix("set by an operator")
        values += f" ({declared}; set{set_values})" if set_values else f" ({declared})"
    return [
        Cell(limit.name),
        Cell(values),
        Cell(f"{limit.running:,}"),
        Cell(f"{limit.queued:,}"),
        Cell(_since(limit)),
        Cell(", ".join(limit.workflows)),
    ]


def _since(limit: LimitInfo) -> str:
    return "" if limit.queued_since is None else until(limit.queued_since, now())


@app.command()
def show(
    name: Name, as_json: Json = False, database: Database = None, project: Project = "default"
) -> None:
    """Show a limit: the values in effect, the declared ones, and its use."""
    with opened(database, project) as client:
        limit = limits.sync.get(client, name)
    if as_json:
        out_json(limit_json(limit))
        return
    out(styled(limit.name, "bold"))
    others = ", ".join(limit.declared_differently)
    facts(
        [
            ("values", described_values(limit)),
            (
                "set by",
                f"an operator; to restore the declared: polos limits reset {limit.name}"
                if limit.overridden
                else None,
            ),
            ("set values", described(limit.set_values.items()) if limit.overridden else None),
            ("declared", described(limit.declared.items())),
            ("live apps", ", ".join(limit.declared_by) or _UNDECLARED.format(limit.name)),
            ("not counted", f"the declarations of live workers of {others}" if others else None),
            ("running", f"{limit.running:,}"),
            ("queued", f"{limit.queued:,}"),
            ("since", _since(limit)),
            ("workflows", ", ".join(limit.workflows)),
            ("updated", when(limit.updated_at)),
        ]
    )


@app.command("set")
def set_(
    name: Name,
    max: Annotated[
        int | None, typer.Argument(metavar="[MAX]", help="Most runs in progress at once.")
    ] = None,
    per_key: Annotated[
        int | None, typer.Option(metavar="N", help="Most runs in progress with the same key.")
    ] = None,
    rate: Annotated[
        int | None, typer.Option(metavar="N", help="Most runs that start in a period.")
    ] = None,
    per: Annotated[
        str | None, typer.Option(metavar="DURATION", help="That period, such as 60s.")
    ] = None,
    database: Database = None,
    project: Project = "default",
) -> None:
    """Set values of a limit in place of the declared ones, until they are reset.

    They take effect within a second. A lower value cancels nothing.
    """
    if max is None and per_key is None and rate is None and per is None:
        raise InvalidArgumentError(
            f"no value given, such as `polos limits set {name} 5`; `polos limits reset {name}` "
            "goes back to the declared ones"
        )
    period = None if per is None else duration("--per", per)
    with opened(database, project) as client:
        limits.sync.set(client, name, max, per_key=per_key, rate=rate, per=period)
        found = limits.sync.get(client, name)
    out(f"{name}: {described_values(found)}")


@app.command()
def reset(name: Name, database: Database = None, project: Project = "default") -> None:
    """Go back to the values that the code declares."""
    with opened(database, project) as client:
        limits.sync.reset(client, name)
        found = limits.sync.get(client, name)
    out(f"{name}: {described(found.declared.items())}")


@app.command()
def delete(name: Name, database: Database = None, project: Project = "default") -> None:
    """Delete a limit that the code no longer declares.

    Refused while a worker that declares it is registered, or an unfinished run counts against it.
    """
    with opened(database, project) as client:
        limits.sync.delete(client, name)
    out(f"{name}: deleted")
