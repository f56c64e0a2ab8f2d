"""``polos run``: a worker in the foreground."""

from __future__ import annotations

from typing import Annotated, NamedTuple

import typer

from polos.cli.ui.console import fail, say
from polos.cli.ui.options import Database, Project

__all__ = ["AppName", "AppVersion", "Concurrency", "Drain", "Middleware", "Target", "run"]

Target = Annotated[
    str,
    typer.Argument(
        metavar="FILE_OR_MODULE",
        help="The code that defines the workflows: app.py or package.module.",
    ),
]
_WORKERS_MAX = 256

AppName = Annotated[
    str | None,
    typer.Option(
        "--app",
        metavar="NAME",
        envvar="POLOS_OWNER",
        show_envvar=False,
        help="Owner of the schedules in the code.  [default: $POLOS_OWNER, else the file with "
        "its folder]",
    ),
]
AppVersion = Annotated[
    str | None,
    typer.Option(
        "--app-version",
        metavar="TEXT",
        envvar="POLOS_VERSION",
        show_envvar=False,
        help="Version of the code; the newer one's schedules win.  [default: $POLOS_VERSION]",
    ),
]
Concurrency = Annotated[
    int,
    typer.Option(
        metavar="N",
        envvar="POLOS_CONCURRENCY",
        min=1,
        max=1_000_000,
        help="Maximum number of runs in progress at once, per worker.",
    ),
]
Drain = Annotated[
    float,
    typer.Option(
        metavar="SECONDS",
        envvar="POLOS_DRAIN",
        min=0,
        help="How long handlers may take to finish on shutdown.",
    ),
]

Middleware = Annotated[
    list[str] | None,
    typer.Option(
        metavar="MODULE:NAME",
        help="A function around every entry of a handler; repeat it for more, outermost first.",
    ),
]

Health = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT",
        envvar="POLOS_HEALTH",
        show_envvar=False,
        help="Answer /livez and /readyz there; each of several workers takes the next port.  "
        "[default: $POLOS_HEALTH]",
    ),
]
Stall = Annotated[
    float,
    typer.Option(
        metavar="SECONDS",
        min=0.1,
        help="How long the event loop may be blocked before the worker is no longer live.",
    ),
]
HeartbeatFile = Annotated[
    str | None,
    typer.Option(
        metavar="PATH",
        help="A file that is written while the worker is live; each of several workers adds its "
        "number.",
    ),
]


def run(
    target: Target,
    app_name: AppName = None,
    app_version: AppVersion = None,
    database: Database = None,
    project: Project = "default",
    concurrency: Concurrency = 1_000,
    drain: Drain = 10.0,
    middleware: Middleware = None,
    health: Health = None,
    stall: Stall = 30.0,
    heartbeat_file: HeartbeatFile = None,
    workers: Annotated[
        int,
        typer.Option(
            "--workers",
            metavar="N",
            min=1,
            max=_WORKERS_MAX,
            help="Number of worker processes, to use several cores.",
        ),
    ] = 1,
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
    from polos._validate.monitoring import check_address, check_heartbeat_file

    watched = Watched(
        check_address(health) if health else None,
        stall,
        None if heartbeat_file is None else check_heartbeat_file(heartbeat_file),
    )
    if not reload and workers == 1:
        _work(
            target,
            app_name,
            app_version,
            database,
            project,
            concurrency,
            drain,
            middleware or [],
            watched,
        )
        return
    from polos.cli.children import Child, worker_command
    from polos.cli.load_app import check_target
    from polos.cli.supervisor import supervise

    check_target(target)
    command = worker_command(
        target, app_name, app_version, database, project, concurrency, drain, middleware or []
    )
    numbers = [None] if workers == 1 else range(1, workers + 1)
    watched.of(workers)  # reports an error before anything starts
    children = [
        Child(
            [command[0], *watched.of(number).options, *command[1:]],
            is_reloaded=reload,
            number=number,
        )
        for number in numbers
    ]
    supervise(children, target if reload else None, drain=drain)


class Watched(NamedTuple):
    """How workers are watched."""

    health: str | None
    stall: float
    heartbeat_file: str | None

    def of(self, number: int | None) -> Watched:
        """Return the options of worker ``number``, counted from 1; ``None`` if it is alone."""
        from polos._validate.monitoring import numbered_address, numbered_file

        if number is None:
            return self
        return Watched(
            None if self.health is None else numbered_address(self.health, number),
            self.stall,
            None if self.heartbeat_file is None else numbered_file(self.heartbeat_file, number),
        )

    @property
    def options(self) -> list[str]:
        """The options as `polos run` takes them, without defaults."""
        found = [] if self.health is None else [f"--health={self.health}"]
        if self.heartbeat_file is not None:
            found.append(f"--heartbeat-file={self.heartbeat_file}")
        return [*found, f"--stall={self.stall:g}"] if found else []


def _work(
    target: str,
    app_name: str | None,
    app_version: str | None,
    database: str | None,
    project: str,
    concurrency: int,
    drain: float,
    middleware: list[str],
    watched: Watched,
) -> None:
    from polos._runtime.asyncio_run import run_to_end
    from polos.cli.children import supervised
    from polos.cli.load_app import imported, named
    from polos.cli.ui.banner import TalkingWorker
    from polos.cli.ui.logs import log_to_stderr
    from polos.client import PolosClient
    from polos.workflow import registry

    supervisor = supervised()
    # First, so that errors in the arguments are reported before anything is imported.
    client = PolosClient(database, project_id=project)
    supervisor.mark_logs()
    file = imported(target)
    around = [named(name, "--middleware") for name in middleware]
    log_to_stderr(supervisor.prefix)
    if not registry():
        fail(f"no workflows found in `{target}`; decorate a function with `@polos.workflow`")
    with client:
        worker = TalkingWorker(
            client,
            supervisor,
            app=app_name,
            version=app_version,
            concurrency=concurrency,
            drain=drain,
            middleware=around,
            health=watched.health,
            stall=watched.stall,
            heartbeat_file=watched.heartbeat_file,
        )
        worker._main_file = file
        worker._ends_process = True  # even if a later cleanup hangs
        run_to_end(worker.run())
    if not worker.was_stopped:
        fail("the worker ended on its own; see the log above")
    say(f"{supervisor.prefix}stopped")
