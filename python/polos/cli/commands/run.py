"""``polos run``: a worker in the foreground."""

from __future__ import annotations

from typing import Annotated

import typer

from polos.cli.ui.console import fail, say
from polos.cli.ui.options import Database, Project

__all__ = ["AppName", "Concurrency", "Drain", "Target", "run"]

Target = Annotated[
    str,
    typer.Argument(
        metavar="FILE_OR_MODULE",
        help="The code that defines the workflows: app.py or package.module.",
    ),
]
AppName = Annotated[
    str | None,
    typer.Option(
        "--app",
        metavar="NAME",
        help="Owner of the schedules in the code.  [default: the file with its folder]",
    ),
]
Concurrency = Annotated[
    int,
    typer.Option(
        metavar="N", min=1, max=1_000_000, help="Maximum number of runs in progress at once."
    ),
]
Drain = Annotated[
    float,
    typer.Option(
        metavar="SECONDS", min=0, help="How long handlers may take to finish on shutdown."
    ),
]


def run(
    target: Target,
    app_name: AppName = None,
    database: Database = None,
    project: Project = "default",
    concurrency: Concurrency = 1_000,
    drain: Drain = 10.0,
    reload: Annotated[
        bool,
        typer.Option("--reload", help="Reload whenever a Python file here changes."),
    ] = False,
) -> None:
    """Execute the workflows of a file or module.

    Runs until Ctrl-C or SIGTERM, then waits for running handlers to finish; a second signal ends
    the wait. Unfinished runs continue at the next start, or in another worker, from their first
    unfinished step.
    """
    if reload:
        from polos.cli.load_app import check_target
        from polos.cli.reload import Child, supervise, worker_command

        check_target(target)
        command = worker_command(target, app_name, database, project, concurrency, drain)
        supervise([Child(command, is_reloaded=True)], target)
        return
    _work(target, app_name, database, project, concurrency, drain)


def _work(
    target: str,
    app_name: str | None,
    database: str | None,
    project: str,
    concurrency: int,
    drain: float,
) -> None:
    from polos._runtime.asyncio_run import run_to_end
    from polos.cli.load_app import imported
    from polos.cli.reload import die_with_supervisor
    from polos.cli.ui.banner import TalkingWorker
    from polos.cli.ui.logs import log_to_stderr
    from polos.client import PolosClient
    from polos.workflow import registry

    die_with_supervisor()
    # First, so that errors in the arguments are reported before anything is imported.
    client = PolosClient(database, project_id=project)
    file = imported(target)
    log_to_stderr()
    if not registry():
        fail(f"no workflows found in `{target}`; decorate a function with `@polos.workflow`")
    with client:
        worker = TalkingWorker(client, app=app_name, concurrency=concurrency, drain=drain)
        worker._main_file = file
        worker._ends_process = True  # even if a later cleanup hangs
        run_to_end(worker.run())
    if not worker.was_stopped:
        fail("the worker ended on its own; see the log above")
    say("stopped")
