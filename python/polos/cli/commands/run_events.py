"""``polos runs send``."""

from __future__ import annotations

from typing import Annotated

import typer

from polos import runs
from polos.cli.ui.console import TYPED_WRONG, fail, out, out_json
from polos.cli.ui.lookup import find_run
from polos.cli.ui.options import Database, Json, Project, opened
from polos.cli.ui.values import json_value

__all__ = ["send"]


def send(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="[RUN] EVENT",
            help="A run (an id; or a schedule or workflow, for its newest run), and the name of "
            "the event. With --workflow and --key, only the name.",
        ),
    ],
    payload: Annotated[
        str, typer.Option("--payload", metavar="JSON", help="What the run gets.")
    ] = "null",
    workflow: Annotated[
        str | None,
        typer.Option("--workflow", "-w", metavar="ID", help="The only unfinished run of it..."),
    ] = None,
    key: Annotated[
        str | None, typer.Option("--key", "-k", metavar="KEY", help="...with this key.")
    ] = None,
    idempotency_key: Annotated[
        str | None,
        typer.Option(
            "--idempotency-key", metavar="KEY", help="Sending it again with this is accepted again."
        ),
    ] = None,
    as_json: Json = False,
    database: Database = None,
    project: Project = "default",
) -> None:
    """Send an event to a run that waits for it, or will.

    The first event of a name wins. The exit code is 1 if this one is not accepted.
    """
    if (workflow is None) != (key is None):
        fail("pass --workflow and --key together, or a run", TYPED_WRONG)
    if len(names) != (2 if workflow is None else 1):
        expected = "RUN and EVENT" if workflow is None else "only EVENT, with --workflow and --key"
        fail(f"expected {expected}", TYPED_WRONG)
    data = json_value("--payload", payload, '{"by": "ada"}')
    name = names[-1]
    with opened(database, project) as client:
        if workflow is not None and key is not None:
            receiver = f"{workflow} {key}"
            is_accepted = runs.sync.send(
                client,
                workflow=workflow,
                key=key,
                name=name,
                payload=data,
                idempotency_key=idempotency_key,
            )
        else:
            receiver = find_run(client, names[0]).id
            is_accepted = runs.sync.send(
                client, receiver, name, data, idempotency_key=idempotency_key
            )
    if as_json:
        out_json({"to": receiver, "event": name, "accepted": is_accepted})
    elif is_accepted:
        out(f"{receiver} has the event {name}")
    else:
        out(
            f"{receiver} did not accept the event {name}: it has another one of this name, or no "
            f"longer waits for it"
        )
    if not is_accepted:
        raise typer.Exit(1)
