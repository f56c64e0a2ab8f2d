"""``polos runs``: list, show, cancel, retry, watch; see `run_start.py` and `run_events.py`."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import datetime, timezone
from typing import Annotated, cast, get_args

import typer

from polos import limits, runs
from polos._display.limits import limit_wait
from polos.cli.commands.run_events import send
from polos.cli.ui.confirm import Yes, confirmed
from polos.cli.ui.console import TYPED_WRONG, fail, finish, out, out_json, say, styled
from polos.cli.ui.interrupts import with_care
from polos.cli.ui.json import run_json
from polos.cli.ui.lookup import find_run, find_schedule, named
from polos.cli.ui.matching import either_names_or_filters
from polos.cli.ui.options import Database, Json, KeyFilter, Project, WorkflowFilter, opened
from polos.cli.ui.pager import After, All, Limit, listed
from polos.cli.ui.table import Cell, Column, Row, Table, facts
from polos.cli.ui.times import instant, now, took, until, when
from polos.cli.ui.values import status_value
from polos.cli.ui.words import called, counted, duration_of, error_text, status_cell, value_text
from polos.client import PolosClient
from polos.exceptions import InvalidStateError, PolosError
from polos.models import ErrorInfo, Run, RunStatus, StepInfo

__all__ = ["app", "end_of"]

app = typer.Typer(
    no_args_is_help=True,
    help="Start, list, show, cancel, retry, and watch runs; send events.",
)

Name = Annotated[
    str,
    typer.Argument(metavar="RUN", help="An id; or a schedule or workflow, for its newest run."),
]
Names = Annotated[
    list[str], typer.Argument(metavar="RUN", help="Ids, workflows...; - reads them from stdin.")
]
StatusFilter = Annotated[
    list[str] | None,
    typer.Option(
        "--status",
        "-s",
        metavar="STATUS",
        help="queued, running, waiting, succeeded, failed, or cancelled; repeatable.",
    ),
]

# How often a watched run is read, in seconds.
_LOOK = 0.25

# Matches the paths of any machine on which a traceback was recorded.
_OURS = re.compile(r'[/\\]polos[/\\](context|_core[/\\]\w+|_runtime[/\\][\w/\\]+)\.py", line')

_ENDS = ("succeeded", "failed", "cancelled")


def statuses_of(given: Iterable[str] | None) -> list[RunStatus] | None:
    """Return valid statuses; they may be separated by commas."""
    known = get_args(RunStatus)
    names = [name.strip() for text in given or () for name in text.split(",")]
    return cast("list[RunStatus]", [status_value(name, known) for name in names]) or None


@app.command("list")
def list_(
    workflow: WorkflowFilter = None,
    key: KeyFilter = None,
    schedule: Annotated[
        str | None, typer.Option("--schedule", metavar="SCHEDULE", help="Only this schedule.")
    ] = None,
    status: StatusFilter = None,
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="TIME", help="Created at or after this, such as '2h ago'."),
    ] = None,
    limit: Limit = 50,
    after: After = None,
    everything: All = False,
    as_json: Json = False,
    database: Database = None,
    project: Project = "default",
) -> None:
    """List runs, newest first."""
    wanted = statuses_of(status)
    start = None if since is None else instant("--since", since, timezone.utc)
    table = _table()
    base = now()
    with opened(database, project) as client:
        if after is not None:
            runs.sync.get(client, after)  # raises if it does not exist; the page would be empty
        schedule_id = None if schedule is None else find_schedule(client, schedule).id
        listed(
            lambda count, last: runs.sync.list(
                client,
                workflow=workflow,
                key=key,
                schedule=schedule_id,
                status=wanted,
                since=start,
                limit=count,
                after=last,
            ),
            _print_json if as_json else lambda page: table.add(_row(run, base) for run in page),
            limit=None if everything else limit,
            after=after,
            nothing=f"no matching runs in project `{project}` of `{client.database}`",
        )


def _print_json(page: list[Run]) -> None:
    for run in page:
        out_json(run_json(run))


def _table() -> Table:
    return Table(
        Column("RUN"),
        Column("STATUS"),
        Column("OF", least=12, is_name=True),
        Column("SLOT", rank=3),
        Column("STARTED", rank=1, is_number=True),
        Column("TOOK", rank=2, is_number=True),
        Column("ERROR", least=12, rank=4),
    )


def _row(run: Run, base: datetime) -> Row:
    return [
        run.id,
        status_cell(run.status),
        called(run.workflow, run.key),
        when(run.timestamp),
        until(run.started_at, base),
        duration_of(run),
        Cell(error_text(run.error), "red"),
    ]


# --- one run ---------------------------------------------------------------------------------


@app.command()
def show(
    name: Name,
    as_json: Json = False,
    database: Database = None,
    project: Project = "default",
) -> None:
    """Show one run, with its steps.

    Includes its result, or its error with the traceback.
    """
    with opened(database, project) as client:
        run = find_run(client, name)
        held = [] if as_json else limits.sync._of_run(client, run)
    if as_json:
        out_json(run_json(run, is_whole=True))
        return
    out(styled(called(run.workflow, run.key), "bold"))
    facts(_facts(run, limit_wait(run, held, now())))
    if run.steps:
        out(f"\n{styled('steps', 'bold')}")
        table = Table(
            Column("STEP", least=8),
            Column("STATUS"),
            Column("ATTEMPT", rank=3, is_number=True),
            Column("STARTED", rank=2),
            Column("TOOK", is_number=True),
            Column("RESULT", least=10, rank=1),
        )
        table.add(_step_row(step, has_ended=run.status in _ENDS) for step in run.steps)
    if run.error is not None:
        out(f"\n{styled('error', 'bold')}")
        _print_error(run.error)


def _facts(run: Run, waits_for: str | None) -> list[tuple[str, Cell | str | None]]:
    waits = [step.wakes_at for step in run.steps if step.status == "waiting" and step.wakes_at]
    return [
        ("id", run.id),
        ("workflow", run.workflow),
        ("key", run.key),
        ("status", status_cell(run.status)),
        ("slot", when(run.timestamp)),
        ("started by", run.origin),
        ("schedule", run.schedule_id),
        ("parent", run.parent),
        ("attempt", str(run.attempt) if run.attempt > 1 else None),
        ("priority", str(run.priority) if run.priority else None),
        ("not retried", not_retried_text(run)),
        ("interrupted", interrupted_text(run)),
        ("note", run.note),
        ("progress", progress_text(run)),
        ("created", when(run.created_at)),
        ("due", when(run.due_at) if _is_delayed(run) else None),
        ("started", when(run.started_at)),
        ("finished", when(run.finished_at)),
        ("took", duration_of(run)),
        ("waits for", waits_for or awaited_text(run)),
        ("continues", when(min(waits)) if waits and run.status not in _ENDS else None),
        ("worker", run.worker),
        ("payload", value_text(run.payload)),
        ("input", value_text(run.input)),
        ("result", value_text(run.result)),
    ]


def _is_delayed(run: Run) -> bool:
    """Return whether the run is queued for a later time. Of a waiting run, its steps say more."""
    return run.status == "queued" and run.due_at is not None and run.due_at > run.created_at


def progress_text(run: Run) -> str | None:
    """Return what a run that has not succeeded last reported about its progress, and when."""
    if run.progress is None or run.status == "succeeded":
        return None
    return f"{run.progress} ({when(run.progress.timestamp)})"


def awaited_text(run: Run) -> str | None:
    """Return the events that the run waits for, or ``None``."""
    names = [step.name for step in run.steps if step.awaits_event]
    if not names or run.status in _ENDS:
        return None
    noun = "event" if len(names) == 1 else "events"
    return f"{noun} {', '.join(names)}: polos runs send {run.id} {names[0]}"


def interrupted_text(run: Run) -> str | None:
    """Return how often the run's worker disappeared, or ``None``."""
    if not run.interruptions:
        return None
    times = "once" if run.interruptions == 1 else f"{run.interruptions} times in a row"
    return f"{times}; its worker disappeared"


