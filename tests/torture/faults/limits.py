"""Faults of workers whose workflows have limits: workers are killed and replaced."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

from checker import Line

from harness import Bench, WorkerProcess, until
from polos import limits

WORKERS = 4
LIMIT = 4
LEASE = 1.0
HOLD = 0.3

# An operator's value applies within a second, with a reserve. That it applies at all is checked on
# machines that are so busy that workers lose their leases.
TAKES_EFFECT = 1.0 + 2.0
TAKES_EFFECT_WHEN_STARVED = 60.0

EXPIRED = re.compile(r"pid (\d+)\) sent no heartbeat within its lease")

RATE = 10
PERIOD = timedelta(seconds=2)

# The number of queued runs: enough to keep every worker busy.
QUEUED = 3 * LIMIT


def fill(bench: Bench, workflow: str, limit: str) -> None:
    """Keep runs queued."""
    for _ in range(QUEUED - limits.sync.get(bench.client, limit).queued):
        bench.invoke(workflow)


def watch(bench: Bench, seconds: float, most: int) -> None:
    """I13: sample the runs in progress for some time; there are never more than the limit."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        fill(bench, "limited", "limited")
        running = limits.sync.get(bench.client, "limited").running
        text = f"{running} runs are in progress, of {most}"
        bench.verdict.expect("I13", running <= most, text)
        time.sleep(0.005)


def await_start(workers: Iterable[WorkerProcess]) -> None:
    """Wait until all workers are ready, since only a worker that has begun can be terminated."""
    for worker in workers:
        if not worker.is_ready:
            worker.ready()


def starved(bench: Bench, killed: Iterable[int]) -> set[int]:
    """Return the pids of workers that lost their leases although they lived.

    They had no processor for longer than a lease. Other workers have their runs and permits, and
    their handlers continue beside these until they notice.
    """
    logs = [path.read_text(errors="replace") for path in bench.folder.glob("worker-*.stderr")]
    return {int(pid) for log in logs for pid in EXPIRED.findall(log)}.difference(killed)


class Deaths:
    """Records when each process was killed."""

    def __init__(self) -> None:
        self.at: dict[int, float] = {}

    def kill(self, worker: WorkerProcess) -> None:
        worker.kill()
        self.at[worker.pid] = time.time()


def busy(bench: Bench, workers: list[WorkerProcess]) -> WorkerProcess:
    """Return a worker that executes runs, if there is one."""
    pids = {line.pid for line in bench.recorded_lines()[-LIMIT:]}
    return bench.random.choice([worker for worker in workers if worker.pid in pids] or workers)


def handlers(lines: Iterable[Line], deaths: dict[int, float]) -> list[tuple[float, int]]:
    """Return the number of handlers in progress from each change on."""
    changes: list[tuple[float, int]] = []
    own: Counter[int] = Counter()
    for line in lines:
        if line.step == "work":
            step = 1 if line.kind == "before" else -1
            own[line.pid] += step
            changes.append((line.time, step))
    changes += [(at, -own[pid]) for pid, at in deaths.items() if own[pid]]
    count, counts = 0, []
    for at, step in sorted(changes):
        count += step
        counts.append((at, count))
    return counts


def longest_below(
    counts: list[tuple[float, int]], deaths: Iterable[float], limit: int, since: float, until: float
) -> float:
    """Return the longest time with fewer handlers than the limit, after the last kill in it."""
    longest, full = 0.0, since
    for (at, count), (after, _) in zip(counts, [*counts[1:], (until, 0)], strict=True):
        if count >= limit and at < until and after > since:
            longest = max(longest, at - max([full, *(death for death in deaths if death < at)]))
            full = max(full, after)
    return max(longest, until - max([full, *(death for death in deaths if death < until)]))


