"""Faults of the disk at every write: the process is killed, power is lost, or the write fails.

A worker executes `scenario.py` on its own database; `shim.c` is between it and the disk.
"""

from __future__ import annotations

import errno
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import power
import scenario
from checker import OracleReader, check_file
from shim import Shim, changes

from harness import Bench, WorkerProcess
from polos import PolosError, runs, schedules, workflow


@workflow(id="afterwards", schedule=True)
def afterwards() -> None:
    """A workflow that is registered here, even if no worker has registered it."""


@dataclass
class Play:
    """One execution of the scenario."""

    bench: Bench
    shim: Shim
    change_log: Path
    worker: WorkerProcess

    def recorded(self) -> scenario.Recorded:
        return scenario.read(self.change_log) if self.change_log.exists() else scenario.Recorded()


@contextmanager
def executed(
    bench: Bench, name: str, prepare: Callable[[Shim], None], *options: object, log: bool = False
) -> Iterator[Play]:
    """Execute the scenario on a new database after ``prepare`` has set the fault."""
    folder = bench.folder / name
    folder.mkdir()
    shim = Shim(folder, made_in=bench.folder, log=log)
    prepare(shim)
    with Bench(folder, bench.scale, 0, bench.verdict) as part:
        part.ticks = 0
        change_log = folder / "change-log.txt"
        worker = part.start(
            *("--exit", "scenario", "--change-log", change_log, "--lease", 2, *options),
            environment=shim.environment,
        )
        yield Play(part, shim, change_log, worker)
    # Only the folder of a violation is kept.
    if not bench.verdict.violations:
        shutil.rmtree(folder)


def undisturbed(bench: Bench) -> tuple[int, int, int]:
    """Return the number of points, syncs, and writes of one execution."""
    with executed(bench, "undisturbed", lambda shim: None) as play:
        play.worker.ends(0, timeout=90)
        check_state(play.bench, play.recorded(), "undisturbed")
        control = play.shim.control
        return control.points, control.syncs, control.writes


def check_state(part: Bench, recorded: scenario.Recorded, what: str) -> None:
    """Check that what was acknowledged is stored, and all or nothing of the pending change."""
    verdict = part.verdict
    state = scenario.observed(schedules.sync.list(part.client))
    allowed = [scenario.normal(recorded.must), scenario.normal(recorded.may)]
    verdict.expect("I10", state in allowed, f"{what}: {shown(state)}, not {shown(*allowed)}")
    jobs = {run.id for run in runs.sync.list(part.client, workflow="job", limit=None)}
    verdict.expect(
        "I10", jobs >= set(recorded.runs), f"{what}: of {recorded.runs}, there are {jobs}"
    )
    verdict.expect(
        "I2", len(jobs) <= len(recorded.runs) + 1, f"{what}: {recorded.runs}, and {jobs}"
    )
    check_recorded_steps(part, what)


def check_recorded_steps(part: Bench, what: str) -> None:
    """Check that each step that began has a run, and each acknowledged step a result."""
    verdict = part.verdict
    known = {run.id for run in runs.sync.list(part.client, limit=None)}
    for line in OracleReader(part.oracle).read():
        verdict.expect("I2", line.run in known, f"{what}: {line.run} had begun, and doesn't exist")
        if line.kind == "ack" and line.run in known:
            steps = {step.name: step.result for step in runs.sync.get(part.client, line.run).steps}
            text = f"{what}: step {line.step} of {line.run} gave {line.token}; there is {steps}"
            verdict.expect("I10", steps.get(line.step) == line.token, text)


def shown(*states: scenario.State) -> str:
    """Shorten the states to be readable."""
    return " or ".join(
        str({key: (cron, str(input)[:9], status) for key, (cron, input, status) in state.items()})
        for state in states
    )


def sampled(bench: Bench, count: int, least: int) -> list[int]:
    """Return a sample of 1 to ``count`` of the size that the scale requires."""
    wanted = min(count, max(least, round(count * bench.scale)))
    return sorted(bench.random.sample(range(1, count + 1), wanted))


def f2(bench: Bench) -> None:
    """The worker is killed at each write, every second time amid the write, and started again."""
    points, _, _ = undisturbed(bench)
    numbers = sampled(bench, points, 2)
    while numbers:
        number = numbers.pop(0)
        is_torn = bench.random.random() < 0.5

        def prepare(shim: Shim, number: int = number, is_torn: bool = is_torn) -> None:
            shim.control.kill_at, shim.control.is_torn = number, is_torn

        with executed(bench, f"kill-{number}", prepare) as play:
            # The number of writes varies a little with what is committed together.
            code = play.worker.ends(0, -signal.SIGKILL, timeout=90)
            check_state(play.bench, play.recorded(), f"killed at point {number}")
            play.bench.finish(2.0)
            bench.injections += code == -signal.SIGKILL
        if not numbers and code == -signal.SIGKILL and bench.scale >= 1:
            numbers.append(number + 1)