def not_retried_text(run: Run) -> str | None:
    """Return why the run, or a step of it, was not retried although retries were left."""
    if run.error is not None and run.error.not_retried is not None:
        return run.error.not_retried
    for step in run.steps:
        if step.error is not None and step.error.not_retried is not None:
            return f"step `{step.name}`: {step.error.not_retried}"
    return None


def _step_row(step: StepInfo, *, has_ended: bool = False) -> Row:
    lasted = None
    if step.started_at is not None and step.finished_at is not None:
        lasted = took(step.finished_at - step.started_at)
    output: Cell | str = value_text(step.result)
    if step.error is not None:
        output = Cell(error_text(step.error), "red")
    elif step.awaits_event and has_ended:
        output = "the run ended before this event came"
    elif step.awaits_event:
        limit = "" if step.wakes_at is None else f" until {when(step.wakes_at)}"
        output = f"for this event{limit}"
    elif step.timed_out:
        output = "timed out: no event came"
    elif step.wakes_at is not None and step.status == "waiting":
        output = f"until {when(step.wakes_at)}"
    return [
        step.name,
        status_cell(step.status),
        str(step.attempt) if step.attempt > 1 else "",
        when(step.started_at),
        lasted,
        output,
    ]


def _print_error(error: ErrorInfo) -> None:
    """Print an error as Python does, its cause first."""
    if error.cause is not None:
        _print_error(error.cause)
        out("\nwhich led to\n")
    for line in frames(error.traceback):
        out(_escaped(line))
    for number, line in enumerate(error_text(error).splitlines() or [""]):
        out(styled(_escaped(line), "red") if number == 0 else _escaped(line))


