"""What every fault needs: worker processes, a database with what was acknowledged, patience."""

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

from checker import Line, Phase, Testimony, Verdict, check_all, check_file

from polos import LedgerEntry, PolosClient, Run, Schedule, runs, schedules

HERE = Path(__file__).resolve().parent
APPS = HERE / "apps"
PYTHON = HERE.parents[1] / "python"
# Where programs find polos, and the modules beside this one.
PYTHONPATH = os.pathsep.join([str(PYTHON), str(HERE)])

# Python ends with 120 when what it has buffered for a broken output can't be written at its end.
UNBUFFERED = {"PYTHONUNBUFFERED": "1"}

TIMEOUT = 60.0
KEYS = 4
SECOND = timedelta(seconds=1)

# A slot is claimed a little ahead; on a busy machine it may be late.
LATE = timedelta(seconds=3)


def until(condition: Callable[[], Any], timeout: float = TIMEOUT) -> Any:
    """Ask until it is true, for what another process does; the last answer."""
    deadline = time.monotonic() + timeout
    while True:
        answer = condition()
        if answer or time.monotonic() > deadline:
            return answer
        time.sleep(0.01)


class NotRunError(Exception):
    """A fault that can't be injected here, and why: it counts as not run, never as passed."""


# `pydantic_core.to_json` panics where there is no memory for its answer; to us that is an error of
# the handler's like another.
FOREIGN_PANIC = re.compile(
    r"data = to_json\(value\)\n[ ^]*\nMemoryError: *\n"
    r"\nthread .* panicked at .*pyo3.*\n.*pointer is null\n"
)


def own_words(said: str) -> str:
    """What a process has said, without panics of a library that it uses."""
    return FOREIGN_PANIC.sub("", said)


def now() -> datetime:
    return datetime.now(timezone.utc)


@dataclass(frozen=True)
class Resources:
    """What a process uses: bytes of memory, descriptors, threads."""

    memory: int
    files: int
    threads: int

    def most(self, other: Resources) -> Resources:
        """The greater of each."""
        return Resources(
            max(self.memory, other.memory),
            max(self.files, other.files),
            max(self.threads, other.threads),
        )


