"""`scripts/run-tests`, which `make test` starts: what it runs and prints."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "run-tests"

# A program that records its arguments, and returns a given code.
PROGRAM = """#!/bin/sh
echo "$(basename "$0") $*" >>"{calls}"
{body}
"""


@pytest.fixture
def run_tests(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """Import the script as a module with fake `cargo` and `python`."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    loader = SourceFileLoader("run_tests", str(SCRIPT))
    spec = importlib.util.spec_from_loader("run_tests", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "run_tests", module)
    loader.exec_module(module)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "LOGS", tmp_path / "logs")
    monkeypatch.setattr(module, "BYTECODE", tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.delenv("PYTEST", raising=False)
    return module


Play = Callable[..., tuple[bool, list[str], str]]

# Where a run of pytest has its tests write.
FOLDER = re.compile(r" --basetemp=(\S+)")


@pytest.fixture
def play(
    run_tests: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> Play:
    """Run the script; return whether it failed, what it started, and what it printed."""

    def act(*arguments: str, cargo: str = "exit 0", python: str = "exit 0") -> object:
        calls = tmp_path / "calls"
        for name, body in (("cargo", cargo), ("python", python)):
            program = tmp_path / name
            program.write_text(PROGRAM.format(calls=calls, body=body))
            program.chmod(0o755)
        monkeypatch.setattr(sys, "argv", ["run-tests", *arguments])
        with pytest.raises(SystemExit) as ended:
            run_tests.main()
        started = sorted(FOLDER.sub("", line) for line in calls.read_text().splitlines())
        return bool(ended.value.code), started, capsys.readouterr().out

    return act  # type: ignore[return-value]


def test_a_part_that_fails_hides_no_other(play: Play) -> None:
    has_failed, started, output = play(
        "core", "sqlite", "postgres", cargo="exit 1", python="echo 1 failed in 2.0s; exit 1"
    )
    assert has_failed
    assert [line.split(" -n ")[0] for line in started[:2]] == [
        "cargo test --quiet --locked",
        "python -m pytest -q",
    ]
    assert "--store postgres" in started[2]
    assert output.count("FAILED") == 6  # each when it ends, and in the summary


def test_the_tests_are_compiled_once_and_not_by_each_worker(
    play: Play, run_tests: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(run_tests, "BYTECODE", tmp_path / "none yet")
    compiling = "python -m pytest -q --collect-only"
    has_failed, started, _ = play("sqlite", python='case "$*" in *collect*) exit 3 ;; esac')
    assert not has_failed
    assert started[0] == compiling
    assert len(started) == 2
    monkeypatch.setenv("PYTEST", "tests/unit")
    _, started, _ = play("sqlite")
    assert started[2:] == ["python -m pytest -q tests/unit"]


@pytest.mark.parametrize("code", [0, 1])
def test_each_run_has_its_own_folder_which_is_kept_if_a_test_fails(
    play: Play, tmp_path: Path, code: int
) -> None:
    writes = (
        f'for a in "$@"; do case "$a" in --basetemp=*) mkdir "${{a#*=}}" ;; esac; done; exit {code}'
    )
    has_failed, _, _ = play("sqlite", "postgres", python=writes)
    assert has_failed == bool(code)
    folders = {Path(name) for name in FOLDER.findall((tmp_path / "calls").read_text())}
    assert len(folders) == 2
    assert {folder.exists() for folder in folders} == {bool(code)}


def test_one_failure_of_three_is_a_failure(play: Play) -> None:
    has_failed, _, output = play("core", "sqlite", "postgres", cargo="exit 1")
    assert has_failed
    assert output.count("FAILED") == 2


def test_the_summary_counts_what_ran(play: Play) -> None:
    results = "test result: ok. 30 passed; 0 failed; 2 ignored; 0 measured; 0 filtered out"
    has_failed, _, output = play(
        "core", "sqlite",
        cargo=f"echo '{results}'; echo '{results}'",
        python="echo '1234 passed, 5 skipped in 67.89s (0:01:07)'",
    )  # fmt: skip
    assert not has_failed
    rows = [line.split()[:-1] for line in output.splitlines()]  # without the seconds
    assert ["core", "(cargo", "test)", "60", "0", "4"] in rows
    assert ["package", "(pytest)", "1234", "0", "5"] in rows
    assert output.splitlines()[-1] == "1294 passed, 0 failed, 9 skipped"


def test_chosen_tests_run_on_both_stores_where_there_are_any(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTEST", "tests/unit -k 'a or b'")
    none_left = 'case "$*" in *postgres*) exit 5 ;; esac'
    has_failed, started, _ = play("sqlite", "postgres", python=none_left)
    assert not has_failed
    assert started == [
        "python -m pytest -q --store postgres tests/unit -k a or b",
        "python -m pytest -q tests/unit -k a or b",
    ]
    has_failed, _, _ = play("sqlite", "postgres", python="exit 5")
    assert has_failed


def compiled(*selection: str) -> set[str]:
    """Return the packages that cargo compiles for a selection, with their features."""
    command = ["cargo", "tree", "--locked", "--offline", "--prefix", "none", "--format", "{p}|{f}"]
    done = subprocess.run(
        [*command, *selection],
        cwd=SCRIPT.parents[1], capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    return {line.removesuffix(" (*)") for line in done.stdout.splitlines() if line}


def test_the_extension_and_the_rust_tests_share_all_dependencies() -> None:
    extension = compiled("--package", "polos-python", "--edges", "normal,build")
    tests = compiled("--edges", "normal,build,dev")
    # Otherwise cargo compiles these and their dependents a second time. Turn the missing features
    # on in `src/bindings/Cargo.toml`.
    assert extension - tests == set()
