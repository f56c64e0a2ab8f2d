"""Events and debounced calls: one process sends them while workers are killed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from programs import Program

from harness import Bench, until
from polos import runs

LEASE = 2.0

# At full scale: runs that wait, debounced calls, and kills of a worker.
WAITS = 300
CALLS = 3_000

# Seconds until a worker is killed.
LIFE = (0.2, 1.0)


def oracle_lines(oracle: Path) -> dict[str, list[list[str]]]:
    """Return the lines of an oracle by their first word, in order."""
    lines: dict[str, list[list[str]]] = defaultdict(list)
    if oracle.exists():
        for line in oracle.read_text().splitlines():
            kind, *words = line.split(" ")
            lines[kind].append(words)
    return lines


def under_kills(bench: Bench, count: int, part: str) -> dict[str, list[list[str]]]:
    """Send while two workers are killed in turn; return what was recorded until all runs ended."""
    oracle = bench.folder / "events.txt"
    workers = [worker(bench, oracle) for _ in range(2)]
    arguments = (bench.database, oracle, bench.random.randrange(10**6), count, part)
    sender = Program(bench, "event_sender.py", *arguments)
    while sender.is_alive():
        lives_for = bench.random.uniform(*LIFE)
        until(lambda: not sender.is_alive(), lives_for)
        place = bench.injections % 2
        workers[place].kill()
        workers[place] = worker(bench, oracle)
        bench.injections += 1
    sender.ends(0)

    def has_ended() -> bool:
        return not runs.sync.list(bench.client, status=("queued", "running", "waiting"), limit=1)

    bench.verdict.expect("I4", until(has_ended), "some runs never end")
    return oracle_lines(oracle)


def worker(bench: Bench, oracle: Path) -> Program:
    return Program(bench, "event_worker.py", bench.database, oracle, LEASE).ready()


def f71(bench: Bench) -> None:
    """Each wait gets the accepted event, or nothing, whatever is killed."""
    recorded = under_kills(bench, bench.times(WAITS, 8), "events")
    verdict = bench.verdict
    accepted: dict[tuple[str, str], set[str]] = defaultdict(set)
    for run, name, value in recorded["accepted"]:
        accepted[run, name].add(value)
    got: dict[tuple[str, str], set[str]] = defaultdict(set)
    for run, name, value in recorded["got"]:
        got[run, name].add(value)
    for place, values in accepted.items():
        verdict.expect("I3", len(values) == 1, f"{place}: {values} were accepted")
    for run, name, value in recorded["refused"]:
        is_other = value not in accepted[run, name]
        verdict.expect("I3", is_other, f"{run}, {name}: {value} was accepted, then refused")
    for place, values in got.items():
        expected = accepted[place] or {"None"}
        verdict.expect("I2", values == expected, f"{place} got {values}, accepted: {expected}")
    for run in {run for run, _ in got}:
        found = runs.sync.get(bench.client, run)
        text = f"{run}: {found.status}, attempt {found.attempt}, {found.error}"
        verdict.expect("I4", found.status == "succeeded" and found.attempt == 1, text)
    bench.remarks.append(
        f"{len(recorded['accepted'])} events accepted, {len(recorded['refused'])} refused, "
        f"{sum(value == 'None' for *_, value in recorded['got'])} waits timed out"
    )


def f72(bench: Bench) -> None:
    """The run that debounced calls share executes with the payload of the last call."""
    recorded = under_kills(bench, bench.times(CALLS, 100), "calls")
    verdict = bench.verdict
    last = {run: number for run, _, number in recorded["called"]}
    indexed: dict[str, set[str]] = defaultdict(set)
    for run, _, number in recorded["indexed"]:
        indexed[run].add(number)
    for run, number in last.items():
        verdict.expect("I2", indexed[run] == {number}, f"{run}: {indexed[run]} of call {number}")
        found = runs.sync.get(bench.client, run)
        verdict.expect("I4", found.status == "succeeded", f"{run}: {found.status}, {found.error}")
    verdict.expect("I3", set(indexed) == set(last), f"runs of no call: {set(indexed) - set(last)}")
    bench.remarks.append(f"{len(recorded['called'])} calls became {len(last)} runs")


FAULTS: dict[str, Callable[[Bench], None]] = {"F71": f71, "F72": f72}
