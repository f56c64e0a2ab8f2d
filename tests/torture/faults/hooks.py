"""Faults of hooks: workers are killed around outcomes, and while they call hooks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from checker import check_hook_calls
from programs import Program

from harness import Bench, until
from polos import runs

LEASE = 2.0

# At full scale, and the minimum with which hooks of both outcomes kill their processes.
RUNS = 1_000
LEAST = 12

# Seconds until a worker is killed from outside.
LIFE = (0.1, 0.8)


def worker(bench: Bench, oracle: Path) -> Program:
    return Program(bench, "hook_worker.py", bench.database, oracle, LEASE).ready()


def f73(bench: Bench) -> None:
    """Each hook is called once, and again only if the process that called it died."""
    oracle = bench.folder / "hooks.txt"
    workers = [worker(bench, oracle) for _ in range(2)]
    killed: set[str] = set()
    invoked: list[str] = []

    def replace(place: int) -> None:
        killed.add(str(workers[place].pid))
        workers[place].kill()
        workers[place] = worker(bench, oracle)
        bench.injections += 1

    def invoke(dies: str) -> None:
        number = len(invoked)
        payload = {"fails": number % 2 == 1}
        key = f"{dies} {number}"
        invoked.append(runs.sync.invoke(bench.client, "act", payload, key=key).id)

    def lines() -> list[list[str]]:
        text = oracle.read_text() if oracle.exists() else ""
        return [line.split(" ")[1:] for line in text.splitlines()]

    def all_are_called() -> bool:
        for place in range(len(workers)):
            if not workers[place].is_alive():
                replace(place)
        return {run for _, run, _ in lines()} >= set(invoked)

    dying = ["never", "never", "before", "never", "never", "after"]
    for number in range(bench.times(RUNS, LEAST)):
        # Twice each: for a run that succeeds and for one that fails.
        invoke(dying[number // 2 % len(dying)])
        if number % 6 == 5:
            until(all_are_called, bench.random.uniform(*LIFE))
            replace(bench.random.randrange(2))
    bench.verdict.expect("I4", until(all_are_called), "some hooks are never called")
    # Nothing is killed any more: each of these hooks is called once.
    for _ in range(bench.times(RUNS, LEAST)):
        invoke("never")
    bench.verdict.expect("I4", until(all_are_called), "some hooks are never called")
    for process in workers:
        process.term()
    found = [runs.sync.get(bench.client, run) for run in invoked]
    check_hook_calls(bench.verdict, found, lines(), killed)
    bench.remarks.append(f"{len(invoked)} outcomes, {len(lines())} calls of hooks")


FAULTS: dict[str, Callable[[Bench], None]] = {"F73": f73}
