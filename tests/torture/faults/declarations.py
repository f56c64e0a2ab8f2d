"""Releases of one program that run at the same time and declare different schedules."""

from __future__ import annotations

import functools
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from checker import Phase
from faults.cluster import check_slots_outside
from faults.programs import BACK, LEASE, Service, require_services

from harness import SECOND, Bench, WorkerProcess, now, until
from polos import workers

# Seconds between the slots of each schedule: one gets more slots, one gets fewer, one stays.
OLD = (2, 1, 1)
NEW = (1, 2, 1)

# How long the newer declaration still applies after its workers have closed.
ROLLBACK = 60.0

RESTARTS_MIN = 5


@dataclass
class Program:
    """Processes of the old and the new release of one service."""

    service: Service
    old_version: str | None
    new_version: str | None
    bench: Bench
    old: WorkerProcess | None = None
    new: list[WorkerProcess] = field(default_factory=list)
    since: datetime = field(default_factory=now)
    declared: Sequence[int] = OLD

    def start_old(self) -> None:
        self.old = self.started(OLD, self.old_version)

    def start_new(self) -> None:
        self.new.append(self.started(NEW, self.new_version))

    def started(self, periods: Sequence[int], version: str | None) -> WorkerProcess:
        """Start a process, and wait until it has registered as a worker."""
        environment = {} if version is None else {"VERSION": version}
        worker = self.service.process("script", periods, **environment)

        def is_known() -> bool:
            return any(found.pid == worker.pid for found in workers.sync.list(self.bench.client))

        output = worker.errors.read_text
        self.bench.verdict.expect(
            "I7", until(is_known, BACK), f"a worker doesn't start: {output()}"
        )
        return worker

    def end(self, worker: WorkerProcess) -> None:
        """Kill the process, or terminate it."""
        if self.bench.random.random() < 0.5:
            worker.kill()
        else:
            worker.signal(signal.SIGTERM)
            worker.ends(0)

    def declares(self, periods: Sequence[int]) -> bool:
        """Return whether the database has these periods."""
        found = [self.service.schedule(number) for number in range(len(periods))]
        return all(
            one is not None and one.status == "active" and one.every == timedelta(seconds=period)
            for one, period in zip(found, periods, strict=True)
        )

    def changes(self, periods: Sequence[int], change: Callable[[], None], timeout: float) -> None:
        """Do something after which other periods apply."""
        end = now()
        change()
        is_changed = until(lambda: self.declares(periods), timeout)
        text = f"{self.service.name}: the periods {periods} don't come into effect"
        self.bench.verdict.expect("I12", is_changed, text)
        self.note_phase(end)
        self.declared = periods

    def note_phase(self, end: datetime) -> None:
        """End a phase of the declared periods; the next one begins now."""
        for number, period in enumerate(self.declared):
            found = self.service.schedule(number)
            assert found is not None
            phase = Phase(timedelta(seconds=period), self.since, end)
            self.bench.phases.setdefault(found.id, []).append(phase)
        self.since = now()

    def check(self, what: str) -> None:
        """I7: each schedule gets a new slot, at the expected period."""
        since = now()
        for number in range(len(self.declared)):
            found = self.service.schedule(number)
            ticks = found is not None and self.bench.wait_for_slot(found.id, since, BACK)
            text = f"{self.service.name}-{number} doesn't tick: {what}"
            self.bench.verdict.expect("I7", ticks, text)
        text = f"{self.service.name}: the periods aren't {self.declared}: {what}"
        self.bench.verdict.expect("I12", self.declares(self.declared), text)


def f70b(bench: Bench) -> None:
    """Old processes restart beside new ones, with and without versions.

    The newest declaration applies, and no slot is lost or doubled. This includes a rollback and the
    next deployment.
    """
    require_services()
    bench.ticks = 0
    programs = [
        Program(Service(bench, "billing"), "2026.9.1", "2026.10.1", bench),
        Program(Service(bench, "mailing"), None, None, bench),
    ]
    for program in programs:
        program.start_old()
        until(functools.partial(program.declares, OLD), BACK)
        program.since = now()
        program.check("it was started")
    for program in programs:
        program.changes(NEW, program.start_new, BACK)
        program.start_new()
        bench.injections += 1
    for number in range(bench.times(25, RESTARTS_MIN)):
        for program in programs:
            assert program.old is not None
            program.end(program.old)
            time.sleep(bench.random.choice([0.0, 1.5 * LEASE]))
            program.start_old()
            program.check(f"restart {number + 1} of its old process")
            bench.injections += 1
        if number % 2:
            # New processes are replaced too; one of them always runs.
            for program in programs:
                program.end(program.new.pop(0))
                program.start_new()
                program.check("one of its new processes was replaced")
                bench.injections += 1
    for program in programs:
        program.changes(OLD, functools.partial(all_leave, program), ROLLBACK)
        program.check("its new processes have left")
        program.changes(NEW, program.start_new, BACK)
        program.check("its new release was deployed again")
        bench.injections += 2
    check_slots_outside(bench)
    for program in programs:
        program.note_phase(now() + 3600 * SECOND)
    bench.finish(LEASE, start_worker=False)


def all_leave(program: Program) -> None:
    """Terminate all processes of the new release."""
    while program.new:
        worker = program.new.pop()
        worker.signal(signal.SIGTERM)
        worker.ends(0)


FAULTS: dict[str, Callable[[Bench], None]] = {"F70b": f70b}
