"""What every fault needs: worker processes, a database, what was acknowledged, and waiting."""

from __future__ import annotations

import json
import os
import random
import re
import select
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import TracebackType
from typing import Any

from checker import Line, OracleReader, Phase, Verdict, check_all, check_file

from polos import LedgerEntry, PolosClient, Run, Schedule, runs, schedules

HERE = Path(__file__).resolve().parent
APPS = HERE / "apps"
PYTHON = HERE.parents[1] / "python"
# The import path of programs: polos, and the modules beside this one.
PYTHONPATH = os.pathsep.join([str(PYTHON), str(HERE)])

# Python exits with 120 if it can't flush buffered output to a broken pipe at its end.
UNBUFFERED = {"PYTHONUNBUFFERED": "1"}

TIMEOUT = 60.0
KEYS = 4
SECOND = timedelta(seconds=1)

# A slot is claimed slightly early; on a busy machine it may be late.
LATE = timedelta(seconds=3)


def until(condition: Callable[[], Any], timeout: float = TIMEOUT) -> Any:
    """Poll until the condition is true; return its last answer."""
    deadline = time.monotonic() + timeout
    while True:
        answer = condition()
        if answer or time.monotonic() > deadline:
            return answer
        time.sleep(0.01)


class NotRunError(Exception):
    """The fault can't be injected here. It counts as not run, never as passed."""


# `pydantic_core.to_json` panics if there is no memory for its answer. For polos, that is an error
# of the handler like any other.
FOREIGN_PANIC = re.compile(
    r"data = to_json\(value\)\n[ ^]*\nMemoryError: *\n"
    r"\nthread .* panicked at .*pyo3.*\n.*pointer is null\n"
)


def own_words(output: str) -> str:
    """Return what a process wrote to stderr, without the panics of a library that it uses."""
    return FOREIGN_PANIC.sub("", output)


def now() -> datetime:
    return datetime.now(timezone.utc)


@dataclass(frozen=True)
class Resources:
    """The resources that a process uses: bytes of memory, file descriptors, threads."""

    memory: int
    files: int
    threads: int

    def most(self, other: Resources) -> Resources:
        """Return the maximum of each."""
        return Resources(
            max(self.memory, other.memory),
            max(self.files, other.files),
            max(self.threads, other.threads),
        )


