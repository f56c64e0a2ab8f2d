"""`polos run --workers`: one command, several processes of one application."""

from __future__ import annotations

import os
import queue
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from stopping import TIME_TO_STOP

from polos import PolosClient, runs, schedules
from polos.cli.supervisor import Restarts

PYTHON = Path(__file__).resolve().parents[2] / "python"
TIMEOUT = 60.0

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals as POSIX has them")

APP = """
import os

from polos import workflow


@workflow(id="who")
async def who(ctx) -> int:
    ctx.log.info("executes in %d", os.getpid())
    return os.getpid()


@workflow(id="daily", schedule="0 9 * * *")
async def daily(ctx): ...
"""

# A handler that reports its start, and never ends by itself.
STUCK = (
    TIME_TO_STOP
    + """
import asyncio

from polos import workflow


@workflow(id="who")
async def who(ctx):
    ctx.log.info("executes")
    await asyncio.Event().wait()
"""
)

# The same; its process dies from SIGINT while it exits.
DIES_AT_EXIT = (
    STUCK
    + """

def die() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGINT)


import atexit, os, signal
atexit.register(die)
"""
)


class Supervisor:
    """The command, and the stderr of its processes."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        environment = {**os.environ, "PYTHONPATH": str(PYTHON), "PYTHONUNBUFFERED": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "polos", "run", "app.py", *arguments],
            cwd=folder,
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines: list[str] = []
        self._unread: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._unread.put(line.rstrip())
        self._unread.put(None)

    def end(self) -> None:
        """Kill the command. Its workers end with it."""
        self.process.kill()
        self.process.wait()
        self._reader.join(TIMEOUT)
        assert self.process.stderr is not None
        self.process.stderr.close()

    def until(self, pattern: str) -> re.Match[str]:
        """Wait for a line that matches."""
        while (line := self._unread.get(timeout=TIMEOUT)) is not None:
            self.lines.append(line)
            if found := re.search(pattern, line):
                return found
        raise AssertionError(f"all processes ended without {pattern!r}: {self.lines}")

    def until_all_ended(self) -> list[str]:
        """Wait until no process holds stderr open, and return all lines."""
        while (line := self._unread.get(timeout=TIMEOUT)) is not None:
            self.lines.append(line)
        return self.lines

    def pids(self) -> list[int]:
        """Wait until all workers run, and return their process ids."""
        return [int(pid) for pid in self.until(r"running, processes ([\d, ]+);")[1].split(", ")]


@contextmanager
def supervisor(folder: Path, *arguments: str, app: str = APP) -> Iterator[Supervisor]:
    (folder / "app.py").write_text(app)
    started = Supervisor(folder, *arguments)
    try:
        yield started
    finally:
        started.end()


def test_several_workers_of_one_application_work_and_end_with_one_signal(
    tmp_path: Path, database: Path | str
) -> None:
    with supervisor(tmp_path, "--workers", "3") as command, PolosClient(database) as client:
        pids = command.pids()
        assert len(set(pids)) == 3
        ended = runs.sync.invoke(client, "who").sync.result(TIMEOUT)
        assert ended in pids
        number = pids.index(ended) + 1
        command.until(rf"\[{number}\] who: executes in {ended}")
        found = schedules.sync.list(client, workflow="daily")
        assert [(each.status, each.owner) for each in found] == [
            ("active", f"{tmp_path.name}/app.py")
        ]
        command.process.send_signal(signal.SIGTERM)
        lines = command.until_all_ended()
        assert command.process.wait(TIMEOUT) == 0
        assert sorted(line for line in lines if line.endswith("] stopped")) == [
            f"[{number}] stopped" for number in (1, 2, 3)
        ]
        # Only the first worker lists what they all execute.
        assert sum("no schedules" in line or "started by" in line for line in lines) == 1
        found = schedules.sync.list(client, workflow="daily")
        assert [each.status for each in found] == ["active"]


@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM"])
def test_a_worker_that_ends_is_replaced(tmp_path: Path, database: Path | str, name: str) -> None:
    with supervisor(tmp_path, "--workers", "2") as command:
        first, second = command.pids()
        os.kill(second, signal.Signals[name])
        command.until(rf"worker 2 \(process {second}\) .*; it restarts in 0\.5 s")
        command.until(r"\[2\] polos\.worker: worker of .* started")
        with PolosClient(database) as client:
            assert runs.sync.invoke(client, "who").sync.result(TIMEOUT) != second
        command.process.send_signal(signal.SIGINT)
        command.until_all_ended()
        assert command.process.wait(TIMEOUT) == 0
        assert f"worker 1 (process {first})" not in " ".join(command.lines)


@pytest.mark.parametrize(
    ("app", "reason"),
    [
        ("import nothing_of_that_name", "`app.py` can't be imported"),
        ("", "no workflows found in `app.py`"),
    ],
)
def test_an_application_that_cannot_start_ends_the_command_with_one_message(
    tmp_path: Path, own_database: Path | str, app: str, reason: str
) -> None:
    with supervisor(tmp_path, "--workers", "4", app=app) as command:
        lines = command.until_all_ended()
        assert command.process.wait(TIMEOUT) == 1
    assert sum(reason in line for line in lines) == 1
    assert "before it was ready" in lines[-1]


def test_workers_end_with_their_supervisor(tmp_path: Path, own_database: Path | str) -> None:
    with supervisor(tmp_path, "--workers", "2") as command:
        command.pids()
        command.process.kill()
        lines = command.until_all_ended()
        assert {"[1] stopped", "[2] stopped"} <= {*lines}


def test_a_second_signal_ends_all_workers_at_once(tmp_path: Path, database: Path | str) -> None:
    options = ("--workers", "2", "--drain", "3600")
    with supervisor(tmp_path, *options, app=STUCK) as command, PolosClient(database) as client:
        command.pids()
        handle = runs.sync.invoke(client, "who")
        command.until("who: executes")
        command.process.send_signal(signal.SIGTERM)
        command.until("stopping: 1 run in progress")
        # The same signal counts again only after a tenth of a second; another one at once.
        command.process.send_signal(signal.SIGINT)
        command.until("stopping at once")
        command.until_all_ended()
        assert command.process.wait(TIMEOUT) == 0
        assert runs.sync.get(client, handle.id).status == "queued"


@pytest.mark.files
def test_a_second_signal_may_reach_a_worker_that_has_drained(tmp_path: Path) -> None:
    with supervisor(tmp_path, "--workers", "2", "--drain", "3600", app=DIES_AT_EXIT) as command:
        command.pids()
        with PolosClient(tmp_path / "polos.db") as client:
            runs.sync.invoke(client, "who")
        command.until("who: executes")
        command.process.send_signal(signal.SIGTERM)
        command.until("stopping: 1 run in progress")
        command.process.send_signal(signal.SIGINT)
        command.until_all_ended()
        assert command.process.wait(TIMEOUT) == 0


@pytest.mark.files
def test_a_worker_that_dies_while_it_drains_gives_its_exit_code(tmp_path: Path) -> None:
    with supervisor(tmp_path, "--workers", "2", app=DIES_AT_EXIT) as command:
        command.pids()
        command.process.send_signal(signal.SIGTERM)
        command.until_all_ended()
        assert command.process.wait(TIMEOUT) == 128 + signal.SIGINT


@pytest.mark.files
def test_several_workers_follow_changes_of_their_code(tmp_path: Path) -> None:
    with supervisor(tmp_path, "--workers", "2", "--reload") as command:
        before = command.pids()
        (tmp_path / "app.py").write_text("def")
        command.until("worker 1 .* before it was ready; it restarts when a file changes")
        (tmp_path / "app.py").write_text(APP)
        after = command.pids()
        assert not {*before} & {*after}
        command.process.send_signal(signal.SIGTERM)
        command.until_all_ended()
        assert command.process.wait(TIMEOUT) == 0
        assert not any("it restarts in" in line for line in command.lines)


@pytest.mark.files
@pytest.mark.parametrize("is_option", [True, False])
def test_the_version_of_the_code_reaches_the_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_option: bool
) -> None:
    cadence = {"2": "0 9 * * *", "1": "0 7 * * *"}

    def arguments(version: str) -> list[str]:
        if is_option:
            return ["--workers", "2", "--app-version", version]
        monkeypatch.setenv("POLOS_VERSION", version)
        return ["--workers", "2"]

    new, old = tmp_path / "new", tmp_path / "old"
    monkeypatch.setenv("POLOS_DATABASE_URL", str(tmp_path / "polos.db"))
    for folder in (new, old):
        folder.mkdir()
    old_app = APP.replace(cadence["2"], cadence["1"])
    with supervisor(new, *arguments("2"), "--app", "shop") as newer:
        newer.pids()
        with supervisor(old, *arguments("1"), "--app", "shop", app=old_app) as older:
            older.pids()
            with PolosClient(tmp_path / "polos.db") as client:
                (found,) = schedules.sync.list(client, workflow="daily")
                assert found.cron == cadence["2"]


# --- when to restart -------------------------------------------------------------------------


def ended(restarts: Restarts, **changes: object) -> float | None:
    given = {"code": -9, "was_ready": True, "age": 1.0, "others_ready": True, **changes}
    return restarts.delay(**given)  # type: ignore[arg-type]


def test_the_delay_grows_while_a_worker_keeps_ending_and_starts_again_when_it_is_healthy() -> None:
    restarts = Restarts()
    assert [ended(restarts) for _ in range(8)] == [0.5, 1, 2, 4, 8, 16, 30, 30]
    assert ended(restarts, age=60.0) == 0.5


def test_an_error_at_the_start_ends_the_command_unless_others_work() -> None:
    assert ended(Restarts(), code=1, was_ready=False) is None
    worked = Restarts()
    ended(worked)
    assert ended(worked, code=1, was_ready=False) == 1.0
    assert ended(worked, code=1, was_ready=False, others_ready=False) is None


def test_a_worker_that_is_killed_at_every_start_ends_the_command_when_none_works() -> None:
    killed = {"was_ready": False, "others_ready": False}
    restarts = Restarts()
    assert [ended(restarts, **killed) for _ in range(5)] == [0.5, 1, 2, 4, None]
    alone = Restarts()
    assert all(ended(alone, was_ready=False) for _ in range(20))
