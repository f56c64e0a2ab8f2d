"""The command line: output, stream, and exit code."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from stopping import TIME_TO_STOP

from polos import PolosClient, __version__, cli, runs
from polos.workflow import isolated_registry

APP = """
import asyncio
from datetime import timedelta
from polos import workflow

@workflow(id="report", schedule={"cron": "0 9 * * *", "timezone": "Europe/Paris"})
async def report(ctx, payload): ...

@workflow(id="beat", schedule={"every": timedelta(hours=2)})
async def beat(ctx): ...

@workflow(id="digest", schedule=True)
async def digest(ctx): ...

@workflow(id="wait")
async def wait(ctx):
    print("waiting", flush=True)
    await asyncio.Event().wait()

@workflow(id="hello")
async def hello(ctx):
    ctx.log.info("hello from %s", __name__)
    print("done", flush=True)
"""


class CommandResult(NamedTuple):
    """The result of a command."""

    code: int
    out: str
    err: str


@pytest.fixture
def polos(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Iterator[Callable[..., CommandResult]]:
    """Runs the command in this process, in its own folder."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)

    def call(*arguments: str) -> CommandResult:
        monkeypatch.setattr(sys, "argv", ["polos", *arguments])
        with isolated_registry(), pytest.raises(SystemExit) as ended:
            cli.main()
        return CommandResult(ended.value.code, *capsys.readouterr())  # type: ignore[arg-type]

    yield call
    for name in set(sys.modules) - before:
        file = getattr(sys.modules[name], "__file__", None)
        if file is not None and Path(file).is_relative_to(tmp_path):
            del sys.modules[name]


# --- version, help ---------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["version", "--version"])
def test_the_version_is_printed(polos: Callable[..., CommandResult], how: str) -> None:
    assert polos(how) == (0, f"polos {__version__}\n", "")


def test_without_arguments_it_shows_its_commands(polos: Callable[..., CommandResult]) -> None:
    result = polos()
    assert all(
        command in result.out + result.err for command in ("run", "explain", "demo", "version")
    )


def test_a_mistyped_command_is_answered_with_the_nearest(
    polos: Callable[..., CommandResult],
) -> None:
    result = polos("explian")
    assert result.code == 2
    assert "explain" in result.err


# --- explain ---------------------------------------------------------------------------------


def test_explain_says_what_an_expression_means(polos: Callable[..., CommandResult]) -> None:
    result = polos("explain", "30 2 * * *", "--tz", "America/New_York", "--count", "3")
    first, *slots = result.out.splitlines()
    assert result.code == 0
    assert "02:30" in first
    assert len([line for line in slots if "02:30-0" in line]) == 3


def test_explain_takes_five_unquoted_fields(polos: Callable[..., CommandResult]) -> None:
    assert polos("explain", "0", "9", "1", "1", "1").code == 0


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["0 25 * * *"], "`25` is out of range"),
        (["* * * * * *"], "every="),
        ([""], "five fields"),
        (["0 9 * * *", "--tz", "US/Estern"], "did you mean `US/Eastern`"),
        (["0 9 * * *", "--tz", ""], "time zone is empty"),
        (["0", "9", "README.md", "src", "Makefile", "*"], "in quotes"),
        (["0 0 31 2 *"], "never"),
    ],
)
def test_explain_refuses_in_one_sentence(
    polos: Callable[..., CommandResult], arguments: list[str], expected: str
) -> None:
    result = polos("explain", *arguments)
    assert result.code == 2
    assert result.out == ""
    assert result.err.startswith("polos: ")
    assert result.err.count("\n") == 1
    assert expected in result.err


