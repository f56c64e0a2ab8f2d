"""Faults of steps in separate processes, and of several workers of one command."""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

from apps.process_steps import STEPS
from oracle import Tally
from programs import Command, Program

from harness import APPS, PYTHONPATH, UNBUFFERED, Bench, until
from polos import runs

ROUNDS = 20


class Processes:
    """The processes that an oracle names."""

    def __init__(self, path: Path) -> None:
        self._tally = Tally(path)

    def of(self, kind: str) -> set[int]:
        return {int(pid) for pid in self._tally.count(kind)}

    def is_done(self, step: str) -> bool:
        return self._tally.count("done")[step] >= 1

    def alive(self, kind: str) -> list[int]:
        return sorted(pid for pid in self.of(kind) if is_alive(pid))


def is_alive(pid: int) -> bool:
    """Return whether a process exists, isn't a zombie, and belongs to this application."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        program = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return state not in "ZX" and b"polos" in program


def invoked(bench: Bench, rounds: int = ROUNDS) -> str:
    return runs.sync.invoke(bench.client, "isolated", rounds).id


def has_started(bench: Bench, id: str) -> bool:
    return bench.status(id) != "queued"


def check_end(bench: Bench, ids: list[str], processes: Processes) -> None:
    """Expect that every run has its result, every step was executed, and no process is left."""
    verdict = bench.verdict
    until(lambda: all(bench.status(id) == "succeeded" for id in ids))
    for id in ids:
        run = runs.sync.get(bench.client, id)
        verdict.expect("I4", run.status == "succeeded", f"{id} is {run.status}: {run.error}")
        verdict.expect("I4", run.result == STEPS * ROUNDS, f"{id} has the result {run.result}")
        for number in range(STEPS):
            is_done = processes.is_done(f"{id}:step-{number}")
            verdict.expect("I3", is_done, f"step {number} of {id} has a result without execution")


def expect_none_left(bench: Bench, processes: Processes, kind: str) -> None:
    """Expect that no process outlives its parent."""
    until(lambda: not processes.alive(kind), 20)
    left = processes.alive(kind)
    bench.verdict.expect("I11", not left, f"processes of kind {kind} are left: {left}")


def f64(bench: Bench) -> None:
    """Workers and the processes of their steps are killed by SIGKILL."""
    oracle = bench.folder / "isolated.txt"
    processes = Processes(oracle)
    ids: list[str] = []
    for _ in range(bench.times(200, 3)):
        worker = Program(bench, "process_steps.py", bench.database, oracle)
        ids += [invoked(bench) for _ in range(3)]
        worker.ready()
        deadline = time.monotonic() + bench.random.uniform(0.3, 3.0)
        while time.monotonic() < deadline:
            time.sleep(bench.random.uniform(0.01, 0.2))
            running = processes.alive("process")
            if running and bench.random.random() < 0.5:
                with suppress(ProcessLookupError):
                    os.kill(bench.random.choice(running), signal.SIGKILL)
                bench.injections += 1
        worker.kill()
        bench.injections += 1
        expect_none_left(bench, processes, "process")
    last = Program(bench, "process_steps.py", bench.database, oracle).ready()
    check_end(bench, ids, processes)
    last.kill()
    expect_none_left(bench, processes, "process")
    bench.remarks.append(f"{len(ids)} runs, {len(processes.of('process'))} processes")


def f65(bench: Bench) -> None:
    """Workers of ``polos run --workers 3``, and the command itself, are killed by SIGKILL."""
    oracle = bench.folder / "several.txt"
    processes = Processes(oracle)
    ids: list[str] = []

    def start() -> Command:
        return Command(
            bench, sys.executable, "-m", "polos", "run", str(APPS / "process_steps.py"),
            "--workers", "3", "--database", str(bench.database),
            env={**UNBUFFERED, "PYTHONPATH": PYTHONPATH, "ORACLE": str(oracle)},
        )  # fmt: skip

    command = start()
    for number in range(bench.times(100, 4)):
        ids += [invoked(bench) for _ in range(3)]
        until(partial(has_started, bench, ids[-1]))
        time.sleep(bench.random.uniform(0.0, 0.5))
        bench.injections += 1
        if number % 4 == 3:
            # The command itself is killed; its workers end with it.
            command.kill()
            expect_none_left(bench, processes, "worker")
            expect_none_left(bench, processes, "process")
            command = start()
        elif workers := processes.alive("worker"):
            with suppress(ProcessLookupError):
                os.kill(bench.random.choice(workers), signal.SIGKILL)
    check_end(bench, ids, processes)
    # The last command may have started after all runs had ended. Until it handles signals, SIGTERM
    # kills it.
    is_ready = until(lambda: "3 workers running" in command.errors.read_text())
    bench.verdict.expect("I7", is_ready, "its workers don't start")
    took = command.term(timeout=20.0)
    expect_none_left(bench, processes, "worker")
    expect_none_left(bench, processes, "process")
    output = f"{len(ids)} runs, {len(processes.of('worker'))} workers, ended in {took:.1f} s"
    bench.remarks.append(output)


FAULTS = {"F64": f64, "F65": f65}
