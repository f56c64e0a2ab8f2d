"""A run that ends its workers, and runs that sleep while their code is replaced."""

from __future__ import annotations

import functools

from oracle import Tally
from programs import Program

from harness import Bench, until
from polos import runs

TIMEOUT = 120.0

# The number of workers that one poison run may kill.
DEATHS_MAX = 6


def f51(bench: Bench) -> None:
    """A poison run beside healthy ones: few workers die, and only the poison run fails."""
    oracle = bench.folder / "deploys.txt"
    tally = Tally(oracle)
    worker = Program(bench, "versions.py", bench.database, oracle, "old").ready()
    healthy = {runs.sync.invoke(bench.client, "healthy").id for _ in range(100)}
    poison = runs.sync.invoke(bench.client, "poison").id

    def is_over() -> bool:
        ended = runs.sync.get(bench.client, poison).status == "failed"
        return ended and healthy <= tally.count("healthy").keys()

    def is_over_or_dead(worker: Program) -> bool:
        return is_over() or worker._process.poll() is not None

    deaths = 0
    for _ in range(DEATHS_MAX + 1):
        until(functools.partial(is_over_or_dead, worker), TIMEOUT)
        if is_over():
            break
        deaths += 1
        worker = Program(bench, "versions.py", bench.database, oracle, "old")
    verdict = bench.verdict
    verdict.expect("I4", deaths <= DEATHS_MAX, f"a poison run has killed {deaths} workers")
    for id in sorted(healthy):
        status = runs.sync.get(bench.client, id).status
        verdict.expect("I4", status == "succeeded", f"{id} is healthy, and {status}")
    error = runs.sync.get(bench.client, poison).error
    name = "" if error is None else error.type
    verdict.expect("I4", "InterruptedTooOften" in name, f"the poison run failed with {name!r}")
    bench.injections += deaths
    bench.remarks.append(f"one poison run beside {len(healthy)}: {deaths} workers died")


def f52(bench: Bench) -> None:
    """Runs sleep while old and new workers work: no step twice, one version for each run."""
    oracle = bench.folder / "deploys.txt"
    tally = Tally(oracle)
    for code in ("old", "old", "new"):
        Program(bench, "versions.py", bench.database, oracle, code).ready()
    wanted = {runs.sync.invoke(bench.client, "order").id for _ in range(bench.times(300, least=30))}
    ended: set[str] = set()

    def is_over() -> bool:
        ended.update(tally.count("old"), tally.count("new"))
        return wanted <= ended

    until(is_over, TIMEOUT)
    verdict = bench.verdict
    old, new = tally.count("old"), tally.count("new")
    for id in sorted(wanted):
        ends = old[id] + new[id]
        verdict.expect("I4", ends == 1, f"{id} has ended {ends} times")
        for step in ("charge", "ship"):
            count = tally.count(step)[id]
            verdict.expect("I3", count == 1, f"{id}: `{step}` was executed {count} times")
        labels = tally.count("label")[id]
        # A run that the old code completed never took the new path. A run that the new code
        # completed may have recorded `False`.
        verdict.expect("I3", labels <= new[id] <= 1, f"{id}: {labels} labels, {new[id]} new ends")
    bench.injections += len(wanted)
    bench.remarks.append(
        f"{len(wanted)} sleeping runs: {len(old)} completed by old code, {len(new)} by new code"
    )


FAULTS = {"F51": f51, "F52": f52}
