"""`polos init`, `polos completion`, and workers that reload changed code."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

Command = Callable[..., Any]

PYTHON = Path(__file__).resolve().parents[2] / "python"
HERE = {**os.environ, "PYTHONPATH": str(PYTHON), "PYTHONUNBUFFERED": "1"}
FILES = [".gitignore", "app.py", "pyproject.toml", "test_app.py"]

APP = """
from polos import workflow

@workflow(id="first")
async def first(ctx): ...
"""


# --- init ------------------------------------------------------------------------------------


@pytest.mark.files
def test_a_new_project_works_and_its_test_passes(command: Command, tmp_path: Path) -> None:
    result = command("init", "shop")
    folder = tmp_path / "shop"
    assert result.code == 0
    assert sorted(path.name for path in folder.iterdir()) == FILES
    assert "polos run app.py" in result.err
    tested = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=folder, env=HERE, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert tested.returncode == 0, tested.stdout
    with worker(folder, "run", "app.py") as process:
        lines = until(process, "running; stop with")
        assert any("morning-report" in line and "next" in line for line in lines)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def test_init_overwrites_nothing(command: Command, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("mine")
    result = command("init")
    assert result.code == 1
    assert "`app.py` would be overwritten" in result.err
    assert [path.name for path in tmp_path.iterdir()] == ["app.py"]
    assert (tmp_path / "app.py").read_text() == "mine"
    assert command("init", "a/b").code == 0
    assert sorted(os.listdir(tmp_path / "a" / "b")) == FILES


def test_init_names_the_project_as_packaging_tools_allow(command: Command, tmp_path: Path) -> None:
    assert command("init", "Mein Projekt (neu)").code == 0
    text = (tmp_path / "Mein Projekt (neu)" / "pyproject.toml").read_text()
    assert 'name = "mein-projekt--neu"' in text


# --- completion ------------------------------------------------------------------------------


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_for_the_shell(command: Command, shell: str) -> None:
    result = command("completion", shell)
    assert result.code == 0
    assert f"complete_{shell}" in result.out
    if shutil.which(shell):
        checked = subprocess.run([shell, "-n", "-c", result.out], capture_output=True, text=True)
        assert (checked.returncode, checked.stderr) == (0, "")


@pytest.mark.skipif(not shutil.which("bash"), reason="bash isn't installed")
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("polos sch", ["schedules"]),
        ("polos schedules pa", ["pause"]),
        ("polos runs list --st", ["--status"]),
    ],
)
def test_bash_completes_commands_and_options(
    command: Command, tmp_path: Path, line: str, expected: list[str]
) -> None:
    program = tmp_path / "bin" / "polos"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m polos "$@"\n')
    program.chmod(0o755)
    words = line.split()
    script = command("completion", "bash").out + (
        f"COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}\n"
        '_polos_completion polos\nprintf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    path = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script], env={**HERE, "PATH": path}, capture_output=True, text=True,
        timeout=60,
    )  # fmt: skip
    assert done.stdout.split() == expected, done.stderr


# --- reload ----------------------------------------------------------------------------------


@contextmanager
def worker(folder: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "polos", *arguments],
        cwd=folder,
        env=HERE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def until(process: subprocess.Popen[str], expected: str) -> list[str]:
    """Return the lines of stderr up to one with ``expected``."""
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line.rstrip())
        if expected in line:
            return lines
    raise AssertionError(f"it ended without {expected!r}: {lines}")


@pytest.mark.files
@pytest.mark.parametrize("command", [["run", "--reload"], ["dev", "--no-ui"]])
def test_a_worker_reloads_its_code_and_survives_mistakes(
    tmp_path: Path, command: list[str]
) -> None:
    app = tmp_path / "app.py"
    app.write_text(APP)
    with worker(tmp_path, *command, "app.py") as process:
        until(process, "running; stop with")
        app.write_text(APP.replace("first", "second"))
        assert any(line.split()[0] == "second" for line in until(process, "running; stop with"))
        app.write_text("def")
        assert any("SyntaxError" in line for line in until(process, "the worker has ended"))
        app.write_text(APP)
        until(process, "running; stop with")
        process.send_signal(signal.SIGTERM)
        assert until(process, "stopped")
        assert process.wait(30) == 0


@pytest.mark.files
@pytest.mark.skipif(os.name == "nt", reason="signals as POSIX has them")
def test_a_worker_ends_with_the_process_that_reloads_it(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP)
    with worker(tmp_path, "run", "--reload", "app.py") as process:
        until(process, "running; stop with")
        process.kill()
        # The worker shares its stderr, which is at its end only when the worker has ended too.
        assert until(process, "stopped")


def test_reload_says_what_it_needs(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "watchfiles" else find(name)
    )
    (tmp_path / "app.py").write_text(APP)
    result = command("run", "--reload", "app.py")
    assert result.code == 1
    assert "pip install 'polos[dev]'" in result.err


def test_the_dashboard_names_the_missing_package(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "starlette" else find(name)
    )
    for arguments in (["ui"], ["dev", "app.py"]):
        result = command(*arguments)
        assert result.code == 1
        assert "pip install 'polos[ui]'" in result.err
        assert result.err.count("\n") == 1


def test_the_dashboards_port_is_the_same_wherever_it_is_started() -> None:
    from polos.cli.commands.dev import PORT
    from polos.dashboard.server import PORT as DASHBOARD

    assert PORT == DASHBOARD


@pytest.mark.files
def test_dev_shows_the_dashboard_beside_the_worker(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP)
    with worker(tmp_path, "dev", "app.py", "--port", "0") as process:
        heard = until(process, "the dashboard is at")
        if not any("running; stop with" in line for line in heard):
            until(process, "running; stop with")
        address = heard[-1].split()[-1]
        with urllib.request.urlopen(address, timeout=30) as page:
            assert page.status == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
