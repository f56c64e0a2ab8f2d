"""``polos ui`` and ``polos dev``: the dashboard, alone or beside a worker with reload."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from contextlib import suppress
from typing import Annotated, Any

import typer

from polos.cli.commands.run import AppName, AppVersion, Concurrency, Drain, Middleware, Target
from polos.cli.ui.console import fail
from polos.cli.ui.interrupts import with_care
from polos.cli.ui.options import Database, Project, opened

__all__ = ["dev", "ui"]

PORT = 4747  # that of the dashboard, whose import is slow

Port = Annotated[
    int, typer.Option("--port", metavar="N", min=0, max=65_535, help="The dashboard's port.")
]
Open = Annotated[bool, typer.Option("--open", help="Open the dashboard in the browser.")]

_NEEDS = "polos[ui]"


def ui(
    host: Annotated[
        str, typer.Option("--host", metavar="ADDRESS", help="The address to listen on.")
    ] = "127.0.0.1",
    port: Port = PORT,
    token: Annotated[
        str | None,
        typer.Option(
            "--token",
            metavar="TEXT",
            envvar="POLOS_UI_TOKEN",
            help="The access token. Prefer the variable: other users can see arguments.",
        ),
    ] = None,
    hide_payloads: Annotated[
        bool, typer.Option("--hide-payloads", help="Hide arguments, inputs, and results.")
    ] = False,
    root_path: Annotated[
        str,
        typer.Option(
            "--root-path",
            metavar="PATH",
            help="The path under which a proxy publishes the dashboard.",
        ),
    ] = "",
    trusted_proxy: Annotated[
        list[str] | None,
        typer.Option(
            "--trusted-proxy",
            metavar="ADDRESS",
            help="A proxy whose X-Forwarded-Prefix and -Proto to trust. Repeatable.",
        ),
    ] = None,
    open_browser: Open = False,
    database: Database = None,
    project: Project = "default",
) -> None:
    """Serve the dashboard until Ctrl-C."""
    import asyncio

    _check_dashboard("polos ui")
    dashboard: Any = importlib.import_module("polos.dashboard")
    from polos.cli.children import supervised

    supervised()
    with opened(database, project) as client, with_care():
        try:
            asyncio.run(
                dashboard.serve(
                    client,
                    host=host,
                    port=port,
                    token=token,
                    hide_payloads=hide_payloads,
                    root_path=root_path,
                    trusted_proxies=trusted_proxy or (),
                    open_browser=open_browser,
                )
            )
        except OSError as error:
            fail(f"can't listen on {host}, port {port}: {error.strerror or error}; see --port")


def _check_dashboard(command: str) -> None:
    """Fail if a package that the dashboard needs is not installed."""
    for name in ("polos.dashboard", "starlette", "uvicorn", "jinja2"):
        with suppress(ImportError):
            if importlib.util.find_spec(name) is not None:
                continue
        fail(f"{command} needs the dashboard (`{name}` isn't installed): pip install '{_NEEDS}'")


def dev(
    target: Target,
    port: Port = PORT,
    open_browser: Open = False,
    no_ui: Annotated[bool, typer.Option("--no-ui", help="Without the dashboard.")] = False,
    no_reload: Annotated[
        bool, typer.Option("--no-reload", help="Do not reload when files change.")
    ] = False,
    app_name: AppName = None,
    app_version: AppVersion = None,
    database: Database = None,
    project: Project = "default",
    concurrency: Concurrency = 1_000,
    drain: Drain = 10.0,
    middleware: Middleware = None,
) -> None:
    """Run a worker and the dashboard, and reload on changes.

    Runs `polos run --reload` and `polos ui` in one terminal. Ctrl-C ends both.
    """
    from polos.cli.children import Child, ui_command, worker_command
    from polos.cli.load_app import check_target
    from polos.cli.supervisor import supervise
    from polos.client import PolosClient

    if not no_ui:
        _check_dashboard("polos dev (or give --no-ui)")
    check_target(target)
    with PolosClient(database, project_id=project) as client:
        client._opened()  # creates it, so that the dashboard finds it, and reports errors
    command = worker_command(
        target, app_name, app_version, database, project, concurrency, drain, middleware or []
    )
    children = [Child(command, is_reloaded=True)]
    if not no_ui:
        options = [f"--port={port}", *(["--open"] if open_browser else [])]
        children.append(Child(ui_command(database, project, *options), is_reloaded=False))
    sys.stdout.flush()
    supervise(children, None if no_reload else target, drain=drain)
