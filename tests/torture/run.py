"""Injects faults into workers and judges what they leave behind.

``python tests/torture/run.py [F1 F4 ...] [--scale short|full|0.2] [--seed N] [--keep FOLDER]``
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import TracebackType
from typing import Any

HERE = Path(__file__).resolve().parent
PYTHON = HERE.parents[1] / "python"
sys.path[:0] = [str(PYTHON), str(HERE)]

from checker import Line, Verdict, check_all, check_file, testimony  # noqa: E402

from polos import LedgerEntry, PolosClient, PolosError, Run, Schedule, runs, schedules  # noqa: E402

PATIENCE = 60.0
KEYS = 4
SECOND = timedelta(seconds=1)
SHORT = 0.04

# A slot is claimed a little ahead; on a busy machine it may be late.
LATE = timedelta(seconds=3)


def until(condition: Callable[[], Any], patience: float = PATIENCE) -> Any:
    """Ask until it is true, for what another process does; the last answer."""
    deadline = time.monotonic() + patience
    while True:
        answer = condition()
        if answer or time.monotonic() > deadline:
            return answer
        time.sleep(0.01)


def now() -> datetime:
    return datetime.now(timezone.utc)


class Life:
    """One process of the worker program."""

    def __init__(self, bench: Bench, number: int, *options: str) -> None:
        self._bench = bench
        self.errors = bench.folder / f"worker-{number}.stderr"
        with self.errors.open("w") as errors:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-W", "ignore", str(HERE / "worker.py")),
                    *(str(bench.database), str(bench.oracle), *options),
                ],
                env={**os.environ, "PYTHONPATH": str(PYTHON)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
            )
        self.pid = self._process.pid
        self.is_ready = False

    def ready(self) -> Life:
        """Wait until it works."""
        assert self._process.stdout is not None
        heard, _, _ = select.select([self._process.stdout], [], [], PATIENCE)
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

    def term(self, patience: float = 20.0) -> float:
        """SIGTERM; how long it took to end, with 0."""
        start = time.monotonic()
        self.signal(signal.SIGTERM)
        self.ends(0, patience=patience)
        return time.monotonic() - start

    def ends(self, *codes: int, patience: float = 20.0) -> int | None:
        """I11: it ends in time, with one of ``codes``; I7: and no panic was heard."""
        verdict = self._bench.verdict
        try:
            code: int | None = self._process.wait(patience)
        except subprocess.TimeoutExpired:
            code = None
            self._process.kill()
            self._process.wait()
        said = self.errors.read_text()
        verdict.expect("I11", code in codes, f"rc {code} instead of {codes}: {said[-500:]}")
        verdict.expect("I7", "panicked" not in said, f"panic: {said[-2000:]}")
        return code

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

    def __init__(self, folder: Path, scale: float, seed: int, verdict: Verdict) -> None:
        self.folder = folder
        self.scale = scale
        self.random = random.Random(seed)
        self.verdict = verdict
        self.injections = 0
        self.locked = 0  # of these, stopped while it held the lock of the file
        self.database = folder / "polos.db"
        self.oracle = folder / "oracle.txt"
        self.client = PolosClient(self.database)
        self.lives: list[Life] = []
        self.jobs: set[str] = set()
        self.digests: set[str] = set()
        self.excluded: set[str] = set()
        self.ticks = 4

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

    def start(self, *options: object) -> Life:
        options = (*options, "--ticks", self.ticks)
        self.lives.append(Life(self, len(self.lives), *map(str, options)))
        return self.lives[-1]

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

    def sql(self, statement: str, *values: str, patience: float = 30.0) -> bool:
        """Write to the database by hand; whether the lock for it was free in time.

        In another process: two copies of SQLite in one would release each other's locks.
        """
        script = (
            "import sqlite3, sys\n"
            "patience = float(sys.argv[2])\n"
            "file = sqlite3.connect(sys.argv[1], timeout=patience, isolation_level=None)\n"
            "file.execute('BEGIN IMMEDIATE')\n"
            "file.execute(sys.argv[3], sys.argv[4:])\n"
            "file.execute('COMMIT')\n"
        )
        command = [sys.executable, "-c", script, str(self.database), str(patience), statement]
        done = subprocess.run([*command, *values], capture_output=True, text=True)
        if done.returncode and "database is locked" not in done.stderr:
            raise AssertionError(done.stderr)
        return done.returncode == 0

    def lines(self, kind: str, run: str, step: str) -> list[Line]:
        return [
            line
            for line in testimony(self.oracle)
            if (line.kind, line.run, line.step) == (kind, run, step)
        ]

    def status(self, run: str) -> str:
        return runs.sync.get(self.client, run).status

    def finish(
        self, lease: float = 15.0, *, helper: bool = True
    ) -> tuple[list[Run], dict[str, list[LedgerEntry]]]:
        """A worker that nobody disturbs ends everything; then all is checked."""
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
        for schedule in active():
            schedules.sync.pause(self.client, schedule.id)
        # What was settled at the pause; nothing comes due any more.
        ends = {
            schedule.id: entry + SECOND
            for schedule in schedules.sync.list(self.client, status="paused")
            if (entry := self.last_slot(schedule.id)) is not None
        }
        for id, end in ends.items():
            verdict.expect("I1", end > now() - LATE, f"the last slot of {id} is before {end}")
        unfinished = ("queued", "running", "waiting")
        until(lambda: not runs.sync.list(self.client, status=unfinished, limit=1))
        for life in self.lives:
            if life.is_alive():
                life.term()
        checked = check_all(
            verdict, self.client, self.oracle, ends, self.jobs, self.digests - self.excluded
        )
        self.client.close()
        check_file(verdict, self.database)
        if last is not None:
            verdict.expect("I7", not last.is_alive(), "a worker is left")
        return checked

    def last_slot(self, schedule: str) -> datetime | None:
        newest = schedules.sync.history(self.client, schedule, limit=1)
        return newest[0].until if newest else None


# --- faults ----------------------------------------------------------------------------------


def f1(bench: Bench) -> None:
    """kill -9 at random points, and a restart on the same file."""
    first = bench.start().ready()
    bench.create_digests()
    first.kill()
    for _ in range(bench.times(500)):
        life = bench.start()
        delay = bench.random.uniform(0.005, 1.5)
        deadline = time.monotonic() + delay
        bench.invoke()
        if bench.random.random() < 0.1:
            bench.create_digests(1)
        time.sleep(max(0.0, deadline - time.monotonic()))
        life.kill()
        bench.injections += 1
    bench.finish()


def f4(bench: Bench) -> None:
    """Two to four workers on one file, of which a random one is killed and replaced."""
    lease = 2.0
    workers = [bench.start("--lease", lease).ready()]
    bench.create_digests()
    for _ in range(bench.times(100, 10)):
        while len(workers) < bench.random.randint(2, 4):
            workers.append(bench.start("--lease", lease))
        bench.invoke()
        time.sleep(bench.random.uniform(0.05, 1.0))
        workers.pop(bench.random.randrange(len(workers))).kill()
        bench.injections += 1
    bench.finish(lease)


def held(bench: Bench, *options: object) -> tuple[Life, str]:
    """A worker that hangs in step b of a job."""
    life = bench.start(*options).ready()
    job = bench.invoke()
    heard = until(lambda: bench.lines("before", job, "b"))
    bench.verdict.expect("I4", heard, f"{job} doesn't reach step b")
    return life, job


def check_takeover(bench: Bench, job: str, since: float, least: float, most: float) -> float:
    """Step b begins a second time, once, between ``least`` and ``most`` seconds after ``since``."""
    verdict = bench.verdict
    until(lambda: bench.status(job) == "succeeded", most + 10)
    verdict.expect("I4", bench.status(job) == "succeeded", f"{job} is {bench.status(job)}")
    begun = bench.lines("before", job, "b")
    verdict.expect("I5", len(begun) == 2, f"{job}: step b began {len(begun)} times")
    verdict.expect("I3", len(bench.lines("before", job, "a")) == 1, f"{job}: step a began again")
    delay = begun[-1].time - since
    text = f"{job}: taken over after {delay:.2f} s, not in {least:.2f} to {most:.2f} s"
    verdict.expect("I5", least <= delay <= most, text)
    return delay


def f6(bench: Bench) -> None:
    """A worker dies in a step; one that lives takes over when the lease is over."""
    for number in range(bench.times(25)):
        lease = (1.0, 2.0, 3.0)[number % 3]
        life, job = held(bench, "--lease", lease, "--hold", 60)
        other = bench.start("--lease", lease).ready()
        time.sleep(bench.random.uniform(0.5, 1.5) * lease)
        died = time.time()
        life.kill()
        # It beat at most a third of a lease before it died.
        check_takeover(bench, job, died, lease * 2 / 3 - 0.1, lease + 1)
        other.term()
        bench.injections += 1
    bench.finish()


def f7(bench: Bench) -> None:
    """A worker is stopped for three leases and comes back, when another has its runs."""
    lease = 1.0
    number = 0
    while bench.injections - bench.locked < bench.times(25):
        number += 1
        is_sync = number % 2 == 1
        # Async: asleep in the step when it is stopped, cancelled when it is back. Sync: the
        # thread can't be cancelled, and comes back with a result.
        options = ("--hold", 2.0, "--sync") if is_sync else ("--hold", 2.0)
        life, job = held(bench, "--lease", lease, *options)
        other = bench.start("--lease", lease).ready()
        stopped = time.time()
        life.signal(signal.SIGSTOP)
        if not bench.sql("SELECT 1", patience=lease):
            # Stopped in the middle of a commit: it holds SQLite's lock, and everybody has to wait
            # until it is back. Nobody can have taken over, so the run ends where it began.
            time.sleep(2 * lease)
            life.signal(signal.SIGCONT)
            until(lambda job=job: bench.status(job) == "succeeded", 20)
            bench.verdict.expect("I4", bench.status(job) == "succeeded", f"{job}: doesn't end")
            bench.locked += 1
            bench.injections += 1
            other.term()
            life.term()
            continue
        time.sleep(3 * lease)
        check_takeover(bench, job, stopped, lease * 2 / 3 - 0.1, lease + 1)
        result = runs.sync.get(bench.client, job).result
        life.signal(signal.SIGCONT)

        def comes_back(pid: int = life.pid, job: str = job) -> bool:
            lines = [*bench.lines("after", job, "b"), *bench.lines("cancelled", job, "b")]
            return any(line.pid == pid for line in lines)

        verdict = bench.verdict
        verdict.expect("I5", until(comes_back, 10), f"{job}: its step isn't heard of again")
        # A worker that is told that its runs are gone signs in anew, and works.
        second = bench.invoke()
        until(lambda job=second: bench.status(job) == "succeeded")
        verdict.expect("I5", runs.sync.get(bench.client, job).result == result, f"{job}: rewritten")
        late = [line for line in bench.lines("ack", job, "b") if line.pid == life.pid]
        verdict.expect("I5", not late, f"{job}: its late result was accepted: {late}")
        verdict.expect("I7", life.is_alive() and other.is_alive(), "a worker has died")
        other.term()
        # Alone again, it must do the work.
        third = bench.invoke()
        until(lambda job=third: bench.status(job) == "succeeded")
        verdict.expect("I7", bench.status(third) == "succeeded", "back, and doesn't work")
        life.term()
        bench.injections += 1
    bench.finish()


def f7b(bench: Bench) -> None:
    """As F7, and always suspended between two steps: back, it must not begin what is done."""
    lease = 1.0
    for _ in range(bench.times(25)):
        life, job = held(bench, "--lease", lease, "--hold", 1.0, "--stop")
        other = bench.start("--lease", lease).ready()
        done = until(lambda job=job: bench.status(job) == "succeeded", 20)
        bench.verdict.expect("I4", done, f"{job}: not taken over")
        life.signal(signal.SIGCONT)
        last = bench.invoke()
        until(lambda job=last: bench.status(job) == "succeeded")
        other.term()
        life.kill()
        bench.injections += 1
    bench.finish()


def f8(bench: Bench) -> None:
    """All processes stand still for many periods: one run for the newest slot, no burst."""
    lease = 2.0
    workers = [bench.start("--lease", lease).ready() for _ in range(2)]
    bench.create_digests()
    pauses = []
    for _ in range(bench.times(5, 1)):
        time.sleep(bench.random.uniform(2.0, 3.0))
        for life in workers:
            life.signal(signal.SIGSTOP)
        stopped = now()  # when the last one was: the harness may be held up before
        time.sleep(bench.random.uniform(6.0, 6.0 + 60.0 * bench.scale))
        continued = now()
        for life in workers:
            life.signal(signal.SIGCONT)
        pauses.append((stopped, continued))
        bench.injections += 1
        time.sleep(3.0)
    found, ledgers = bench.finish(lease)
    for stopped, continued in pauses:
        # Slots that were surely not served before, and surely late after.
        for schedule, entries in ledgers.items():
            ran = [
                e
                for e in entries
                if e.status == "ran" and stopped + SECOND < e.timestamp < continued - SECOND / 4
            ]
            bench.verdict.expect("I1", len(ran) <= 1, f"{schedule}: {len(ran)} catch-up runs")
            created = [
                run
                for run in found
                if run.schedule_id == schedule
                and continued <= run.created_at < continued + 2 * SECOND
            ]
            # A buffered one, the late one, and those of the next two seconds.
            text = f"{schedule}: a burst of {len(created)} runs"
            bench.verdict.expect("I1", len(created) <= 4, text)


def f20(bench: Bench) -> None:
    """No write beyond 128 KiB of a file succeeds, for seconds; then there is space again."""
    life = bench.start("--lease", 2).ready()
    bench.create_digests()
    limit = 128 * 1024
    for _ in range(bench.times(20, 2)):
        # Files are longer than the limit then, whatever a checkpoint does in between.
        for _ in range(40):
            bench.invoke(payload={"filler": "x" * 8_000})
        _, hard = resource.prlimit(life.pid, resource.RLIMIT_FSIZE)
        before = bench.oracle.stat().st_size
        resource.prlimit(life.pid, resource.RLIMIT_FSIZE, (max(limit, before + limit), hard))
        for _ in range(20):
            bench.invoke(payload={"filler": "x" * 8_000})
            time.sleep(bench.random.uniform(0.05, 0.25))
        bench.verdict.expect("I7", life.is_alive(), "a full disk has ended the worker")
        resource.prlimit(life.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, hard))
        last = bench.invoke()
        until(lambda job=last: bench.status(job) == "succeeded", 30)
        bench.verdict.expect("I4", bench.status(last) == "succeeded", "it doesn't recover")
        bench.injections += 1
    said = life.errors.read_text()
    bench.verdict.expect("I12", "full" in said or "database" in said, "nothing was said about it")
    bench.finish(helper=False)


def f24(bench: Bench) -> None:
    """A handler blocks the event loop for three leases."""
    lease = 1.0
    for _ in range(bench.times(25, 1)):
        life = bench.start("--lease", lease, "--block", 3 * lease).ready()
        if not bench.digests:
            bench.create_digests()
        time.sleep(1.0)
        job = bench.invoke("blocker")
        begun = until(lambda job=job: bench.lines("before", job, "block"))
        bench.verdict.expect("I4", begun, f"{job} doesn't begin")
        since = now()
        time.sleep(1.2 * lease)
        alone = now()
        other = bench.start("--lease", lease, "--block", 3 * lease).ready()
        until(lambda job=job: bench.lines("after", job, "block"))
        until(lambda job=job: bench.status(job) == "succeeded")
        count = len(bench.lines("before", job, "block"))
        bench.verdict.expect("I5", count == 1, f"{job}: executed {count} times")
        # While it was alone and its loop blocked, each schedule had its runs created in time.
        for run in runs.sync.list(bench.client, since=since - LATE, limit=None):
            if run.timestamp is None or not since < run.timestamp < alone:
                continue
            late = run.created_at - run.timestamp
            bench.verdict.expect("I1", late < SECOND, f"{run.id} was created {late} late")
        said = life.errors.read_text()
        bench.verdict.expect("I12", "blocker" in said, "nobody was warned")
        bench.injections += 1
        life.term()
        other.term()
    bench.finish()


POISONS = (
    '{"cron":"61 * * * *","timezone":"UTC"}',
    '{"every_us":1000000,"timezone":"Mars/Olympus"}',
    "not json",
    "",
    '{"every_us":-5,"timezone":"UTC"}',
    "[" * 5_000,
)


def f33(bench: Bench) -> None:
    """A stored schedule is damaged under a running worker."""
    bench.start("--lease", 2).ready()
    for number in range(bench.times(60, len(POISONS))):
        victim, healthy = bench.create_digests(2)
        until(lambda id=victim: bench.last_slot(id) is not None)
        poison = POISONS[number % len(POISONS)]
        bench.excluded.add(victim)
        bench.sql("UPDATE schedule SET spec = ? WHERE id = ?", poison, victim)
        bench.injections += 1

        def is_broken(id: str = victim) -> bool:
            found = [s for s in schedules.sync.list(bench.client) if s.id == id]
            return bool(found) and found[0].status == "broken" and bool(found[0].note)

        # With its reason, and to be seen in a list beside the others.
        seen = until(is_broken, 10)
        what = f"{victim} with spec {poison[:50]!r}"
        bench.verdict.expect("I12", seen, f"{what} isn't seen to be broken")
        here = now()
        goes_on = until(lambda id=healthy, t=here: (bench.last_slot(id) or t) > t, 10)
        bench.verdict.expect("I7", goes_on, f"beside {what} another stands still")
        if number >= 12:
            schedules.sync.pause(bench.client, healthy)
    bench.finish(2.0, helper=False)


# How the worker program can end, and its return code then.
EXITS = {
    "return": 0,
    "raise": 1,
    "leave": 0,
    "sys-exit": 3,
    "os-exit": 4,
    "loop-stop": 1,
    "atexit": 0,
    "atexit-close": 0,
    "daemon-thread": 0,
}


def f40(bench: Bench) -> None:
    """The program ends, in many ways, while runs are under way."""
    names = list(EXITS)
    for number in range(bench.times(500, len(names) * 2)):
        name = names[number % len(names)]
        is_sync = ("--sync",) if number // len(names) % 2 else ()
        life = bench.start("--exit", name, "--drain", 0.3, "--hold", 60, *is_sync).ready()
        job = bench.invoke()
        until(lambda job=job: bench.lines("before", job, "b"), 10)
        begun = time.monotonic()
        life.tell()
        life.ends(EXITS[name], patience=20)
        took = time.monotonic() - begun
        bench.verdict.expect("I11", took < 5, f"{name} {is_sync}: it took {took:.1f} s to end")
        bench.injections += 1
    bench.finish()


def f41(bench: Bench) -> None:
    """SIGTERM: while a handler hangs, while one finishes, and during the start."""
    lease = 15.0
    for _ in range(bench.times(25, 1)):
        # Hangs: drained for a while, then released, and taken over without waiting for the lease.
        life, job = held(bench, "--lease", lease, "--hold", 60, "--drain", 0.5)
        other = bench.start("--lease", lease).ready()
        sent = time.time()
        took = life.term()
        bench.verdict.expect("I11", took < 4, f"draining took {took:.1f} s")
        check_takeover(bench, job, sent, 0.4, took + 2)
        other.term()
        # Finishes in its grace time, where it began.
        life, job = held(bench, "--lease", lease, "--hold", 1)
        life.term()
        begun = bench.lines("before", job, "b")
        bench.verdict.expect("I11", len(begun) == 1, f"{job}: began {len(begun)} times")
        bench.verdict.expect("I11", bench.status(job) != "running", f"{job} was left as it was")
        # A second signal waits no longer.
        life, job = held(bench, "--lease", lease, "--hold", 60, "--drain", 30)
        life.signal(signal.SIGTERM)
        time.sleep(bench.random.uniform(0.2, 0.6))
        took = life.term()
        bench.verdict.expect("I11", took < 4, f"the second signal took {took:.1f} s")
        bench.injections += 4
        # At any moment of the start.
        for _ in range(3):
            life = bench.start()
            time.sleep(bench.random.uniform(0.0, 0.6))
            life.signal(signal.SIGTERM)
            # Before Python has come to the handler, the signal's own effect.
            code = life.ends(0, -signal.SIGTERM)
            text = "it had begun to work, and was killed by the signal"
            bench.verdict.expect("I11", code == 0 or not life.said_ready(), text)
            bench.injections += 1
    bench.finish()


FAULTS: dict[str, Callable[[Bench], None]] = {
    "F1": f1,
    "F4": f4,
    "F6": f6,
    "F7": f7,
    "F7b": f7b,
    "F8": f8,
    "F20": f20,
    "F24": f24,
    "F33": f33,
    "F40": f40,
    "F41": f41,
}


def torture(
    name: str, scale: float, seed: int, ticks: int, keep: Path | None
) -> tuple[int, Verdict]:
    """One fault in a folder of its own."""
    verdict = Verdict()
    folder = Path(tempfile.mkdtemp(prefix=f"polos-{name}-", dir=keep))
    with Bench(folder, scale, seed, verdict) as bench:
        bench.ticks = ticks
        try:
            FAULTS[name](bench)
        except (AssertionError, PolosError) as error:
            verdict.violations.append(f"{name} could not be carried out: {error!r}")
    if verdict.violations:
        print(f"{name}: what is left is in {folder}")  # noqa: T201
    elif keep is None:
        shutil.rmtree(folder)
    return bench.injections, verdict


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("faults", nargs="*", help=f"of {', '.join(FAULTS)}; all by default")
    parser.add_argument("--scale", default="short", help="short, full, or a factor of full")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--ticks", type=int, default=4, help="schedules declared by the workers")
    parser.add_argument("--keep", type=Path, help="keep all folders, under this one")
    options = parser.parse_args()
    named = {"short": SHORT, "full": 1.0}
    scale = named[options.scale] if options.scale in named else float(options.scale)
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(10**6)
    names = options.faults or list(FAULTS)
    if unknown := set(names) - set(FAULTS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")

    def say(text: str) -> None:
        print(text, flush=True)  # noqa: T201

    say(f"seed {seed}, scale {scale:g}")
    say("| fault | injections | invariants (checks) | violations | seconds |")
    say("| --- | --- | --- | --- | --- |")
    all_violations: list[str] = []
    for name in names:
        start = time.monotonic()
        injections, verdict = torture(name, scale, seed, options.ticks, options.keep)
        invariants = ", ".join(
            f"{invariant} ({count})"
            for invariant, count in sorted(verdict.checked.items(), key=lambda i: int(i[0][1:]))
        )
        found = len(verdict.violations)
        seconds = time.monotonic() - start
        say(f"| {name} | {injections} | {invariants} | {found} | {seconds:.0f} |")
        all_violations += [f"{name} {text}" for text in verdict.violations[:20]]
    for text in all_violations:
        say(text)
    return 1 if all_violations else 0


if __name__ == "__main__":
    sys.exit(main())
