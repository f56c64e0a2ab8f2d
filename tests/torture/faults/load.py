"""Faults of load: bursts, many stored schedules, and a worker that runs for minutes."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from statistics import median

from harness import SECOND, Bench, Resources, WorkerProcess, now, until
from polos import runs, schedules

CHUNK = 10_000
YEARLY = "0 0 1 1 *"
MB = 1024 * 1024

# A checkpoint comes at 4 MB; a reader may delay it.
LOG_MAX = 32 * MB


def create(bench: Bench, count: int, **trigger: object) -> list[str]:
    """Create schedules of the light workflow with one key each."""
    made: list[str] = []
    for first in range(0, count, CHUNK):
        made += schedules.sync.create_many(
            bench.client,
            [
                {"workflow": "light", "key": f"{number:07}", **trigger}
                for number in range(first, min(count, first + CHUNK))
            ],
        )
    return made


def light_runs(bench: Bench) -> list[tuple[str, float]]:
    """Return the runs that light handlers recorded, and when."""
    if not bench.lights.exists():
        return []
    lines = [line.split() for line in bench.lights.read_text().split("\n")[:-1]]
    return [(run, float(moment)) for run, moment in lines]


def grown(bench: Bench, before: Resources, after: Resources, memory: int) -> None:
    """I9: threads, descriptors, and memory stay below their bounds."""
    text = f"from {before} to {after}"
    bench.verdict.expect("I9", after.threads <= before.threads, f"threads: {text}")
    # The maximum number of connections, each with the file and the log.
    bench.verdict.expect("I9", after.files <= before.files + 8, f"descriptors: {text}")
    bench.verdict.expect("I9", after.memory <= before.memory + memory, f"memory: {text}")


def f31(bench: Bench) -> None:
    """100,000 schedules are due at once: each runs once, and clients are served meanwhile."""
    count = bench.times(100_000, 1_000)
    worker = bench.start().ready()
    due = now() + timedelta(seconds=4 + count / 10_000)
    ids = create(bench, count, at=due)
    assert now() < due, "they came due before all were stored"
    before = worker.resources()
    time.sleep(max(0.0, (due - now()).total_seconds() - 0.5))
    waits, peak = served(bench, worker, count)
    recorded = light_runs(bench)
    times = Counter(run for run, _ in recorded)
    for id in ids:
        run = f"{id.replace('sch_', 'run_')}_{round(due.timestamp() * 1e6)}"
        bench.verdict.expect("I1", times[run] == 1, f"{run} was executed {times[run]} times")
    bench.verdict.expect("I2", len(times) == count, f"{len(times)} runs of {count} schedules")
    grown(bench, Resources(before.memory, before.files, before.threads + 64), peak, 300 * MB)
    late = sorted(moment - due.timestamp() for _, moment in recorded)
    bench.injections += count
    bench.remarks.append(
        f"{count} due at once: started {late[0]:.3f} to {late[-1]:.2f} s late; "
        f"{before.memory // MB} MB, at most {peak.memory // MB} MB; "
        f"{len(waits)} creates meanwhile, "
        f"p50 {median(waits) * 1000:.1f} ms, "
        f"p99 {waits[int(len(waits) * 0.99)] * 1000:.1f} ms"
    )
    bench.finish(start_worker=False)


def served(bench: Bench, worker: WorkerProcess, count: int) -> tuple[list[float], Resources]:
    """Create schedules until all have begun; return the times, and the peak of resources."""
    waits: list[float] = []
    peak = worker.resources()
    end = time.monotonic() + 120
    while time.monotonic() < end:
        begun = time.monotonic()
        schedules.sync.create(bench.client, "digest", YEARLY, key=f"meanwhile-{len(waits) % 50}")
        waits.append(time.monotonic() - begun)
        peak = peak.most(worker.resources())
        if bench.lights.exists() and bench.lights.read_bytes().count(b"\n") >= count:
            break
        time.sleep(0.005)
    until(lambda: not runs.sync.list(bench.client, status=("queued", "running"), limit=1))
    return sorted(waits), peak.most(worker.resources())


def f32(bench: Bench) -> None:
    """A million schedules are stored, none of them due."""
    count = bench.times(1_000_000, 40_000)
    idle = bench.times(30, 10)
    bench.start().ready().term()
    begun = time.monotonic()
    create(bench, count, cron=YEARLY)
    created = time.monotonic()
    bench.ticks = 0
    worker = bench.start().ready()
    ready = time.monotonic()
    time.sleep(5.0)
    before = worker.processor_time()
    time.sleep(idle)
    share = (worker.processor_time() - before) / idle
    bench.injections += count
    bench.verdict.expect("I7", share < 0.02, f"idle, and {share:.1%} of a core is used")
    bench.verdict.expect("I7", ready - created < 5, f"it took {ready - created:.1f} s to start")
    bench.remarks.append(
        f"{count} created in {created - begun:.0f} s; "
        f"the worker was ready after {ready - created:.2f} s; "
        f"idle {share:.2%} of a core, {worker.resources().memory // MB} MB"
    )
    worker.term()


def f49(bench: Bench) -> None:
    """One worker executes 600 schedules of one second for minutes."""
    seconds = bench.times(300, 30)
    worker = bench.start().ready()
    ids = create(bench, 600, every=SECOND)
    used: list[Resources] = []
    logs: list[int] = []
    for moment in every(4.0, seconds):
        used.append(worker.resources())
        logs.append(bench.file.with_name("polos.db-wal").stat().st_size)
        bench.injections = round(moment) * len(ids)
    for id in ids:
        bench.pause(id)
    until(lambda: not runs.sync.list(bench.client, status=("queued", "running"), limit=1))
    for run, times in Counter(run for run, _ in light_runs(bench)).items():
        bench.verdict.expect("I1", times == 1, f"{run} was executed {times} times")
    third = max(1, len(used) // 3)
    # SQLite's caches are full after a minute or two.
    memory = 4 * MB if seconds >= 240 else 32 * MB
    grown(bench, summed(used[third : 2 * third]), summed(used[-third:]), memory)
    bench.verdict.expect("I9", max(logs) < LOG_MAX, f"a log of {max(logs)} bytes")
    bench.remarks.append(
        f"{seconds} s: memory {used[0].memory // MB} to {used[-1].memory // MB} MB, "
        f"{used[-1].threads} threads, {used[-1].files} descriptors; log of at most "
        f"{max(logs) / MB:.1f} MB; database of {bench.file.stat().st_size / MB:.1f} MB"
    )
    bench.finish(start_worker=False)


def every(period: float, seconds: float) -> Iterator[float]:
    """Yield regularly until some seconds are over."""
    begun = time.monotonic()
    while (passed := time.monotonic() - begun) < seconds:
        yield passed
        time.sleep(max(0.0, period - (time.monotonic() - begun - passed)))


def summed(used: list[Resources]) -> Resources:
    """Return the medians of some samples."""
    return Resources(
        round(median(each.memory for each in used)),
        max(each.files for each in used),
        max(each.threads for each in used),
    )


FAULTS: dict[str, Callable[[Bench], None]] = {
    "F31": f31,
    "F32": f32,
    "F49": f49,
}