def f75(bench: Bench) -> None:
    """Four workers share a limit, and random ones are killed.

    There are never more runs than the limit, and as many again within a lease and a second.
    """
    bench.ticks = 0
    options = ("--lease", LEASE, "--limit", LIMIT, "--hold", HOLD)
    workers = [bench.start(*options) for _ in range(WORKERS)]
    for worker in workers:
        worker.ready()
    deaths = Deaths()
    fill(bench, "limited", "limited")
    watch(bench, 0.5, LIMIT)
    since = time.time()
    for _ in range(bench.times(100, 4)):
        watch(bench, bench.random.uniform(0.1, 2.0 * LEASE), LIMIT)
        victim = busy(bench, workers)
        workers.remove(victim)
        deaths.kill(victim)
        workers.append(bench.start(*options))
        bench.injections += 1
    watch(bench, LEASE + 1.0, LIMIT)
    ended = time.time()
    await_start(workers)
    bench.finish(LEASE, start_worker=False)
    if pids := starved(bench, deaths.at):
        bench.remarks.append(f"handlers not counted: {len(pids)} living workers lost their leases")
        return
    counts = handlers(bench.recorded_lines(), deaths.at)
    most = max(count for _, count in counts)
    bench.verdict.expect("I13", most <= LIMIT, f"{most} handlers at once, of {LIMIT}")
    below = longest_below(counts, list(deaths.at.values()), LIMIT, since, ended)
    text = f"fewer than {LIMIT} handlers for {below:.2f} s, with work queued"
    bench.verdict.expect("I13", below <= LEASE + 1.0, text)
    bench.remarks.append(
        f"{len(counts) // 2:,} runs under a limit of {LIMIT}; fewer than that in progress for at "
        f"most {below:.2f} s (lease {LEASE:g} s)"
    )


def f75b(bench: Bench) -> None:
    """An operator changes a limit while workers are killed and replaced.

    The value applies within a second, and no starting worker restores the declared one.
    """
    bench.ticks = 0
    options = ("--lease", LEASE, "--limit", LIMIT, "--hold", HOLD)
    workers = [bench.start(*options) for _ in range(2)]
    for worker in workers:
        worker.ready()
    slowest = 0.0
    killed: set[int] = set()
    for number in range(bench.times(50, 3)):
        value = (2 * LIMIT, 1, LIMIT)[number % 3]
        limits.sync.set(bench.client, "limited", value)
        begun = time.monotonic()
        if number % 2:
            victim = workers.pop(0)
            killed.add(victim.pid)
            victim.kill()
            workers.append(bench.start(*options).ready())
            begun = time.monotonic()

        def is_reached(value: int = value) -> bool:
            fill(bench, "limited", "limited")
            return limits.sync.get(bench.client, "limited").running == value

        limit = LEASE + HOLD + TAKES_EFFECT
        is_applied = until(is_reached, limit)
        if not is_applied and starved(bench, killed):
            is_applied = until(is_reached, TAKES_EFFECT_WHEN_STARVED)
        bench.verdict.expect(
            "I13", is_applied, f"{value} runs are allowed, but fewer are in progress"
        )
        slowest = max(slowest, time.monotonic() - begun)
        found = limits.sync.get(bench.client, "limited")
        text = f"an operator set {value}: {found}"
        bench.verdict.expect("I13", found.max == value and found.overridden, text)
        bench.injections += 1
    bench.remarks.append(f"as many runs as allowed within {slowest:.2f} s of a change")
    bench.finish(LEASE, start_worker=False)


def f76(bench: Bench) -> None:
    """Four workers share a rate, and random ones are killed: no period has more first claims."""
    bench.ticks = 0
    options = ("--lease", LEASE, "--rate", RATE, "--per", PERIOD.total_seconds())
    workers = [bench.start(*options) for _ in range(WORKERS)]
    for worker in workers:
        worker.ready()
    for _ in range(bench.times(50, 3)):
        deadline = time.monotonic() + bench.random.uniform(0.5, 2.0)
        while time.monotonic() < deadline:
            for _ in range(2 * RATE - limits.sync.get(bench.client, "paced").queued):
                bench.invoke("paced")
            time.sleep(0.02)
        victim = bench.random.choice(workers)
        workers.remove(victim)
        victim.kill()
        workers.append(bench.start(*options))
        bench.injections += 1
    await_start(workers)
    found, _ = bench.finish(LEASE, start_worker=False)
    check_rate(bench, [run.started_at for run in found if run.started_at is not None])


def check_rate(bench: Bench, claimed: list[datetime]) -> None:
    """I13: no period, wherever it begins, has more first claims than the rate allows."""
    claimed.sort()
    for first, beyond in zip(claimed, claimed[RATE:], strict=False):
        text = f"{RATE + 1} runs were claimed within {beyond - first} from {first}"
        bench.verdict.expect("I13", beyond - first >= PERIOD, text)
    periods = (claimed[-1] - claimed[0]) / PERIOD
    bench.remarks.append(f"{len(claimed):,} runs in {periods:.1f} periods, at most {RATE} in each")


FAULTS: dict[str, Callable[[Bench], None]] = {
    "F75": f75,
    "F75b": f75b,
    "F76": f76,
}
