"""Releases of one program that declare their schedules differently, and run at the same time."""

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

from harness import SECOND, Bench, Life, now, until
from polos import workers

# Seconds between the slots of each schedule: one gets more slots, one gets fewer, one stays.
OLD = (2, 1, 1)
NEW = (1, 2, 1)

# How long it takes until the older declaration counts after the newer workers have left.
ROLLBACK = 60.0

RESTARTS_MIN = 5


@dataclass
class Program:
    """Processes of one service: of its old release, and of its new one."""

    service: Service
    old_version: str | None
    new_version: str | None
    bench: Bench
    old: Life | None = None
    new: list[Life] = field(default_factory=list)
    since: datetime = field(default_factory=now)
    declared: Sequence[int] = OLD

    def start_old(self) -> None:
        self.old = self.started(OLD, self.old_version)

    def start_new(self) -> None:
        self.new.append(self.started(NEW, self.new_version))

    def started(self, periods: Sequence[int], version: str | None) -> Life:
        """A process that the database knows as a worker."""
        environment = {} if version is None else {"VERSION": version}
        life = self.service.process("script", periods, **environment)

        def is_known() -> bool:
            return any(found.pid == life.pid for found in workers.sync.list(self.bench.client))

        said = life.errors.read_text
        self.bench.verdict.expect("I7", until(is_known, BACK), f"a worker doesn't start: {said()}")
        return life

    def end(self, life: Life) -> None:
        """End it in one of two ways."""
        if self.bench.random.random() < 0.5:
            life.kill()
        else:
            life.signal(signal.SIGTERM)
            life.ends(0)

    def declares(self, periods: Sequence[int]) -> bool:
        """Whether these are the periods that the database has."""
        found = [self.service.schedule(number) for number in range(len(periods))]
        return all(
            one is not None and one.status == "active" and one.every == timedelta(seconds=period)
            for one, period in zip(found, periods, strict=True)
        )

    def changes(self, periods: Sequence[int], change: Callable[[], None], timeout: float) -> None:
        """Do something after which other periods count."""
        end = now()
        change()
        is_changed = until(lambda: self.declares(periods), timeout)
        text = f"{self.service.name}: the periods {periods} don't come into effect"
        self.bench.verdict.expect("I12", is_changed, text)
        self.note_phase(end)
        self.declared = periods

    def note_phase(self, end: datetime) -> None:
        """The declared periods counted until then, and others, or the same, do from now on."""
        for number, period in enumerate(self.declared):
            found = self.service.schedule(number)
            assert found is not None
            phase = Phase(timedelta(seconds=period), self.since, end)
            self.bench.phases.setdefault(found.id, []).append(phase)
        self.since = now()

    def check(self, what: str) -> None:
        """I7: each schedule has a slot from now on, of the period that it is to have."""
        since = now()
        for number in range(len(self.declared)):
            found = self.service.schedule(number)
            ticks = found is not None and self.bench.comes_due(found.id, since, BACK)
            text = f"{self.service.name}-{number} doesn't tick: {what}"
            self.bench.verdict.expect("I7", ticks, text)
        text = f"{self.service.name}: the periods aren't {self.declared}: {what}"
        self.bench.verdict.expect("I12", self.declares(self.declared), text)


def f70b(bench: Bench) -> None:
    """Old processes restart beside new ones, with versions and without: the newest declaration
    counts, and no slot is lost or doubled, also in a rollback and in the next deployment.
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
            # New processes are replaced too; one of them is always there.
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
    bench.finish(LEASE, helper=False)


def all_leave(program: Program) -> None:
    """All processes of the new release end in good order."""
    while program.new:
        life = program.new.pop()
        life.signal(signal.SIGTERM)
        life.ends(0)


FAULTS: dict[str, Callable[[Bench], None]] = {"F70b": f70b}