def frames(traceback: str) -> list[str]:
    """Return the lines of a traceback without frames of polos between the application's frames."""
    kept: list[str] = []
    is_ours = False
    for line in traceback.rstrip().splitlines():
        if line.startswith("  File "):
            is_ours = _OURS.search(line) is not None
        if not is_ours:
            kept.append(line)
    return kept


def _escaped(line: str) -> str:
    return line if line.isprintable() else "".join(
        c if c.isprintable() or c == "\t" else c.encode("unicode_escape").decode() for c in line
    )  # fmt: skip


# --- cancel, retry ---------------------------------------------------------------------------


@app.command()
def cancel(
    names: Names, as_json: Json = False, database: Database = None, project: Project = "default"
) -> None:
    """Cancel runs.

    A waiting run is cancelled at once, a running one when its handler stops.
    """
    _each(names, runs.sync.cancel, as_json, database, project)


@app.command()
def retry(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="RUN", help="Ids, workflows...; - reads them from stdin."),
    ] = None,
    workflow: WorkflowFilter = None,
    key: KeyFilter = None,
    status: StatusFilter = None,
    error: Annotated[
        str | None,
        typer.Option(
            "--error", metavar="CLASS", help="Only runs that failed with it: CodeChangedError..."
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List them and change nothing.")
    ] = False,
    yes: Yes = False,
    as_json: Json = False,
    database: Database = None,
    project: Project = "default",
) -> None:
    """Retry failed or cancelled runs, by name or by filters.

    They continue from their first unfinished steps.
    """
    wanted = statuses_of(status)
    is_filtered = any(part is not None for part in (workflow, key, wanted, error))
    either_names_or_filters("runs", "--status failed", bool(names), is_filtered)
    if names:
        if dry_run:
            fail("--dry-run works only with filters", TYPED_WRONG)
        _each(names, runs.sync.retry, as_json, database, project)
        return
    for name in wanted or ():
        if name not in ("failed", "cancelled"):
            fail(f"--status: a run that is {name} cannot be retried; pass failed or cancelled",
                 TYPED_WRONG)  # fmt: skip
    with opened(database, project) as client:
        found = runs.sync.list(
            client,
            workflow=workflow,
            key=key,
            status=None if error is not None and not wanted else wanted or ["failed"],
            error=error,
            limit=None,
            brief=True,
        )
        if not found:
            say("no runs to retry")
            return
        if dry_run:
            for run in found:
                out_json(run_json(run)) if as_json else out(f"{run.id} would be retried")
            return
        confirmed(f"Retry {counted(len(found), 'run')}?", yes)
        # The oldest first, as they were begun.
        for run in reversed(found):
            try:
                now_is = runs.sync.retry(client, run.id)
            except InvalidStateError:  # another process was faster
                continue
            if as_json:
                out_json(run_json(runs.sync.get(client, run.id)))
            else:
                out(f"{run.id} is {now_is}")


