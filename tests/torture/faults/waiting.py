"""Faults of waiting: runs wait for other runs or for the database, and workers end meanwhile."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from proxy import Proxy
from servers import FAST, IMMEDIATE, ServerFactory

from harness import APPS, PYTHONPATH, UNBUFFERED, Bench, until
from polos import PolosClient, StoreUnavailableError, runs, workers

LEASE = 2.0
DRAIN = 0.5

# 5 s are promised; a busy machine needs more.
ENDS = DRAIN + 5.0 + 3.0
AT_ONCE = 1.0 + 3.0

# The number of leaves of a run of each kind and level.
KINDS: dict[str, Callable[[int], int]] = {
    "async-step": lambda level: 1,
    "async-gather": lambda level: 2**level,
    "async-handle": lambda level: 1,
    "sync-step": lambda level: 1,
    "sync-handle": lambda level: 1,
    "sync-in-step": lambda level: 1,
}
DEPTH = 3


class Parents:
    """A process of the program `waiting_parents.py`."""

    def __init__(self, bench: Bench, number: int, database: Path | str, **options: object) -> None:
        self.errors = bench.folder / f"parents-{number}.stderr"
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        command = [sys.executable, "-W", "ignore", str(APPS / "waiting_parents.py")]
        with self.errors.open("w") as errors:
            self.process = subprocess.Popen(
                [*command, str(database), str(bench.oracle), "--lease", str(LEASE), *words],
                env={**os.environ, **UNBUFFERED, "PYTHONPATH": PYTHONPATH},
                stderr=errors,
            )

    def wait_until_working(self, client: PolosClient) -> None:
        """Wait until it has registered."""

        def is_known() -> bool:
            with suppress(StoreUnavailableError):
                return any(found.pid == self.process.pid for found in workers.sync.list(client))
            return False

        if not until(is_known):
            raise AssertionError(f"a worker doesn't start: {self.errors.read_text()[-2000:]}")

    def ends(self, seconds: float) -> float | None:
        """Return how long it takes to end; ``None`` if it doesn't end in time."""
        begun = time.monotonic()
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
        return time.monotonic() - begun

    def dispose(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def invoked(client: PolosClient, source: random.Random, key: str) -> tuple[str, int]:
    """Start a run of a random kind and level; return its id and the number of its leaves.

    The request is repeated until it is acknowledged.
    """
    kind = source.choice(sorted(KINDS))
    level = source.randint(1, DEPTH)

    def asked() -> str | None:
        with suppress(StoreUnavailableError):
            return runs.sync.invoke(client, kind, level, idempotency_key=key).id
        return None

    id = until(asked)
    assert id is not None, "the client is not served"
    return str(id), KINDS[kind](level)


def check_runs(bench: Bench, client: PolosClient, asked: dict[str, int]) -> None:
    """I3, I4: all runs succeed at their first attempt, and each leaf is executed once."""

    def ended() -> bool:
        with suppress(StoreUnavailableError):
            return not runs.sync.list(
                client, status=("queued", "running", "waiting"), limit=1, brief=True
            )
        return False

    bench.verdict.expect("I4", until(ended), "some runs don't complete")
    for id, leaves in asked.items():
        run: Any = runs.sync.get(client, id)
        text = f"{id} of {run.workflow}: {run.status}, attempt {run.attempt}, {run.error}"
        bench.verdict.expect("I4", run.status == "succeeded" and run.attempt == 1, text)
        bench.verdict.expect("I2", run.result == leaves, f"{id}: {run.result} of {leaves} leaves")
    failed = runs.sync.list(client, status="failed", limit=1)
    bench.verdict.expect("I7", not failed, f"an outage made {failed} fail")


def f61(bench: Bench) -> None:
    """Runs wait for runs on two workers with few permits and threads: all complete."""
    limits = [(threads, permits) for threads in (1, 2, 4) for permits in (1, 2, 4)]
    bench.random.shuffle(limits)
    asked: dict[str, int] = {}
    for number, (threads, permits) in enumerate(limits[: bench.times(len(limits), 2)]):
        parents = [
            Parents(bench, 2 * number + n, bench.database, threads=threads, concurrency=permits)
            for n in range(2)
        ]
        try:
            for one in parents:
                one.wait_until_working(bench.client)
            for _ in range(bench.times(200, 20)):
                id, leaves = invoked(bench.client, bench.random, f"key-{len(asked)}")
                asked[id] = leaves
                bench.injections += 1
            check_runs(bench, bench.client, asked)
        finally:
            for one in parents:
                one.dispose()


def f62(bench: Bench) -> None:
    """The server fails while runs wait for runs: restarted, silent, or out of connections."""
    with ServerFactory() as servers:
        server = servers.server(max_connections=20)
        proxy = Proxy(server.port)
        parents = Parents(bench, 0, proxy.url, threads=2, concurrency=8)
        client = PolosClient(server.url)
        asked: dict[str, int] = {}
        try:
            parents.wait_until_working(client)
            for number in range(bench.times(40, 3)):
                for _ in range(20):
                    id, leaves = invoked(client, bench.random, f"key-{len(asked)}")
                    asked[id] = leaves
                time.sleep(bench.random.uniform(0.0, 0.2))
                way = ("restart", "silence", "connections")[number % 3]
                if way == "restart":
                    server.stop((FAST, IMMEDIATE)[bench.random.randrange(2)])
                    time.sleep(bench.random.uniform(0.0, 2.5))
                    server.start()
                elif way == "silence":
                    proxy.swallow()
                    time.sleep(bench.random.uniform(0.0, 2.5))
                    proxy.flow()
                else:
                    others = [PolosClient(server.url) for _ in range(20)]
                    proxy.cut_all()
                    for other in others:
                        with suppress(StoreUnavailableError):
                            runs.sync.list(other, limit=1)
                    time.sleep(bench.random.uniform(0.0, 2.5))
                    for other in others:
                        other.close()
                bench.injections += 1
            check_runs(bench, client, asked)
            alive = parents.process.poll() is None
            bench.verdict.expect("I7", alive, f"the worker ended: {parents.errors.read_text()}")
        finally:
            parents.dispose()
            client.close()
            proxy.close()


def f63(bench: Bench) -> None:
    """The server hangs for good, and the worker is terminated by one or two signals."""
    with ServerFactory() as servers:
        server = servers.server()
        client = PolosClient(server.url)
        slowest = {1: 0.0, 2: 0.0}
        try:
            for number in range(bench.times(40, 2)):
                times = 1 + number % 2
                proxy = Proxy(server.port)
                drain = DRAIN if times == 1 else 600
                parents = Parents(bench, number, proxy.url, drain=drain, threads=2, concurrency=4)
                try:
                    parents.wait_until_working(client)
                    for n in range(10):
                        invoked(client, bench.random, f"key-{number}-{n}")
                    time.sleep(bench.random.uniform(0.0, 0.2))
                    proxy.swallow()
                    time.sleep(bench.random.uniform(0.0, 1.0))
                    for name in (signal.SIGTERM, signal.SIGINT)[:times]:
                        parents.process.send_signal(name)
                    took = parents.ends(ENDS if times == 1 else AT_ONCE)
                    text = f"it survives {times} signals"
                    bench.verdict.expect("I11", took is not None, text)
                    slowest[times] = max(slowest[times], took or 0.0)
                    output = parents.errors.read_text()
                    is_logged = "could not deregister" in output or "hangs while it stops" in output
                    bench.verdict.expect(
                        "I12", is_logged, f"it logs nothing about it: {output[-500:]}"
                    )
                    bench.injections += 1
                finally:
                    parents.dispose()
                    proxy.close()
            # What was not released is freed when the lease expires.
            last = Parents(bench, 1_000, server.url)
            try:
                check_runs(bench, client, {})
            finally:
                last.dispose()
        finally:
            client.close()
        bench.remarks.append(
            f"it ended at most {slowest[1]:.1f} s after one signal, {slowest[2]:.1f} s after two"
        )


FAULTS: dict[str, Callable[[Bench], None]] = {
    "F61": f61,
    "F62": f62,
    "F63": f63,
}
