"""Faults of the file: no space, damage."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable

from harness import LATE, Bench, now, until

from polos import schedules


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
        bench.verdict.expect("I4", bench.succeeds(last, 30), "it doesn't recover")
        bench.injections += 1
    said = life.errors.read_text()
    bench.verdict.expect("I12", "full" in said or "database" in said, "nothing was said about it")
    bench.finish(helper=False)


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
        bench.comes_due(victim, now() - LATE)
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
        goes_on = bench.comes_due(healthy, now())
        bench.verdict.expect("I7", goes_on, f"beside {what} another stands still")
        if number >= 12:
            bench.pause(healthy)
    bench.finish(2.0, helper=False)


FAULTS: dict[str, Callable[[Bench], None]] = {
    "F20": f20,
    "F33": f33,
}
