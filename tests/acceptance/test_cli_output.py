"""The output of commands on pipes and narrow terminals, with colors and hostile text."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from polos import PolosClient, schedules, workflow
from polos.cli.ui.interrupts import with_care
from polos.cli.ui.options import opened
from polos.cli.ui.progress import advancing
from polos.cli.ui.table import cell_width

Command = Callable[..., Any]

PYTHON = Path(__file__).resolve().parents[2] / "python"


@pytest.fixture(autouse=True)
def some(client: PolosClient) -> None:
    @workflow(id="monthly-invoices-of-all-customers", schedule=True)
    async def invoices(ctx): ...

    for key in ("ada", "日本語のキー", "a" * 60):
        schedules.sync.create(
            client, invoices, cron="0 8 1 * *", timezone="America/New_York", key=key
        )


@pytest.mark.parametrize("columns", [40, 60, 80, 120, 200])
@pytest.mark.parametrize(
    "arguments", [["schedules", "list"], ["schedules", "next"], ["runs", "list"]]
)
def test_no_row_is_wider_than_the_terminal(
    command: Command,
    client: PolosClient,
    on_terminal: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
    columns: int,
    arguments: list[str],
) -> None:
    on_terminal(columns)
    monkeypatch.setenv("NO_COLOR", "1")
    schedules.sync.trigger(client, schedules.sync.list(client)[0].id)
    result = command(*arguments)
    wide = 52 if arguments[0] == "runs" else 45  # ids and times are never cut
    assert max(map(cell_width, result.lines)) <= max(columns, wide)
    assert len(result.lines) >= 2


def test_a_pipe_gets_every_row_whole_and_without_colour(command: Command) -> None:
    result = command("schedules", "list")
    assert "a" * 60 in result.out
    assert "\x1b" not in result.out
    assert "…" not in result.out


def test_columns_line_up_whatever_is_in_them(command: Command) -> None:
    starts = set()
    for line in command("schedules", "list").lines[1:]:
        starts.add(cell_width(line[: line.index("active")]))
    assert len(starts) == 1


def test_colour_is_for_terminals_and_can_be_had_and_refused(
    command: Command, on_terminal: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b[32mactive" in command("schedules", "list").out
    monkeypatch.delenv("FORCE_COLOR")
    on_terminal(100)
    assert "\x1b[32mactive" in command("schedules", "list").out
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in command("schedules", "list").out


def test_stored_text_cannot_control_the_terminal(command: Command, client: PolosClient) -> None:
    id = schedules.sync.list(client)[0].id
    schedules.sync.pause(client, id, "\x1b[2Jgone\r\nforged line\u202e")
    result = command("schedules", "list")
    assert len(result.lines) == 4
    assert "\\x1b[2Jgone\\r\\nforged line\\u202e" in result.out
    assert "\x1b" not in command("schedules", "show", id).out
    (shape,) = command("schedules", "show", id, "--json").objects
    assert shape["note"] == "\x1b[2Jgone\r\nforged line\u202e"


def polos(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(PYTHON), **options.pop("env", {})}
    return subprocess.run(
        [sys.executable, "-m", "polos", *arguments],
        capture_output=True,
        encoding="utf-8",
        env=environment,
        timeout=60,
        **options,
    )


@pytest.mark.skipif(os.name == "nt", reason="a POSIX shell's pipe")
@pytest.mark.parametrize("form", [[], ["--json"]])
def test_a_closed_pipe_is_not_an_error(client: PolosClient, form: list[str]) -> None:
    """`polos schedules list | head -1`, with more output than a pipe holds."""
    many = [{"workflow": "monthly-invoices-of-all-customers", "cron": "0 8 1 * *",
             "key": f"{i}"} for i in range(2_000)]  # fmt: skip
    schedules.sync.create_many(client, many)
    command = " ".join([sys.executable, "-m", "polos", "schedules", "list", "--all", *form])
    done = subprocess.run(
        ["/bin/bash", "-c", f"set -o pipefail; {command} | head -1; echo ${{PIPESTATUS[0]}}"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(PYTHON)},
        timeout=60,
    )
    assert done.stderr == ""
    assert done.stdout.splitlines()[-1] == "141"


def test_a_terminal_that_knows_only_ascii_gets_the_rest_escaped() -> None:
    done = polos("schedules", "list", env={"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"})
    assert done.returncode == 0, done.stderr
    assert "\\u65e5\\u672c" in done.stdout
    lines = polos("schedules", "list", "--json", env={"PYTHONIOENCODING": "utf-8"})
    assert "日本語のキー" in [json.loads(line)["key"] for line in lines.stdout.splitlines()]


def test_the_version_needs_no_typer_and_lists_no_rich() -> None:
    """Modules that are slow to import are imported where they are needed."""
    script = (
        "import sys; sys.argv = ['polos', *{}]\n"
        "from polos import cli\n"
        "try: cli.main()\n"
        "except SystemExit: pass\n"
        "print(sorted({{'typer', 'rich', 'watchfiles'}} & set(sys.modules)))"
    )
    for arguments, expected in [
        (["--version"], "[]"),
        (["schedules", "list"], "['typer']"),
        (["--help"], "['typer']"),
    ]:
        done = subprocess.run(
            [sys.executable, "-c", script.format(arguments)],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": str(PYTHON)},
            timeout=60,
        )
        assert done.stdout.splitlines()[-1] == expected, done.stderr


def test_every_command_says_what_it_is_for_in_one_line(command: Command) -> None:
    for group in ([], ["schedules"], ["runs"]):
        listed = command(*group, "--help").out.split("Commands:\n")[1]
        for line in listed.splitlines():
            assert not line.endswith("..."), line
            assert len(line) <= 80


def test_output_stays_in_its_folder(tmp_path: Path) -> None:
    """Reading commands write no files beside the database."""
    before = {path.name for path in tmp_path.iterdir()}
    assert polos("schedules", "list").returncode == 0
    assert {path.name for path in tmp_path.iterdir()} <= before


def test_long_work_shows_a_progress_bar_on_a_terminal_only(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(count: int) -> str:
        with advancing("packing", count) as advance:
            for _ in range(count):
                advance()
        return capsys.readouterr().err

    assert work(100) == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert "packing" in work(100)
    assert work(3) == ""  # done before it could be read


def test_ctrl_c_ends_a_command_also_while_the_database_is_waited_for() -> None:
    """Ctrl-C doesn't interrupt the core, so the default signal handler must be installed."""
    before = signal.getsignal(signal.SIGINT)
    with opened(None, "default"):
        assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL
        with with_care():
            assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
@pytest.mark.parametrize("arguments", ["version", "--help", "schedules list", "doctor"])
def test_a_full_disk_behind_stdout_is_reported_in_one_line(arguments: str) -> None:
    done = with_shell(f"{arguments} > /dev/full")
    assert (done.returncode, done.stderr) == (1, "polos: No space left on device\n")


@pytest.mark.skipif(os.name == "nt", reason="a POSIX shell")
@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-"])
def test_closed_streams_are_not_an_error(closed: str) -> None:
    for arguments in ("version", "schedules list", "top"):
        done = with_shell(f"{arguments} {closed}")
        assert (done.returncode, done.stderr) == (0, "")


def with_shell(typed: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/sh", "-c", f"{sys.executable} -m polos {typed}"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(PYTHON)},
        timeout=60,
    )
