"""``polos``: the command line. What went wrong is said in one sentence, without our traceback."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

import polos
from polos import schedules
from polos._describe import nearest
from polos._runner import run_to_end
from polos.client import PolosClient
from polos.exceptions import InvalidArgumentError, InvalidScheduleError, PolosError
from polos.models import Schedule
from polos.worker import Worker
from polos.workflow import Workflow, registry

__all__ = ["main"]

app = typer.Typer(
    name="polos",
    help="The scheduler that you import: durable cron for asyncio applications.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help needs nothing of rich, whose import is slow
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> NoReturn:
    """What the ``polos`` command calls."""
    try:
        app(prog_name="polos")
    except (InvalidArgumentError, InvalidScheduleError) as error:
        _fail(error, code=2)
    except PolosError as error:
        _fail(error)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    sys.exit(0)


def _say(text: str) -> None:
    """To stderr: stdout belongs to the handlers. Where nobody reads it any more, that is no
    reason not to work.
    """
    with suppress(OSError, ValueError):
        typer.echo(text, err=True)


def _fail(reason: object, code: int = 1) -> NoReturn:
    """One line on stderr, and out: 2 for what was typed, 1 for what happened."""
    _say(f"polos: {' '.join(str(reason).split())}")
    sys.exit(code)


def _print_version(wanted: bool) -> None:
    if wanted:
        version()
        raise typer.Exit


@app.callback()
def _options(
    show_version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and stop."
        ),
    ] = False,
) -> None:
    pass


@app.command()
def run(
    target: Annotated[
        str,
        typer.Argument(
            metavar="FILE_OR_MODULE", help="What defines the workflows: app.py or package.module."
        ),
    ],
    app_name: Annotated[
        str | None,
        typer.Option(
            "--app",
            metavar="NAME",
            help="Owner of the schedules that decorators declare.  [default: FILE_OR_MODULE]",
        ),
    ] = None,
    database: Annotated[
        str | None,
        typer.Option(
            "--database",
            metavar="URL",
            help="A path or URL.  [default: $POLOS_DATABASE_URL, else polos.db]",
        ),
    ] = None,
    project: Annotated[
        str, typer.Option("--project", metavar="ID", help="The namespace in the database.")
    ] = "default",
    concurrency: Annotated[
        int, typer.Option(metavar="N", min=1, max=1_000_000, help="Most runs under way at once.")
    ] = 1_000,
    drain: Annotated[
        float,
        typer.Option(
            metavar="SECONDS", min=0, help="How long handlers may take to finish at the end."
        ),
    ] = 10.0,
) -> None:
    """Execute the workflows of a file or module.

    Works until Ctrl-C or SIGTERM, then waits for running handlers to finish; asked twice, it
    does not. What has not finished goes on at the next start, or in another worker, from its
    first unfinished step.
    """
    # First: what is wrong with the arguments is said before anything is imported.
    client = PolosClient(database, project_id=project)
    name = _imported(target)
    _log_to_stderr()
    if not registry():
        _fail(f"no workflows found in `{target}`; decorate a function with `@polos.workflow`")
    with client:
        worker = _TalkingWorker(
            client, app=name if app_name is None else app_name, concurrency=concurrency, drain=drain
        )
        run_to_end(worker.run())
    if not worker.was_stopped:
        _fail("the worker has ended by itself; the log above says why")
    _say("stopped")


@app.command()
def explain(
    cron: Annotated[
        list[str], typer.Argument(metavar="CRON", help="Five fields in quotes: '0 9 * * *'.")
    ],
    timezone: Annotated[
        str, typer.Option("--tz", metavar="ZONE", help="An IANA name, such as Europe/Paris.")
    ] = "UTC",
    count: Annotated[
        int, typer.Option("--count", "-n", metavar="N", min=1, max=1_000, help="How many slots.")
    ] = 5,
) -> None:
    """Say what a cron expression means.

    In English, with its next slots, and with what clock changes do to it.
    """
    if len(cron) not in (1, 5):
        _fail(
            f"{len(cron)} arguments given, expected one; put the expression in quotes, or the "
            f"shell replaces `*` by file names: polos explain '0 9 * * *'",
            code=2,
        )
    typer.echo(schedules.explain(" ".join(cron), timezone, count=count))


@app.command()
def demo(
    seconds: Annotated[
        int,
        typer.Option(metavar="N", min=15, max=55, help="End after about this long at the latest."),
    ] = 55,
) -> None:
    """Show what polos does, in less than a minute."""
    from polos import demo

    try:
        sys.exit(demo.main(seconds))
    except OSError as error:
        _fail(f"the demo needs a temporary folder and a second process: {error}")


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(f"polos {polos.__version__}")


# --- the worker of `polos run` -----------------------------------------------------------------


class _TalkingWorker(Worker):
    """Says what it is about to do, and that it has heard a signal."""

    def __init__(self, client: PolosClient, **options: Any) -> None:
        super().__init__(client, **options)
        self.was_stopped = False
        self._patience = options["drain"]

    async def start(self) -> None:
        await super().start()
        if self.was_stopped:
            return
        _say(
            f"polos {polos.__version__}, app {self.app}, database {self.client.database}, "
            f"project {self.client.project_id}"
        )
        for line in await _listing(self.client, self.app):
            _say(f"  {line}")
        _say("working; Ctrl-C or SIGTERM drains and stops")

    def stop(self) -> None:
        count = 0 if self._executor is None else len(self._executor.active)
        runs = "1 run" if count == 1 else f"{count} runs"
        if self.was_stopped:
            _say("stopping at once; what is unfinished goes on at the next start")
        elif count:
            _say(
                f"stopping: {runs} under way, up to {self._patience:g} s to finish; "
                f"once more to stop at once"
            )
        else:
            _say("stopping: nothing is under way")
        self.was_stopped = True
        super().stop()


async def _listing(client: PolosClient, owner: str) -> list[str]:
    """A line for every workflow: its id, what starts it, when that is next."""
    ours = {
        (found.workflow, found.key): found for found in await schedules.list(client, owner=owner)
    }
    rows = []
    for workflow in registry().values():
        if workflow.schedule is None:
            rows.append((workflow.id, "when it is run by hand", ""))
        elif workflow.schedule is True:
            rows.append((workflow.id, await _made_by_api(client, workflow), ""))
        else:
            found = ours.pop((workflow.id, workflow.schedule.spec["key"]), None)
            rows.append((workflow.id, *(_cadence(found) if found else ("declared", ""))))
    rows += [
        (found.workflow, "retired: the code no longer declares it", "")
        for found in ours.values()
        if found.status == "retired"
    ]
    widths = [max((len(row[column]) for row in rows), default=0) for column in (0, 1)]
    return [f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c}".rstrip() for a, b, c in rows]


async def _made_by_api(client: PolosClient, workflow: Workflow[Any, Any]) -> str:
    most = 1_000
    count = len(await schedules.list(client, workflow=workflow, limit=most + 1))
    if count > most:
        return f"more than {most:,} schedules made through the API"
    noun = "schedule" if count == 1 else "schedules"
    return f"{count or 'no'} {noun} made through the API"


def _cadence(schedule: Schedule) -> tuple[str, str]:
    if schedule.cron is not None:
        cadence = f"{schedule.cron}  {schedule.timezone}"
    elif schedule.every is not None:
        cadence = f"every {_spoken(schedule.every)}"
    else:
        cadence = f"at {_when(schedule.at)}"
    if schedule.status != "active":
        return cadence, f"{schedule.status}{f': {schedule.note}' if schedule.note else ''}"
    return cadence, f"next {_when(schedule.upcoming)}" if schedule.upcoming else ""


def _when(instant: datetime | None) -> str:
    return "" if instant is None else f"{instant:%a %Y-%m-%d %H:%M:%S %Z}"


def _spoken(period: timedelta) -> str:
    units = {"d": timedelta(days=1), "h": timedelta(hours=1), "min": timedelta(minutes=1)}
    for name, unit in units.items():
        if not period % unit:
            return f"{period // unit} {name}"
    return f"{period.total_seconds():g} s"


# --- importing what the user wrote -----------------------------------------------------------

_GUARD = 'put it under `if __name__ == "__main__":`'


def _imported(target: str) -> str:
    """Import the file or module; gives the name of the application that it is."""
    is_file = target.endswith(".py") or "/" in target or os.sep in target or os.path.isfile(target)
    if is_file:
        path = _existing(Path(target))
        with _theirs(target):
            _import_file(path)
        return path.name
    if not all(part.isidentifier() for part in target.split(".")):
        suggestion = nearest(target, _files(Path()))
        _fail(f"`{target}` is neither a file nor the name of a module{suggestion}", code=2)
    sys.path.insert(0, os.getcwd())
    with _theirs(target):
        importlib.import_module(target)
    return target


def _existing(path: Path) -> Path:
    if path.is_dir():
        _fail(f"`{path}` is a folder; name a file in it, or a module: `package.module`", code=2)
    if not path.exists():
        if not path.parent.is_dir():
            _fail(f"there is no folder `{path.parent}`", code=2)
        suggestion = nearest(path.name, _files(path.parent))
        _fail(f"there is no file `{path}`{suggestion}", code=2)
    if path.suffix != ".py":
        _fail(f"`{path}` isn't a Python file; expected one that ends in `.py`", code=2)
    if path.stem in sys.modules or path.stem in sys.stdlib_module_names:
        _fail(
            f"`{path.name}` would hide the module `{path.stem}` from all who import it; "
            f"give the file another name",
            code=2,
        )
    return path.absolute()


def _import_file(path: Path) -> None:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None, "the file ends in .py"
    assert spec.loader is not None, "the file ends in .py"
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.parent))
    # As an import statement would: pickle, dataclasses and the codec look classes up there.
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)


def _files(folder: Path) -> list[str]:
    try:
        return sorted(path.name for path in folder.iterdir() if path.suffix == ".py")
    except OSError:
        return []


class _RunCalledError(BaseException):
    """The imported code wants to be the worker itself."""


@contextmanager
def _theirs(target: str) -> Iterator[None]:
    """Whatever the import raises ends the command, and is told as the imported code's affair."""

    def refuse(*args: Any, **options: Any) -> NoReturn:
        raise _RunCalledError

    original, polos.run = polos.run, refuse
    try:
        yield
    except _RunCalledError:
        _fail(f"`{target}` calls `polos.run()` when it is imported; {_GUARD}")
    except SystemExit as ended:
        _fail(
            f"`{target}` ends the program when it is imported (exit code {ended.code!r}); what "
            f"does so: {_GUARD}"
        )
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and f"{target}.".startswith(f"{error.name}."):
            known = [name.removesuffix(".py") for name in _files(Path())]
            _fail(f"no module `{error.name}` here or installed{nearest(target, known)}", code=2)
        _print_traceback(error)
        hint = ""
        if isinstance(error, ImportError) and "relative import" in str(error):
            hint = "; for a file of a package give the module's name, such as `package.module`"
        _fail(f"`{target}` can't be imported{hint}")
    finally:
        polos.run = original


