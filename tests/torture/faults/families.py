"""Parents and their children on different workers, without any other fault."""

from __future__ import annotations

import time

from oracle import Tally
from programs import Program

from harness import Bench, until
from polos import runs

# The number of parents at full scale, and the number that wait at the same time.
PARENTS = 3_000
AT_ONCE = 60

# One of this many parents is cancelled, perhaps while it waits.
CANCELLED_EVERY = 10

TIMEOUT = 60.0


def f50(bench: Bench) -> None:
    """Each parent gets the results of its children, which other workers execute."""
    oracle = bench.folder / "families.txt"
    for part in ("parents", "children") * 2:
        Program(bench, "parents_and_children.py", bench.database, oracle, part).ready()
    tally = Tally(oracle)
    verdict = bench.verdict
    begun = time.monotonic()
    wanted: set[str] = set()
    cancelled: set[str] = set()
    for number in range(bench.times(PARENTS, least=AT_ONCE)):
        id = runs.sync.invoke(bench.client, "parent").id
        wanted.add(id)
        if number % CANCELLED_EVERY == 0:
            # The run exists: any error ends this fault.
            runs.sync.cancel(bench.client, id)
            cancelled.add(id)
            wanted.discard(id)
        until(lambda: len(wanted - tally.count("parent").keys()) < AT_ONCE, TIMEOUT)
    until(lambda: wanted <= tally.count("parent").keys(), TIMEOUT)
    ended, children = tally.count("parent"), tally.count("child")
    for id in sorted(wanted):
        text = f"{id} waits: its children returned {children[id]} times, and it got no result"
        verdict.expect("I4", ended[id] >= 1, text)
        verdict.expect("I3", children[id] == 2, f"{id} has {children[id]} children, not 2")
    for id in sorted(cancelled):
        status = runs.sync.get(bench.client, id).status
        verdict.expect("I4", status in ("cancelled", "succeeded"), f"{id} was cancelled: {status}")
    bench.injections += len(wanted) + len(cancelled)
    seconds = time.monotonic() - begun
    bench.remarks.append(f"{len(wanted)} families in {seconds:.0f} s, {len(cancelled)} cancelled")


FAULTS = {"F50": f50}