class Life:
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

    def ready(self) -> Life:
        """Wait until it works."""
        assert self._process.stdout is not None
        heard, _, _ = select.select([self._process.stdout], [], [], TIMEOUT)
        self.is_ready = bool(heard) and self._process.stdout.readline() == b"ready\n"
        if not self.is_ready:
            raise AssertionError(f"a worker doesn't start: {self.errors.read_text()[-2000:]}")
        return self

    def said_ready(self) -> bool:
        """Whether it had come so far, now that it has ended."""
        assert self._process.stdout is not None
        return self.is_ready or self._process.stdout.read() == b"ready\n"

    def tell(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")
        self._process.stdin.flush()

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def kill(self) -> None:
        """``kill -9``; it is gone then."""
        self.signal(signal.SIGKILL)
        self.ends(-signal.SIGKILL)

    def term(self, timeout: float = 20.0) -> float:
        """SIGTERM; how long it took to end, with 0."""
        start = time.monotonic()
        self.signal(signal.SIGTERM)
        self.ends(0, timeout=timeout)
        return time.monotonic() - start

    def ends(self, *codes: int, timeout: float = 20.0) -> int | None:
        """I11: it ends in time, with one of ``codes``; I7: and no panic was heard."""
        verdict = self._bench.verdict
        try:
            code: int | None = self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            code = None
            self._process.kill()
            self._process.wait()
        said = self.errors.read_text()
        verdict.expect("I11", code in codes, f"rc {code} instead of {codes}: {said[-500:]}")
        verdict.expect("I7", "panicked" not in own_words(said), f"panic: {said[-2000:]}")
        return code

    def stop(self) -> None:
        """SIGSTOP; when it returns, no thread runs any more."""
        self.signal(signal.SIGSTOP)
        self.stands_still()

    def stands_still(self) -> None:
        """Wait until no thread runs, whoever stopped it."""
        states = Path(f"/proc/{self.pid}/task")
        if not states.exists():
            raise NotRunError("whether a process is stopped can't be seen without /proc")

        def is_stopped() -> bool:
            texts = [(task / "stat").read_text() for task in states.iterdir()]
            return all(text.rpartition(")")[2].split()[0] == "T" for text in texts)

        if not until(is_stopped):
            raise AssertionError(f"process {self.pid} doesn't stop")

    def resources(self) -> Resources:
        """What it uses now."""
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
        """Seconds on a processor, so far."""
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
        self.remarks: list[str] = []  # what was measured, and isn't judged
        self.locked = 0  # of these, stopped while it held the lock of the file
        self.database = database or folder / "polos.db"
        self.oracle = folder / "oracle.txt"
        self.lights = folder / "oracle.txt.lights"  # of workflows that only say that they ran
        self.client = PolosClient(self.database)
        self._testimony = Testimony(self.oracle)
        self._heard: dict[tuple[str, str, str], list[Line]] = defaultdict(list)
        self.lives: list[Life] = []
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
        for life in self.lives:
            life.dispose()
        self.client.close()

    def times(self, full: int, least: int = 1) -> int:
        """How often, at this scale."""
        return max(least, round(full * self.scale))

    def start(
        self,
        *options: object,
        environment: Mapping[str, str] | None = None,
        database: str | None = None,
        before: Sequence[str] = (),
    ) -> Life:
        """A worker; by another way to the database, if one is given, and with ``before`` in front
        of its command, which has to end in an ``exec`` of it.
        """
        words = map(str, (*options, "--ticks", self.ticks))
        place = database or self.database
        life = Life(
            self,
            len(self.lives),
            *words,
            environment=environment or {},
            database=place,
            before=before,
        )
        self.lives.append(life)
        return life

    def invoke(self, workflow: str = "job", payload: object = None) -> str:
        """An acknowledged run."""
        id = runs.sync.invoke(self.client, workflow, payload).id
        self.jobs.add(id)
        return id

    def create_digests(self, count: int = KEYS) -> list[str]:
        """Acknowledged schedules, each with a key of its own."""
        first = len(self.digests)
        made = [
            schedules.sync.create(self.client, "digest", every=SECOND, key=f"key-{first + number}")
            for number in range(count)
        ]
        self.digests.update(made)
        return made

    def sql(self, statement: str, *values: str, timeout: float = 30.0) -> bool:
        """Write to the database by hand; whether the lock for it was free in time.

        Of SQLite; nothing there is held by one for all on PostgreSQL, where it is always free.

        In another process: two copies of SQLite in one would release each other's locks.
        """
        if not isinstance(self.database, Path):
            if statement != "SELECT 1":
                raise NotRunError("it writes to SQLite's tables by hand")
            return True
        script = (
            "import json, sqlite3, sys\n"
            "path, patience, statement, values = json.load(sys.stdin)\n"
            "file = sqlite3.connect(path, timeout=patience, isolation_level=None)\n"
            "file.execute('BEGIN IMMEDIATE')\n"
            "file.execute(statement, values)\n"
            "file.execute('COMMIT')\n"
        )
        # Not as arguments: those are short, and end at a NUL.
        asked = json.dumps([str(self.database), timeout, statement, values])
        command = [sys.executable, "-c", script]
        done = subprocess.run(command, input=asked, capture_output=True, text=True)
        if done.returncode and "database is locked" not in done.stderr:
            raise AssertionError(done.stderr)
        return done.returncode == 0

    def lines(self, kind: str, run: str, step: str) -> list[Line]:
        """What was testified so far; only what is new is read."""
        for line in self._testimony.read():
            self._heard[line.kind, line.run, line.step].append(line)
        return list(self._heard[kind, run, step])

    def testimonies(self) -> list[Line]:
        """All that was testified."""
        return Testimony(self.oracle).read()

    def hears(self, kind: str, run: str, step: str, timeout: float = TIMEOUT) -> bool:
        """Wait for a testimony; whether it came."""
        return bool(until(lambda: self.lines(kind, run, step), timeout))

    def status(self, run: str) -> str:
        return runs.sync.get(self.client, run).status

    def succeeds(self, run: str, timeout: float = TIMEOUT) -> bool:
        """Wait for the run; whether it succeeded in time."""
        return bool(until(lambda: self.status(run) == "succeeded", timeout))

    def finish(
        self,
        lease: float = 15.0,
        *,
        helper: bool = True,
        testimony: bool = True,
        gone: Collection[str] = (),
    ) -> tuple[list[Run], dict[str, list[LedgerEntry]]]:
        """A worker that nobody disturbs ends everything; then all is checked.

        :param testimony: whether the database can be held to what the steps saw.
        :param gone: workflows whose code no worker has any more.
        """
        verdict = self.verdict
        last = self.start("--lease", lease).ready() if helper else None

        def active() -> list[Schedule]:
            return [
                schedule
                for schedule in schedules.sync.list(self.client, status="active")
                if schedule.id not in self.excluded
            ]

        def is_on_time() -> bool:
            return all(s.upcoming is not None and s.upcoming > now() - SECOND for s in active())

        verdict.expect("I7", until(is_on_time), "the clock of some schedule stands still")
        went_on = active()
        for schedule in went_on:
            self.pause(schedule.id)
        # What was settled at the pause; nothing comes due any more.
        ends = {
            schedule.id: entry + SECOND
            for schedule in schedules.sync.list(self.client, status="paused")
            if schedule.id not in self.excluded
            and (entry := self.last_slot(schedule.id)) is not None
        }
        for id, end in ends.items():
            is_last = end > now() - LATE or all(id != schedule.id for schedule in went_on)
            verdict.expect("I1", is_last, f"the last slot of {id} is before {end}")

        def all_ended() -> bool:
            live = runs.sync.list(self.client, status=("queued", "running", "waiting"), limit=None)
            return all(run.workflow in gone and run.status == "queued" for run in live)

        until(all_ended)
        for life in self.lives:
            if life.is_alive():
                life.term()
        oracle = self.oracle if testimony else None
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
            verdict.expect("I7", not last.is_alive(), "a worker is left")
        return checked

    def pause(self, schedule: str) -> None:
        """Well between two slots: to change what is about to start is a fault of its own."""
        until(lambda: 0.1 < time.time() % 1 < 0.7)
        schedules.sync.pause(self.client, schedule)

    def last_slot(self, schedule: str) -> datetime | None:
        newest = schedules.sync.history(self.client, schedule, limit=1)
        return newest[0].until if newest else None

    def comes_due(self, schedule: str, after: datetime, timeout: float = 10.0) -> bool:
        """Wait for a slot of it that is later; whether it was settled in time."""
        return bool(until(lambda: (self.last_slot(schedule) or after) > after, timeout))


def held(bench: Bench, *options: object) -> tuple[Life, str]:
    """A worker that hangs in step b of a job."""
    life = bench.start(*options).ready()
    job = bench.invoke()
    bench.verdict.expect("I4", bench.hears("before", job, "b"), f"{job} doesn't reach step b")
    return life, job


def check_takeover(bench: Bench, job: str, since: float, least: float, most: float) -> float:
    """Step b begins a second time, once, between ``least`` and ``most`` seconds after ``since``."""
    verdict = bench.verdict
    verdict.expect("I4", bench.succeeds(job, most + 10), f"{job} is {bench.status(job)}")
    begun = bench.lines("before", job, "b")
    verdict.expect("I5", len(begun) == 2, f"{job}: step b began {len(begun)} times")
    verdict.expect("I3", len(bench.lines("before", job, "a")) == 1, f"{job}: step a began again")
    delay = begun[-1].time - since
    text = f"{job}: taken over after {delay:.2f} s, not in {least:.2f} to {most:.2f} s"
    verdict.expect("I5", least <= delay <= most, text)
    return delay
