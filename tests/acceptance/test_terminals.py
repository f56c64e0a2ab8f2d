"""Commands on a terminal: progress bars, and questions before irreversible changes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from polos import PolosClient, schedules, workflow

pytestmark = pytest.mark.skipif(os.name == "nt", reason="a pseudo-terminal")

PYTHON = Path(__file__).resolve().parents[2] / "python"


class TerminalResult(NamedTuple):
    """The exit code and the output of a command."""

    code: int
    shown: str


def on_terminal(*arguments: str, typed: str = "") -> TerminalResult:
    """Execute a command on a pseudo-terminal; ``typed`` answers its question."""
    import pty

    ours, theirs = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": str(PYTHON), "TERM": "xterm", "COLUMNS": "100"}
    with subprocess.Popen(
        [sys.executable, "-m", "polos", *arguments],
        stdin=theirs, stdout=theirs, stderr=theirs, env=environment,
    ) as process:  # fmt: skip
        os.close(theirs)
        os.write(ours, typed.encode())
        seen = b""
        try:
            while part := os.read(ours, 4096):
                seen += part
        except OSError:  # it has ended
            pass
        os.close(ours)
        return TerminalResult(process.wait(30), seen.decode(errors="replace"))


@pytest.fixture
def ids(client: PolosClient) -> list[str]:
    @workflow(id="digest", schedule=True)
    async def digest() -> None: ...

    options = [
        {"workflow": digest, "cron": "0 9 * * *", "key": f"user-{number}"} for number in range(25)
    ]
    return schedules.sync.create_many(client, options)


def test_a_question_is_asked_and_no_cancels(client: PolosClient, ids: list[str]) -> None:
    seen = on_terminal("schedules", "delete", "--workflow", "digest", typed="n\n")
    assert seen.code == 1
    assert "nothing was done" in seen.shown
    assert len(schedules.sync.list(client)) == 25


def test_many_are_deleted_with_a_bar(client: PolosClient, ids: list[str]) -> None:
    seen = on_terminal("schedules", "delete", "--workflow", "digest", typed="y\n")
    assert seen.code == 0, seen.shown
    assert "deleting" in seen.shown
    assert "25/25" in seen.shown
    assert schedules.sync.list(client) == []


@pytest.mark.files  # uses both stores in every pass
def test_a_migration_shows_its_progress(
    tmp_path: Path, new_schema: Callable[[], str], ids: list[str], client: PolosClient
) -> None:
    client.close()
    seen = on_terminal("migrate", "--from", str(tmp_path / "polos.db"), "--to", new_schema())
    assert seen.code == 0, seen.shown
    assert "transfer schedules of default" in seen.shown
    assert "25/25" in seen.shown
    assert ": transferring 25" not in seen.shown, "there are no lines of progress on a terminal"
