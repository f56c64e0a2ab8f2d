"""``polos runs start``: start runs of a workflow."""

from __future__ import annotations

from datetime import timezone
from typing import Annotated, Any

import typer

from polos import Debounce, runs, workers
from polos._validate.formatting import shown
from polos.cli.commands.runs import end_of
from polos.cli.ui.console import out, out_json, say
from polos.cli.ui.options import Database, Json, Project, opened
from polos.cli.ui.times import duration, instant
from polos.cli.ui.values import json_value
from polos.exceptions import InvalidArgumentError

__all__ = ["start"]


def start(
    workflow: Annotated[str, typer.Argument(metavar="WORKFLOW", help="The workflow's id.")],
    payload: Annotated[
        str | None, typer.Option("--payload", metavar="JSON", help="Data for the handler.")
    ] = None,
    key: Annotated[
        str | None, typer.Option("--key", "-k", metavar="KEY", help="The run's key.")
    ] = None,
    delay: Annotated[
        str | None,
        typer.Option("--delay", metavar="DURATION", help="How long to wait first: 90s, 15m, 2d."),
    ] = None,
    at: Annotated[
        str | None,
        typer.Option("--at", metavar="TIME", help="When to start: '2026-12-01 09:00' (UTC)..."),
    ] = None,
    priority: Annotated[
        int | None,
        typer.Option(
            "--priority", metavar="N", help="From 0 to 9; by default that of the workflow."
        ),
    ] = None,
    debounce: Annotated[
        str | None,
        typer.Option(
            "--debounce", metavar="KEY", help="Replace the run that waits with this debounce key."
        ),
    ] = None,
    debounce_delay: Annotated[
        str | None,
        typer.Option(
            "--debounce-delay", metavar="DURATION", help="How long after the last call it starts."
        ),
    ] = None,
    debounce_at_most: Annotated[
        str | None,
        typer.Option(
            "--debounce-at-most",
            metavar="DURATION",
            help="How long after the first call it starts at the latest.",
        ),
    ] = None,
    idempotency_key: Annotated[
        str | None,
        typer.Option(
            "--idempotency-key", metavar="TEXT", help="The same key again is the same run."
        ),
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait until it completes; exit code 1 if it fails.")
    ] = False,
    as_json: Json = False,
    database: Database = None,
    project: Project = "default",
) -> None:
    """Start a run of a workflow that a worker has registered.

    Prints the run's id. `runs list` shows a delayed run as queued, `runs show` when it is due.
    """
    wanted = None if payload is None else json_value("--payload", payload, '{"user": 7}')
    after = None if delay is None else duration("--delay", delay)
    moment = None if at is None else instant("--at", at, timezone.utc)
    debounced = _debounce(debounce, debounce_delay, debounce_at_most)
    with opened(database, project) as client:
        handle: runs.RunHandle[Any] = runs.sync.invoke(
            client,
            workflow,
            wanted,
            key=key,
            delay=after,
            at=moment,
            debounce=debounced,
            priority=priority,
            idempotency_key=idempotency_key,
        )
        out_json({"run_id": handle.id, "workflow": workflow}) if as_json else out(handle.id)
        if not any(
            workflow in each.workflows for each in workers.sync.list(client) if not each.is_gone
        ):
            say(f"no live worker has registered the workflow `{workflow}`; the run waits for one")
        if not wait:
            return
        run = end_of(client, handle.id)
    say(f"{run.id} {run.status}{f': {run.error}' if run.error else ''}")
    if run.status != "succeeded":
        raise typer.Exit(1)


def _debounce(key: str | None, delay: str | None, at_most: str | None) -> Debounce | None:
    options = {"--debounce-delay": delay, "--debounce-at-most": at_most}
    given = {name: duration(name, text) for name, text in options.items() if text is not None}
    if key is None:
        for name in given:
            raise InvalidArgumentError(
                f"{name}: given without --debounce; name the calls that belong together, such as "
                f"`--debounce u7`"
            )
        return None
    if delay is None:
        raise InvalidArgumentError(
            f"--debounce: {shown(key)} given without --debounce-delay; say how long the run waits "
            f"for another call, such as `--debounce-delay 30s`"
        )
    return Debounce(key, delay=given["--debounce-delay"], at_most=given.get("--debounce-at-most"))
