"""Faults of the disk, at every point at which something is written: death, loss of power, errors.

A worker plays `scenario.py` on a database of its own; `shim.c` stands between it and the disk.
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
from checker import Testimony, check_file
from shim import Shim, changes

from harness import Bench, Life
from polos import PolosError, runs, schedules, workflow


@workflow(id="afterwards", schedule=True)
def afterwards() -> None:
    """Known here, whatever a worker had time to say."""


@dataclass
class Play:
    """One playing of the scenario."""

    bench: Bench
    shim: Shim
    diary: Path
    life: Life

    def told(self) -> scenario.Told:
        return scenario.read(self.diary) if self.diary.exists() else scenario.Told()


@contextmanager
def playing(
    bench: Bench, name: str, prepare: Callable[[Shim], None], *options: object, log: bool = False
) -> Iterator[Play]:
    """Start it on a new database, once ``prepare`` has set the fault."""
    folder = bench.folder / name
    folder.mkdir()
    shim = Shim(folder, made_in=bench.folder, log=log)
    prepare(shim)
    with Bench(folder, bench.scale, 0, bench.verdict) as place:
        place.ticks = 0
        diary = folder / "diary.txt"
        life = place.start(
            *("--exit", "scenario", "--diary", diary, "--lease", 2, *options),
            environment=shim.environment,
        )
        yield Play(place, shim, diary, life)
    # What is kept of a fault is what was violated.
    if not bench.verdict.violations:
        shutil.rmtree(folder)


def undisturbed(bench: Bench) -> tuple[int, int, int]:
    """How many points, syncs and writes there are in one."""
    with playing(bench, "undisturbed", lambda shim: None) as play:
        play.life.ends(0, timeout=90)
        judge(play.bench, play.told(), "undisturbed")
        control = play.shim.control
        return control.points, control.syncs, control.writes


def judge(place: Bench, told: scenario.Told, what: str) -> None:
    """What is stored is what was acknowledged, and of the change under way all or nothing."""
    verdict = place.verdict
    state = scenario.observed(schedules.sync.list(place.client))
    allowed = [scenario.normal(told.must), scenario.normal(told.may)]
    verdict.expect("I10", state in allowed, f"{what}: {shown(state)}, not {shown(*allowed)}")
    jobs = {run.id for run in runs.sync.list(place.client, workflow="job", limit=None)}
    verdict.expect("I10", jobs >= set(told.runs), f"{what}: of {told.runs}, there are {jobs}")
    verdict.expect("I2", len(jobs) <= len(told.runs) + 1, f"{what}: {told.runs}, and {jobs}")
    judge_steps(place, what)


def judge_steps(place: Bench, what: str) -> None:
    """What had begun is a run, and of what was acknowledged as done the result is there."""
    verdict = place.verdict
    known = {run.id for run in runs.sync.list(place.client, limit=None)}
    for line in Testimony(place.oracle).read():
        verdict.expect("I2", line.run in known, f"{what}: {line.run} had begun, and isn't there")
        if line.kind == "ack" and line.run in known:
            steps = {step.name: step.result for step in runs.sync.get(place.client, line.run).steps}
            text = f"{what}: step {line.step} of {line.run} gave {line.token}; there is {steps}"
            verdict.expect("I10", steps.get(line.step) == line.token, text)


def shown(*states: scenario.State) -> str:
    """Short enough to be read."""
    return " or ".join(
        str({key: (cron, str(input)[:9], status) for key, (cron, input, status) in state.items()})
        for state in states
    )


def sampled(bench: Bench, count: int, least: int) -> list[int]:
    """As many of 1 to ``count`` as the scale asks for."""
    wanted = min(count, max(least, round(count * bench.scale)))
    return sorted(bench.random.sample(range(1, count + 1), wanted))


def f2(bench: Bench) -> None:
    """Killed at each point of writing, half of them with the write half done; then it continues."""
    points, _, _ = undisturbed(bench)
    numbers = sampled(bench, points, 2)
    while numbers:
        number = numbers.pop(0)
        is_torn = bench.random.random() < 0.5

        def prepare(shim: Shim, number: int = number, is_torn: bool = is_torn) -> None:
            shim.control.kill_at, shim.control.is_torn = number, is_torn

        with playing(bench, f"kill-{number}", prepare) as play:
            # How much there is to write depends a little on what comes together.
            code = play.life.ends(0, -signal.SIGKILL, timeout=90)
            judge(play.bench, play.told(), f"killed at point {number}")
            play.bench.finish(2.0)
            bench.injections += code == -signal.SIGKILL
        if not numbers and code == -signal.SIGKILL and bench.scale >= 1:
            numbers.append(number + 1)


def f3(bench: Bench) -> None:
    """Loss of power: of what was not synced, any part is on disk, sectors of a write too."""
    total = bench.times(600, 20)
    forgotten = 0
    for number, (durability, size) in enumerate(
        (("full", 20_000), ("full", 900_000), ("normal", 20_000), ("normal", 900_000))
    ):
        options = "--durability", durability, "--filler", size
        with playing(bench, f"power-{number}", lambda shim: None, *options, log=True) as play:
            play.life.ends(0, timeout=90)
            record = list(changes(play.shim.log))
            places = bench.random.choices(range(1, len(record) + 1), k=max(1, total // 4))
            for cut, left in power.cuts(record, sorted(places), bench.random):
                what = f"{durability}, {size}: power lost after change {cut} of {len(record)}"
                forgotten += check_left(play.bench, left, what, durability == "full")
                bench.injections += 1
    bench.remarks.append(f"`normal` forgot acknowledged changes in {forgotten} cases, as it may")
    if not forgotten and total >= 100:
        raise AssertionError("no power was lost: even `normal` forgot nothing")


def check_left(bench: Bench, left: dict[str, bytes], what: str, is_full: bool) -> bool:
    """Start again with what a loss of power left; whether something acknowledged is gone."""
    folder = bench.folder / "left"
    folder.mkdir()
    for name, data in left.items():
        (folder / name).write_bytes(data)
    diary = folder / "diary.txt"
    told = scenario.read(diary) if diary.exists() else scenario.Told()
    before = len(bench.verdict.violations)
    is_forgotten = False
    with Bench(folder, bench.scale, 0, bench.verdict) as place:
        place.ticks = 0
        try:
            if is_full:
                judge(place, told, what)
            else:
                state = scenario.observed(schedules.sync.list(place.client))
                known = [scenario.normal(each) for each in (*told.states, told.may)]
                text = f"{what}: {shown(state)} was never the state"
                bench.verdict.expect("I10", state in known, text)
                is_forgotten = state != scenario.normal(told.must) and state != known[-1]
            # Each can be worked with; a worker for each would take too long.
            schedules.sync.create(place.client, afterwards, scenario.CRONS[0])
        except PolosError as error:
            bench.verdict.expect("I6", False, f"{what}: {error!r}")
        if is_full and bench.random.random() < 0.02:
            place.finish(2.0)
    check_file(bench.verdict, place.file)
    if len(bench.verdict.violations) == before:
        shutil.rmtree(folder)
    else:
        folder.rename(folder.with_name(f"left-{len(bench.verdict.violations)}"))
    return is_forgotten


def fail_at_each(
    bench: Bench, name: str, count: int, least: int, fail: Callable[[Shim, int, int], None]
) -> None:
    """Let the n-th call fail, and some after it: nothing is lost, nothing is done twice."""
    for number in sampled(bench, count, least):
        in_a_row = bench.random.choice((1, 1, 2, 8))

        def prepare(shim: Shim, number: int = number, in_a_row: int = in_a_row) -> None:
            fail(shim, number, in_a_row)

        what = f"{name} {number}, {in_a_row} in a row"
        with playing(bench, f"{name}-{number}", prepare) as play:
            play.life.ends(0, timeout=90)
            told = play.told()
            bench.verdict.expect("I7", told.ended, f"{what}: it didn't come to the end")
            said = told.refusals or play.life.errors.read_text()
            failed = play.shim.control.failed
            # At the end nobody waits for the log to be written back, and it does no harm.
            if failed and not told.ended:
                bench.verdict.expect("I12", said, f"{what}: nothing was said")
            judge(play.bench, told, what)
            jobs = runs.sync.list(play.bench.client, workflow="job", limit=None)
            bench.verdict.expect("I2", len(jobs) == 2, f"{what}: {len(jobs)} jobs instead of 2")
            play.bench.finish(2.0)
            bench.injections += failed


def f17(bench: Bench) -> None:
    """A sync that works says that it failed: whoever asks again must not have it twice."""
    _, syncs, _ = undisturbed(bench)

    def fail(shim: Shim, number: int, count: int) -> None:
        shim.fail_syncs(errno.EIO, number=number, count=count, done=True)

    fail_at_each(bench, "unknown", syncs, 1, fail)


def f21(bench: Bench) -> None:
    """The n-th sync, and the n-th write, fail with EIO: no success is reported."""
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