def f3(bench: Bench) -> None:
    """Power is lost: any part of what was not synced is on disk, even some sectors of a write."""
    total = bench.times(600, 20)
    forgotten = 0
    for number, (durability, size) in enumerate(
        (("full", 20_000), ("full", 900_000), ("normal", 20_000), ("normal", 900_000))
    ):
        options = "--durability", durability, "--filler", size
        with executed(bench, f"power-{number}", lambda shim: None, *options, log=True) as play:
            play.worker.ends(0, timeout=90)
            record = list(changes(play.shim.log))
            places = bench.random.choices(range(1, len(record) + 1), k=max(1, total // 4))
            for cut, left in power.cuts(record, sorted(places), bench.random):
                what = f"{durability}, {size}: power lost after change {cut} of {len(record)}"
                forgotten += check_left(play.bench, left, what, durability == "full")
                bench.injections += 1
    bench.remarks.append(f"`normal` lost acknowledged changes in {forgotten} cases, as is allowed")
    if not forgotten and total >= 100:
        raise AssertionError("no power was lost: even `normal` lost nothing")


def check_left(bench: Bench, left: dict[str, bytes], what: str, is_full: bool) -> bool:
    """Start again after a power loss; return whether an acknowledged change was lost."""
    folder = bench.folder / "left"
    folder.mkdir()
    for name, data in left.items():
        (folder / name).write_bytes(data)
    change_log = folder / "change-log.txt"
    recorded = scenario.read(change_log) if change_log.exists() else scenario.Recorded()
    before = len(bench.verdict.violations)
    is_forgotten = False
    with Bench(folder, bench.scale, 0, bench.verdict) as part:
        part.ticks = 0
        try:
            if is_full:
                check_state(part, recorded, what)
            else:
                state = scenario.observed(schedules.sync.list(part.client))
                known = [scenario.normal(each) for each in (*recorded.states, recorded.may)]
                text = f"{what}: {shown(state)} was never the state"
                bench.verdict.expect("I10", state in known, text)
                is_forgotten = state != scenario.normal(recorded.must) and state != known[-1]
            # Use the database without a worker, since starting one each time would take too long.
            schedules.sync.create(part.client, afterwards, scenario.CRONS[0])
        except PolosError as error:
            bench.verdict.expect("I6", False, f"{what}: {error!r}")
        if is_full and bench.random.random() < 0.02:
            part.finish(2.0)
    check_file(bench.verdict, part.file)
    if len(bench.verdict.violations) == before:
        shutil.rmtree(folder)
    else:
        folder.rename(folder.with_name(f"left-{len(bench.verdict.violations)}"))
    return is_forgotten


def fail_at_each(
    bench: Bench, name: str, count: int, least: int, fail: Callable[[Shim, int, int], None]
) -> None:
    """Let the n-th call and some after it fail: nothing is lost or done twice."""
    for number in sampled(bench, count, least):
        in_a_row = bench.random.choice((1, 1, 2, 8))

        def prepare(shim: Shim, number: int = number, in_a_row: int = in_a_row) -> None:
            fail(shim, number, in_a_row)

        what = f"{name} {number}, {in_a_row} in a row"
        with executed(bench, f"{name}-{number}", prepare) as play:
            play.worker.ends(0, timeout=90)
            recorded = play.recorded()
            bench.verdict.expect("I7", recorded.ended, f"{what}: it didn't complete the scenario")
            output = recorded.refusals or play.worker.errors.read_text()
            failed = play.shim.control.failed
            # A failure of the last checkpoint isn't reported, and does no harm.
            if failed and not recorded.ended:
                bench.verdict.expect("I12", output, f"{what}: no error was logged")
            check_state(play.bench, recorded, what)
            jobs = runs.sync.list(play.bench.client, workflow="job", limit=None)
            bench.verdict.expect("I2", len(jobs) == 2, f"{what}: {len(jobs)} jobs instead of 2")
            play.bench.finish(2.0)
            bench.injections += failed


def f17(bench: Bench) -> None:
    """A sync works but reports failure: a repeated request must not take effect twice."""
    _, syncs, _ = undisturbed(bench)

    def fail(shim: Shim, number: int, count: int) -> None:
        shim.fail_syncs(errno.EIO, number=number, count=count, done=True)

    fail_at_each(bench, "unknown", syncs, 1, fail)


def f21(bench: Bench) -> None:
    """The n-th sync or write fails with EIO: no success is reported."""
    _, syncs, writes = undisturbed(bench)
    fail_at_each(
        bench, "sync", syncs, 1, lambda shim, n, k: shim.fail_syncs(errno.EIO, number=n, count=k)
    )
    fail_at_each(
        bench, "write", writes, 1, lambda shim, n, k: shim.fail_writes(errno.EIO, number=n, count=k)
    )


FAULTS: dict[str, Callable[[Bench], None]] = {
    "F2": f2,
    "F3": f3,
    "F17": f17,
    "F21": f21,
}