class WorkerProcess:
    """One process of the worker program."""

    def __init__(
        self,
        bench: Bench,
        number: int,
        *options: str,
        environment: Mapping[str, str],
        database: Path | str,
        before: Sequence[str] = (),
    ) -> None:
        self._bench = bench
        self.errors = bench.folder / f"worker-{number}.stderr"
        with self.errors.open("w") as errors:
            self._process = subprocess.Popen(
                [
                    *before,
                    *(sys.executable, "-W", "ignore", str(APPS / "worker.py")),
                    *(str(database), str(bench.oracle), *options),
                ],
                env={**os.environ, **UNBUFFERED, "PYTHONPATH": PYTHONPATH, **environment},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
            )
        self.pid = self._process.pid
        self.is_ready = False

    def ready(self) -> WorkerProcess:
        """Wait until it is ready."""
        assert self._process.stdout is not None
        readable, _, _ = select.select([self._process.stdout], [], [], TIMEOUT)
        self.is_ready = bool(readable) and self._process.stdout.readline() == b"ready\n"
        if not self.is_ready:
            raise AssertionError(f"the worker doesn't start: {self.errors.read_text()[-2000:]}")
        return self

    def said_ready(self) -> bool:
        """Return whether an ended process had reported that it was ready."""
        assert self._process.stdout is not None
        return self.is_ready or self._process.stdout.read() == b"ready\n"

    def send_line(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")
        self._process.stdin.flush()

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def kill(self) -> None:
        """Kill it with SIGKILL, and wait until it has ended."""
        self.signal(signal.SIGKILL)
        self.ends(-signal.SIGKILL)

    def term(self, timeout: float = 20.0) -> float:
        """Send SIGTERM; return the seconds until it exited with 0."""
        start = time.monotonic()
        self.signal(signal.SIGTERM)
        self.ends(0, timeout=timeout)
        return time.monotonic() - start

    def ends(self, *codes: int, timeout: float = 20.0) -> int | None:
        """I11: it exits in time with one of ``codes``. I7: it didn't panic."""
        verdict = self._bench.verdict
        try:
            code: int | None = self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            code = None
            self._process.kill()
            self._process.wait()
        output = self.errors.read_text()
        verdict.expect("I11", code in codes, f"rc {code} instead of {codes}: {output[-500:]}")
        verdict.expect("I7", "panicked" not in own_words(output), f"panic: {output[-2000:]}")
        return code

    def stop(self) -> None:
        """Send SIGSTOP; return when no thread runs any more."""
        self.signal(signal.SIGSTOP)
        self.stands_still()

    def stands_still(self) -> None:
        """Wait until no thread runs, whatever stopped the process."""
        states = Path(f"/proc/{self.pid}/task")
        if not states.exists():
            raise NotRunError("whether a process is stopped can't be seen without /proc")

        def is_stopped() -> bool:
            texts = [(task / "stat").read_text() for task in states.iterdir()]
            return all(text.rpartition(")")[2].split()[0] == "T" for text in texts)

        if not until(is_stopped):
            raise AssertionError(f"process {self.pid} doesn't stop")

    def resources(self) -> Resources:
        """Return what it uses now."""
        place = Path(f"/proc/{self.pid}")
        if not place.exists():
            raise NotRunError("what a process uses can't be seen without /proc")
        pages = int((place / "statm").read_text().split()[1])
        return Resources(
            pages * os.sysconf("SC_PAGE_SIZE"),
            len(list((place / "fd").iterdir())),
            len(list((place / "task").iterdir())),
        )

    def processor_time(self) -> float:
        """Return the CPU seconds that it has used so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def dispose(self) -> None:
        if self.is_alive():
            self._process.kill()
            self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            with suppress(BrokenPipeError):
                stream.close()


class Bench:
    """A database, its workers, what was acknowledged, and the verdict."""

    def __init__(
        self,
        folder: Path,
        scale: float,
        seed: int,
        verdict: Verdict,
        database: Path | str | None = None,
    ) -> None:
        self.folder = folder
        self.scale = scale
        self.random = random.Random(seed)
        self.verdict = verdict
        self.injections = 0
        self.remarks: list[str] = []  # measured, not checked
        self.locked = 0  # processes stopped while they held the lock
        self.database = database or folder / "polos.db"
        self.oracle = folder / "oracle.txt"
        self.lights = (
            folder / "oracle.txt.lights"
        )  # written by workflows that only record that they ran
        self.client = PolosClient(self.database)
        self._reader = OracleReader(self.oracle)
        self._lines: dict[tuple[str, str, str], list[Line]] = defaultdict(list)
        self.processes: list[WorkerProcess] = []
        self.jobs: set[str] = set()
        self.digests: set[str] = set()
        self.excluded: set[str] = set()
        self.phases: dict[str, list[Phase]] = {}  # of schedules whose period changes
        self.ticks = 4

    @property
    def file(self) -> Path:
        """The database's file, for faults that are about files."""
        if not isinstance(self.database, Path):
            raise NotRunError("it is about SQLite's files")
        return self.database

    def __enter__(self) -> Bench:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for worker in self.processes:
            worker.dispose()
        self.client.close()

    def times(self, full: int, least: int = 1) -> int:
        """Return ``full`` at this scale, at least ``least``."""
        return max(least, round(full * self.scale))

    def start(
        self,
        *options: object,
        environment: Mapping[str, str] | None = None,
        database: str | None = None,
        before: Sequence[str] = (),
    ) -> WorkerProcess:
        """Start a worker.

        :param database: another address of the database.
        :param before: goes before its command, which it has to ``exec``.
        """
        words = map(str, (*options, "--ticks", self.ticks))
        place = database or self.database
        worker = WorkerProcess(
            self,
            len(self.processes),
            *words,
            environment=environment or {},
            database=place,
            before=before,
        )
        self.processes.append(worker)
        return worker

    def invoke(self, workflow: str = "job", payload: object = None) -> str:
        """Start a run; remember that it was acknowledged."""
        id = runs.sync.invoke(self.client, workflow, payload).id
        self.jobs.add(id)
        return id

    def create_digests(self, count: int = KEYS) -> list[str]:
        """Create schedules with one key each; remember that they were acknowledged."""
        first = len(self.digests)
        made = [
            schedules.sync.create(self.client, "digest", every=SECOND, key=f"key-{first + number}")
            for number in range(count)
        ]
        self.digests.update(made)
        return made

    def sql(self, statement: str, *values: str, timeout: float = 30.0) -> bool:
        """Write to the database directly; return whether SQLite's lock was free in time.

        On PostgreSQL, no lock covers the whole database, so the answer is always true.

        In another process: two copies of SQLite in one process would release each other's locks.
        """
        if not isinstance(self.database, Path):
            if statement != "SELECT 1":
                raise NotRunError("it writes to SQLite's tables by hand")
            return True
        script = (
            "import json, sqlite3, sys\n"
            "path, timeout, statement, values = json.load(sys.stdin)\n"
            "file = sqlite3.connect(path, timeout=timeout, isolation_level=None)\n"
            "file.execute('BEGIN IMMEDIATE')\n"
            "file.execute(statement, values)\n"
            "file.execute('COMMIT')\n"
        )
        # Not as arguments: they are limited in length and end at a NUL.
        asked = json.dumps([str(self.database), timeout, statement, values])
        command = [sys.executable, "-c", script]
        done = subprocess.run(command, input=asked, capture_output=True, text=True)
        if done.returncode and "database is locked" not in done.stderr:
            raise AssertionError(done.stderr)
        return done.returncode == 0

    def lines(self, kind: str, run: str, step: str) -> list[Line]:
        """Return the recorded lines of a step; reads only what is new."""
        for line in self._reader.read():
            self._lines[line.kind, line.run, line.step].append(line)
        return list(self._lines[kind, run, step])

    def recorded_lines(self) -> list[Line]:
        """Return all recorded lines."""
        return OracleReader(self.oracle).read()

    def wait_for_line(self, kind: str, run: str, step: str, timeout: float = TIMEOUT) -> bool:
        """Wait for a line of a step; return whether it came."""
        return bool(until(lambda: self.lines(kind, run, step), timeout))

    def status(self, run: str) -> str:
        return runs.sync.get(self.client, run).status

    def wait_for_success(self, run: str, timeout: float = TIMEOUT) -> bool:
        """Wait for the run; return whether it succeeded in time."""
        return bool(until(lambda: self.status(run) == "succeeded", timeout))

    def finish(
        self,
        lease: float = 15.0,
        *,
        start_worker: bool = True,
        check_oracle: bool = True,
        gone: Collection[str] = (),
    ) -> tuple[list[Run], dict[str, list[LedgerEntry]]]:
        """Let an undisturbed worker complete everything, then check everything.

        :param check_oracle: whether the database must agree with what the steps recorded.
        :param gone: workflows whose code no worker has any more.
        """
        verdict = self.verdict
        last = self.start("--lease", lease).ready() if start_worker else None

        def active() -> list[Schedule]:
            return [
                schedule
                for schedule in schedules.sync.list(self.client, status="active")
                if schedule.id not in self.excluded
            ]

        def is_on_time() -> bool:
            return all(s.upcoming is not None and s.upcoming > now() - SECOND for s in active())

        verdict.expect("I7", until(is_on_time), "some schedule no longer advances")
        still_active = active()
        for schedule in still_active:
            self.pause(schedule.id)
        # What was settled when they were paused. Nothing comes due afterwards.
        ends = {
            schedule.id: entry + SECOND
            for schedule in schedules.sync.list(self.client, status="paused")
            if schedule.id not in self.excluded
            and (entry := self.last_slot(schedule.id)) is not None
        }
        for id, end in ends.items():
            is_last = end > now() - LATE or all(id != schedule.id for schedule in still_active)
            verdict.expect("I1", is_last, f"the last slot of {id} is before {end}")

        def all_ended() -> bool:
            live = runs.sync.list(self.client, status=("queued", "running", "waiting"), limit=None)
            return all(run.workflow in gone and run.status == "queued" for run in live)

        until(all_ended)
        for worker in self.processes:
            if worker.is_alive():
                worker.term()
        oracle = self.oracle if check_oracle else None
        checked = check_all(
            verdict,
            self.client,
            oracle,
            ends,
            self.jobs,
            self.digests - self.excluded,
            self.phases,
            gone,
        )
        self.client.close()
        check_file(verdict, self.database)
        if last is not None:
            verdict.expect("I7", not last.is_alive(), "a worker is still running")
        return checked

    def pause(self, schedule: str) -> None:
        """Pause between two slots; changing a schedule that is about to fire is another fault."""
        until(lambda: 0.1 < time.time() % 1 < 0.7)
        schedules.sync.pause(self.client, schedule)

    def last_slot(self, schedule: str) -> datetime | None:
        newest = schedules.sync.history(self.client, schedule, limit=1)
        return newest[0].until if newest else None

    def wait_for_slot(self, schedule: str, after: datetime, timeout: float = 10.0) -> bool:
        """Wait for a slot after ``after``; return whether it was settled in time."""
        return bool(until(lambda: (self.last_slot(schedule) or after) > after, timeout))


def start_held(bench: Bench, *options: object) -> tuple[WorkerProcess, str]:
    """Start a worker that hangs in step b of a job."""
    worker = bench.start(*options).ready()
    job = bench.invoke()
    bench.verdict.expect(
        "I4", bench.wait_for_line("before", job, "b"), f"{job} doesn't reach step b"
    )
    return worker, job


def check_takeover(bench: Bench, job: str, since: float, least: float, most: float) -> float:
    """Expect that step b begins again once, ``least`` to ``most`` seconds after ``since``."""
    verdict = bench.verdict
    verdict.expect("I4", bench.wait_for_success(job, most + 10), f"{job} is {bench.status(job)}")
    begun = bench.lines("before", job, "b")
    verdict.expect("I5", len(begun) == 2, f"{job}: step b began {len(begun)} times")
    verdict.expect("I3", len(bench.lines("before", job, "a")) == 1, f"{job}: step a began again")
    delay = begun[-1].time - since
    text = f"{job}: taken over after {delay:.2f} s, not in {least:.2f} to {most:.2f} s"
    verdict.expect("I5", least <= delay <= most, text)
    return delay