def _print_traceback(error: Exception) -> None:
    """The traceback without the frames that aren't the user's."""
    report = traceback.TracebackException.from_exception(error)
    ours = [importlib.__file__, "<frozen importlib", __file__]
    if isinstance(error, PolosError):  # raised on purpose: where it was caused is what counts
        ours.append(os.path.dirname(__file__) + os.sep)
    frames = [frame for frame in report.stack if not frame.filename.startswith(tuple(ours))]
    report.stack = traceback.StackSummary.from_list(frames)
    _say("".join(report.format()).rstrip())


# --- logging ---------------------------------------------------------------------------------


def _log_to_stderr() -> None:
    """Unless the imported code has configured logging in its own way."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Formatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler])


class _Formatter(logging.Formatter):
    """Time, level, who (the run's workflow and key, where a record carries them), message."""

    def format(self, record: logging.LogRecord) -> str:
        workflow, key = getattr(record, "workflow", None), getattr(record, "key", None)
        record.who = record.name if workflow is None else workflow
        if workflow is not None and key != "global":
            record.who = f"{workflow}[{key}]"
        return super().format(record)

    def __init__(self) -> None:
        super().__init__("%(asctime)s.%(msecs)03d %(levelname)-7s %(who)s: %(message)s", "%H:%M:%S")
