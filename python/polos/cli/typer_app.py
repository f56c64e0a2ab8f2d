"""Combine the commands. Each command imports what it needs beyond typer when it runs."""

from __future__ import annotations

import os
import signal
import sys
from functools import cache
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from polos._migrate import migrate
from polos._validate.formatting import may_hold_password
from polos.cli.commands import backfills as _backfills
from polos.cli.commands import calendars as _calendars
from polos.cli.commands import limits as _limits
from polos.cli.commands import runs as _runs
from polos.cli.commands import schedule_edits as _schedule_edits
from polos.cli.commands.completion import completion
from polos.cli.commands.demo import demo
from polos.cli.commands.dev import dev, ui
from polos.cli.commands.doctor import doctor
from polos.cli.commands.explain import explain
from polos.cli.commands.importing import app as _import_app
from polos.cli.commands.init import init
from polos.cli.commands.run import run
from polos.cli.commands.run_start import start
from polos.cli.commands.top import top
from polos.cli.commands.version import version
from polos.cli.ui.console import say

__all__ = ["app", "call", "command"]


class _MostUsedFirst(TyperGroup):
    """Lists the most used commands first; typer would list groups of commands last."""

    def list_commands(self, ctx: Any) -> list[str]:
        first = ["run", "dev", "ui", "schedules", "runs", "backfills", "limits", "top", "doctor"]
        first += ["explain", "init", "import", "migrate"]
        return first + [name for name in super().list_commands(ctx) if name not in first]


app = typer.Typer(
    name="polos",
    cls=_MostUsedFirst,
    help=(
        "A durable scheduler that you import: cron with steps and retries for asyncio applications."
    ),
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help does not need rich, whose import is slow
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.command()(run)
app.command()(dev)
app.command()(ui)
app.add_typer(_schedule_edits.app, name="schedules")
_runs.app.command()(start)
app.add_typer(_runs.app, name="runs")
app.add_typer(_backfills.app, name="backfills")
app.add_typer(_limits.app, name="limits")
app.add_typer(_calendars.app, name="calendars")
app.command()(explain)
app.command()(top)
app.command()(doctor)
app.command()(init)
app.command()(migrate)
app.add_typer(_import_app, name="import")
app.command()(completion)
app.command()(demo)
app.command()(version)


def call() -> int:
    """Execute the command line and return the exit code."""
    if "_POLOS_COMPLETE" in os.environ:
        from typer import completion as shells

        shells.completion_init()  # type: ignore[attr-defined]
    try:
        code: Any = command()(prog_name="polos", standalone_mode=False)
    except typer.Abort:  # Ctrl-C, or the end of stdin at a question
        say("")
        return 128 + signal.SIGINT
    except Exception as error:
        return _refused(error)
    return code if isinstance(code, int) else 0


@cache
def command() -> Any:
    """Return the command that contains all others; making it takes longer than most of them."""
    return get_command(app)


def _refused(error: Exception) -> int:
    """Print an error of typer in one sentence and return its exit code.

    Typer's exceptions have moved between releases, so they are recognized by their attributes. Any
    other exception is raised again.
    """
    show, code = getattr(error, "show", None), getattr(error, "exit_code", None)
    if show is None or code is None:
        raise error
    if type(error).__name__ == "NoArgsIsHelpError":
        show()
        return int(code)
    text = str(getattr(error, "format_message", lambda: error)()).strip().rstrip(".")
    context = getattr(error, "ctx", None)
    path = getattr(context, "command_path", "polos")
    if "unexpected extra argument" in text and _holds_file_names(sys.argv[1:]):
        text = (
            "too many arguments: the shell has replaced `*` by the names of files. Put the cron "
            "expression in quotes, such as '*/5 * * * *'"
        )
    elif may_hold_password(text):
        text = "an argument isn't expected here (not shown, it may hold a password)"
    say(f"polos: {text[:1].lower()}{text[1:]}; see `{path} --help`")
    return int(code)


def _holds_file_names(arguments: list[str]) -> bool:
    """Whether a shell has expanded a ``*`` of an expression without quotes."""
    here = {name for name in os.listdir() if not name.startswith(".")}
    return bool(here) and here <= set(arguments)


def _print_version(wanted: bool) -> None:
    if wanted:
        version()
        raise typer.Exit


@app.callback()
def _options(
    show_version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    pass