# --- run: what is refused --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (["ap.py"], 2, "there is no file `ap.py`; did you mean `app.py`?"),
        (["ap"], 2, "no module `ap` here or installed; did you mean `app`?"),
        (["app.py:app"], 2, "did you mean `app.py`?"),
        (["none/app.py"], 2, "there is no folder `none`"),
        (["folder/"], 2, "`folder` is a folder"),
        (["./notes.txt"], 2, "isn't a Python file"),
        (["json.py"], 2, "would hide the module `json`"),
        (["my-app"], 2, "neither a file nor the name of a module"),
        (["empty.py"], 1, "no workflows found in `empty.py`"),
        (["empty"], 1, "no workflows found in `empty`"),
        (["exits.py"], 1, "ends the program when it is imported (exit code 3)"),
        (["runs.py"], 1, "calls `polos.run()` when it is imported"),
        (["folder/relative.py"], 1, "give the module's name"),
        (["app.py", "--database", "none/polos.db"], 1, "there is no folder"),
        (["app.py", "--database", "folder"], 1, "it is a folder"),
        (["app.py", "--database", "notes.txt"], 1, "not a polos database"),
        (["app.py", "--database", "mysql://host/db"], 2, "`mysql://` isn't supported"),
        (["app.py", "--project", " "], 2, "project_id"),
        (["app.py", "--app", " "], 2, "app"),
        (["app.py", "--drain", "inf"], 2, "drain"),
        (["app.py", "--concurrency", "0"], 2, "--concurrency"),
    ],
)
def test_run_says_what_is_wrong(
    polos: Callable[..., CommandResult],
    tmp_path: Path,
    arguments: list[str],
    code: int,
    expected: str,
) -> None:
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "empty.py").write_text("")
    (tmp_path / "exits.py").write_text("import sys; sys.exit(3)")
    (tmp_path / "runs.py").write_text("import polos; polos.run()")
    (tmp_path / "json.py").write_text("")
    (tmp_path / "notes.txt").write_text("this is no database, though it is long enough" * 100)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "relative.py").write_text("from . import other")
    result = polos("run", *arguments)
    last = result.err.splitlines()[-1]
    assert result.code == code
    assert expected in last
    assert result.out == ""
    assert not (tmp_path / "polos.db").exists()
    if "relative" not in arguments[0]:
        assert "Traceback" not in result.err


@pytest.mark.parametrize("target", ["broken.py", "broken"])
def test_a_file_that_raises_shows_its_own_traceback(
    polos: Callable[..., CommandResult], tmp_path: Path, target: str
) -> None:
    (tmp_path / "broken.py").write_text("def inner():\n    return {}['key']\n\ninner()\n")
    result = polos("run", target)
    assert result.code == 1
    assert "KeyError: 'key'" in result.err
    assert 'broken.py", line 4' in result.err
    assert "polos/cli" not in result.err
    assert "importlib" not in result.err
    assert result.err.endswith(f"polos: `{target}` can't be imported\n")


def test_a_file_with_a_syntax_error_shows_where(
    polos: Callable[..., CommandResult], tmp_path: Path
) -> None:
    (tmp_path / "typo.py").write_text("x = 1\ndef f(:\n")
    result = polos("run", "typo.py")
    assert 'typo.py", line 2' in result.err
    assert "polos/cli" not in result.err


def test_a_module_that_an_import_lacks_isnt_mistaken_for_the_target(
    polos: Callable[..., CommandResult], tmp_path: Path
) -> None:
    (tmp_path / "app.py").write_text("import nothing_of_that_name")
    result = polos("run", "app")
    assert "No module named 'nothing_of_that_name'" in result.err
    assert result.err.endswith("polos: `app` can't be imported\n")


def test_a_refused_decorator_shows_its_line_and_none_of_ours(
    polos: Callable[..., CommandResult], tmp_path: Path
) -> None:
    (tmp_path / "app.py").write_text(
        'from polos import workflow\n\n@workflow(schedule="0 25 * * *")\ndef report(): ...\n'
    )
    result = polos("run", "app.py")
    assert result.code == 1
    assert "InvalidCronError: cron field `hour`" in result.err
    assert result.err.count("  File ") == 1
    assert 'app.py", line ' in result.err  # of the decorator; before Python 3.11 of the function


# --- run: a worker ---------------------------------------------------------------------------


