"""``polos top``: an overview of the present state on one screen."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any

import typer

import polos
from polos import runs, schedules, workers
from polos.cli.ui.console import is_terminal, out, out_json, styled
from polos.cli.ui.interrupts import with_care
from polos.cli.ui.json import overview_json, run_json, worker_json
from polos.cli.ui.options import Database, Json, Project, opened
from polos.cli.ui.table import Cell, Column, Row, Table
from polos.cli.ui.times import iso, until, when
from polos.cli.ui.words import called, error_text, host_of, note_of, statuses_text
from polos.client import PolosClient
from polos.exceptions import StoreError
from polos.models import Overview, Run, Schedule, WorkerInfo

__all__ = ["top"]

# How far ahead next slots are shown.
_AHEAD = timedelta(days=7)


@dataclass(frozen=True)
class Snapshot:
    """The state at one moment."""

    overview: Overview
    workers: list[WorkerInfo]
    running: list[Run]
    failed: list[Run]
    coming: list[Schedule]


def top(
    interval: Annotated[
        float, typer.Option(metavar="SECONDS", min=0.2, max=3_600, help="Refresh interval.")
    ] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Show it once and exit.")] = False,
    as_json: Json = False,
    database: Database = None,
    project: Project = "default",
) -> None:
    """Show what is running, what comes next, and what failed, live.

    Refreshes until Ctrl-C. In a pipe, and with --once or --json, it prints once.
    """
    with opened(database, project) as client:
        if as_json:
            out_json(_json(_look(client, 20)))
        elif once or not is_terminal():
            for line in _lines(client, _look(client, 10), 10):
                out(line)
        else:
            _live(client, interval)


def _look(client: PolosClient, count: int) -> Snapshot:
    overview = polos.overview.sync(client)
    return Snapshot(
        overview=overview,
        workers=workers.sync.list(client),
        running=runs.sync.list(client, status="running", limit=count),
        failed=runs.sync.list(client, status="failed", limit=count),
        coming=schedules.sync.coming(client, until=overview.now + _AHEAD, limit=count),
    )


def _json(snapshot: Snapshot) -> dict[str, Any]:
    return {
        **overview_json(snapshot.overview),
        "workers": [worker_json(worker) for worker in snapshot.workers],
        "running": [run_json(run) for run in snapshot.running],
        "failed": [run_json(run) for run in snapshot.failed],
        "coming": [
            {
                "timestamp": iso(schedule.upcoming),
                "schedule_id": schedule.id,
                "workflow": schedule.workflow,
                "key": schedule.key,
            }
            for schedule in snapshot.coming
        ],
    }


def _live(client: PolosClient, interval: float) -> None:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    console = Console()
    trouble = ""
    lines: list[str] = []
    with (
        suppress(KeyboardInterrupt),
        with_care(),
        Live(console=console, screen=True, auto_refresh=False) as live,
    ):
        while True:
            height = shutil.get_terminal_size().lines
            try:
                room = max(1, (height - 10) // 4)
                lines = list(_lines(client, _look(client, room), room))
                trouble = ""
            except StoreError as error:  # it may be temporary; the last screen stays
                trouble = f"{' '.join(str(error).split())}"
            shown = ([styled(trouble, "red"), ""] if trouble else []) + lines
            text = Text.from_ansi("\n".join(shown[: height - 1]))
            text.no_wrap, text.overflow = True, "crop"
            live.update(text, refresh=True)
            time.sleep(interval)


def _lines(client: PolosClient, snapshot: Snapshot, count: int) -> Iterator[str]:
    """Yield the screen, with at most ``count`` rows of each kind."""
    view = snapshot.overview
    place = client.database if "://" in client.database else os.path.basename(client.database)
    yield (
        f"{styled('polos', 'bold')} {polos.__version__}  {place}  project {client.project_id}  "
        f"{when(view.now)}"
    )
    yield f"schedules  {_counts(view.schedules, view.counted_to) or 'none'}"
    yield f"runs       {_counts(view.runs, view.counted_to) or 'none in progress'}"
    if view.overdue:
        since = f", the first {until(view.oldest_due, view.now)}" if view.oldest_due else ""
        many = f"{view.overdue:,}{'+' * (view.overdue >= view.counted_to)}"
        yield styled(f"overdue    {many}{since}; `polos doctor` says why", "yellow")
    yield from _part("workers", len(snapshot.workers), _worker_rows(snapshot, count), _WORKERS)
    running = view.runs.get("running", 0)
    yield from _part("running", running, _running_rows(snapshot, view.now), _RUNNING)
    yield from _part("coming", None, _coming_rows(snapshot, view.now), _COMING)
    yield from _part("failed", None, _failed_rows(snapshot, view.now), _FAILED)


def _counts(counts: Mapping[str, int], most: int) -> str:
    return statuses_text(
        {status: (f"{n:,}+" if n >= most else f"{n:,}") for status, n in counts.items() if n}
    )


def _part(
    title: str, count: int | None, rows: Iterable[Row], columns: tuple[Column, ...]
) -> Iterator[str]:
    yield ""
    lines = list(Table(*columns).lines(rows))
    more = "" if count is None else f" {count:,}"
    yield styled(f"{title}{more}", "bold") + ("" if lines else styled("  none", "dim"))
    yield from lines


_WORKERS = (
    Column("APP", least=8),
    Column("HOST", least=6, rank=2),
    Column("PID", is_number=True),
    Column("RUNS", is_number=True),
    Column("SEEN", is_number=True),
    Column("WORKFLOWS", least=8, rank=1),
)
_RUNNING = (
    Column("RUN OF", least=16, is_name=True),
    Column("SINCE", is_number=True),
    Column("ATTEMPT", rank=2, is_number=True),
    Column("RUN", rank=1),
)
_COMING = (
    Column("SLOT"),
    Column("IN", rank=1, is_number=True),
    Column("SCHEDULE", least=20, is_name=True),
    Column("NOTE", least=10, rank=2),
)
_FAILED = (
    Column("RUN OF", least=16, is_name=True),
    Column("FAILED", is_number=True),
    Column("ERROR", least=40),
    Column("RUN", rank=1),
)


def _worker_rows(snapshot: Snapshot, count: int) -> Iterator[Row]:
    for worker in sorted(snapshot.workers, key=lambda worker: -worker.held)[:count]:
        yield [
            worker.app,
            host_of(worker),
            str(worker.pid),
            str(worker.held),
            _seen(worker, snapshot.overview.now),
            ", ".join(worker.workflows),
        ]


def _seen(worker: WorkerInfo, now: datetime) -> Cell | str:
    if worker.is_gone:
        return Cell("died", "red")
    return until(min(worker.seen_at, now), now)


def _running_rows(snapshot: Snapshot, now: datetime) -> Iterator[Row]:
    for run in snapshot.running:
        attempt = str(run.attempt) if run.attempt > 1 else ""
        since = until(run.started_at or run.created_at, now)
        yield [called(run.workflow, run.key), since, attempt, run.id]


def _coming_rows(snapshot: Snapshot, now: datetime) -> Iterator[Row]:
    for schedule in snapshot.coming:
        yield [
            when(schedule.upcoming),
            until(schedule.upcoming, now),
            called(schedule.workflow, schedule.key),
            Cell(note_of(schedule), "yellow"),
        ]


def _failed_rows(snapshot: Snapshot, now: datetime) -> Iterator[Row]:
    for run in snapshot.failed:
        error = Cell(error_text(run.error), "red")
        yield [called(run.workflow, run.key), until(run.finished_at, now), error, run.id]