def _each(
    names: list[str],
    act: Callable[[PolosClient, str], RunStatus],
    as_json: bool,
    database: str | None,
    project: str,
) -> None:
    is_one = len(names) == 1 and names[0] != "-"
    count, has_failed = 0, False
    with opened(database, project) as client:
        for name in named(names):
            count += 1
            try:
                run = find_run(client, name)
                status = act(client, run.id)
            except PolosError as error:
                if is_one:
                    raise
                say(f"polos: {error}")
                has_failed = True
                continue
            if as_json:
                out_json(run_json(runs.sync.get(client, run.id)))
            elif status == "running":
                out(
                    f"{run.id} is being cancelled"
                    if act is runs.sync.cancel
                    else f"{run.id} is running"
                )
            else:
                out(f"{run.id} is {status}")
    if not count:
        fail("no runs given: stdin is empty", TYPED_WRONG)
    if has_failed:
        raise typer.Exit(1)


app.command()(send)


# --- watch -----------------------------------------------------------------------------------


@app.command()
def watch(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="RUN",
            help="An id; or a schedule or workflow, for its newest run. Without it, all "
            "runs as they happen.",
        ),
    ] = None,
    workflow: WorkflowFilter = None,
    key: KeyFilter = None,
    as_json: Json = False,
    database: Database = None,
    project: Project = "default",
) -> None:
    """Follow a run until it completes, or follow all runs.

    Without RUN, until Ctrl-C.
    With RUN, the exit code is 0 if it succeeds, 1 if it fails or is cancelled.
    """
    with opened(database, project) as client:
        if name is None:
            with suppress(KeyboardInterrupt), with_care():
                _watch_all(client, workflow, key, as_json)
            return
        if workflow is not None or key is not None:
            fail("--workflow and --key work only without RUN", TYPED_WRONG)
        run = _watch_one(client, find_run(client, name), as_json)
    if run.status != "succeeded":
        raise typer.Exit(1)


def _watch_one(client: PolosClient, run: Run, as_json: bool) -> Run:
    printed: dict[str, str] = {}
    while True:
        for step in run.steps:
            if printed.get(step.name) != step.status:
                printed[step.name] = step.status
                if not as_json:
                    _print_step(step)
        if run.progress is not None and printed.get("progress") != (output := str(run.progress)):
            printed["progress"] = output
            if as_json:
                out_json(run_json(run, is_whole=True))
            else:
                out(f"{when(run.progress.timestamp)}  {run.id}  {_escaped(output)}")
        if printed.get("") != run.status:
            printed[""] = run.status
            if as_json:
                out_json(run_json(run, is_whole=True))
            else:
                _print_run(run)
        if run.status in _ENDS:
            return run
        finish()
        time.sleep(_LOOK)
        run = runs.sync.get(client, run.id)


def _print_step(step: StepInfo) -> None:
    moment = step.finished_at or step.started_at
    cells = _step_row(step)
    status = status_cell(step.status)
    output = cells[-1].text if isinstance(cells[-1], Cell) else cells[-1]
    out(f"{when(moment)}  step {step.name}  {styled(status.text, status.style)}  {output}".rstrip())


def _print_run(run: Run) -> None:
    moment = run.finished_at or run.started_at or run.created_at
    status = status_cell(run.status)
    output = error_text(run.error) or value_text(run.result, 100)
    name = called(run.workflow, run.key)
    line = f"{when(moment)}  {run.id}  {name}  {styled(status.text, status.style)}  "
    out(f"{line}{' '.join(_escaped(output).split())}".rstrip())


def _watch_all(client: PolosClient, workflow: str | None, key: str | None, as_json: bool) -> None:
    """Print runs that start or finish from now on. Of more than a thousand at once, some are left
    out.
    """
    printed: dict[str, str] | None = None
    while True:
        page = runs.sync.list(client, workflow=workflow, key=key, limit=1_000)
        if printed is None:
            say("watching; Ctrl-C ends it")
        if printed is not None:
            for run in reversed(page):
                if printed.get(run.id) != run.status:
                    out_json(run_json(run)) if as_json else _print_run(run)
        printed = {run.id: run.status for run in page}
        finish()
        time.sleep(4 * _LOOK)


def end_of(client: PolosClient, id: str) -> Run:
    """Wait until the run has completed, and return it."""
    while True:
        run = runs.sync.get(client, id)
        if run.status in _ENDS:
            return run
        time.sleep(_LOOK)