class Process:
    """``polos run`` in a separate process."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "polos", "run", *arguments],
            cwd=folder,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def read_err_until(self, expected: str) -> list[str]:
        """Return the lines of stderr up to the first with ``expected``."""
        assert self._process.stderr is not None
        lines = []
        for line in self._process.stderr:
            lines.append(line.rstrip())
            if expected in line:
                return lines
        raise AssertionError(f"it ended without {expected!r}: {lines}")

    def read_out(self) -> str:
        """Return a line of stdout."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().rstrip()

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def end(self) -> tuple[int, list[str]]:
        """Return the exit code and the rest of stderr."""
        _, err = self._process.communicate()
        return self._process.returncode, err.splitlines()

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()


@contextmanager
def started(folder: Path, *arguments: str) -> Iterator[Process]:
    process = Process(folder, *arguments)
    try:
        yield process
    finally:
        process.kill()


@pytest.mark.usefixtures("own_database")
def test_a_worker_lists_what_it_found_works_and_drains(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP)
    with started(tmp_path, "app.py") as process:
        logged, first, *listed = process.read_err_until("running; stop with")
        app = f"{tmp_path.name}/app.py"
        assert f"INFO    polos.worker: worker of `{app}` started" in logged
        place = PolosClient().database
        assert first == f"polos {__version__}, app {app}, database {place}, project default"
        assert [line.split()[0] for line in listed[:-1]] == [
            "report", "beat", "digest", "wait", "hello",
        ]  # fmt: skip
        assert "0 9 * * *  Europe/Paris" in listed[0]
        assert "next" in listed[0]
        assert "every 2 h" in listed[1]
        with PolosClient() as client:
            runs.sync.invoke(client, "hello")
            assert process.read_out() == "done"
        process.send(signal.SIGTERM)
        code, rest = process.end()
    assert code == 0
    assert "INFO    hello: hello from app" in rest[0]
    assert rest[-1] == "stopped"


@pytest.mark.usefixtures("own_database")
def test_a_second_signal_stops_waiting_for_handlers(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP + TIME_TO_STOP)
    with started(tmp_path, "app.py", "--drain", "3600") as process:
        process.read_err_until("running; stop with")
        with PolosClient() as client:
            handle = runs.sync.invoke(client, "wait")
            assert process.read_out() == "waiting"
            process.send(signal.SIGINT)
            assert "1 run in progress" in process.read_err_until("stopping")[-1]
            process.send(signal.SIGTERM)
            assert process.end() == (0, [
                "stopping at once; unfinished runs continue at the next start", "stopped",
            ])  # fmt: skip
            assert runs.sync.get(client, handle.id).finished_at is None


def test_a_module_of_a_package_runs_from_the_current_folder(tmp_path: Path) -> None:
    package = tmp_path / "shop"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "orders.py").write_text("from . import jobs\n")
    (package / "jobs.py").write_text(APP)
    database = str(tmp_path / "other.db")
    with started(tmp_path, "shop.orders", "--database", database, "--project", "eu") as process:
        _, first, *_ = process.read_err_until("running; stop with")
        app = f"{tmp_path.name}/shop/orders.py"
        assert first.endswith(f"app {app}, database {database}, project eu")
        process.send(signal.SIGTERM)
        assert process.end() == (0, ["stopping: no run is in progress", "stopped"])


@pytest.mark.usefixtures("own_database")
def test_the_main_block_is_not_run(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(f"{APP}\nif __name__ == '__main__':\n    1 / 0\n")
    with started(tmp_path, "app.py") as process:
        process.read_err_until("running; stop with")
        process.send(signal.SIGTERM)
        assert process.end()[0] == 0


@pytest.mark.usefixtures("own_database")
def test_what_the_code_no_longer_declares_is_listed_as_retired(tmp_path: Path) -> None:
    app = tmp_path / "app.py"
    app.write_text(APP)
    with started(tmp_path, "app.py") as process:
        process.read_err_until("running; stop with")
        process.send(signal.SIGTERM)
        process.end()
    app.write_text(APP.replace('id="beat"', 'id="pulse"'))
    with started(tmp_path, "app.py") as process:
        listed = process.read_err_until("running; stop with")
        assert any("beat" in line and "retired" in line for line in listed)
