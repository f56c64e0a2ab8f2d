"""Injects faults into workers and judges what they leave behind.

``python tests/torture/run.py [F1 F4 ...] [--scale short|full|0.2] [--seed N] [--keep FOLDER]``
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import select
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing, suppress
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
        self.database = folder / "polos.db"
        self.oracle = folder / "oracle.txt"
        self.client = PolosClient(self.database)
        self.lives: list[Life] = []
        self.jobs: set[str] = set()
        self.digests: set[str] = set()
        self.excluded: set[str] = set()

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
        # `upcoming` is what is settled at the pause.
        ends = {
            schedule.id: entry + SECOND
            for schedule in schedules.sync.list(self.client, status="paused")
            if (entry := self._last_slot(schedule.id)) is not None
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

    def _last_slot(self, schedule: str) -> datetime | None:
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


FAULTS: dict[str, Callable[[Bench], None]] = {
    "F1": f1,
}


def torture(name: str, scale: float, seed: int, keep: Path | None) -> tuple[int, Verdict]:
    """One fault in a folder of its own."""
    verdict = Verdict()
    folder = Path(tempfile.mkdtemp(prefix=f"polos-{name}-", dir=keep))
    with Bench(folder, scale, seed, verdict) as bench:
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
        injections, verdict = torture(name, scale, seed, options.keep)
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
