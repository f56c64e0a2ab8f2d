"""Faults of a Patroni cluster: three nodes and the workers, each on its own host."""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from checker import Line
from cluster import FAILOVER, BaselineClient, Cluster, Node, longest
from faults.server import LEASE, TROUBLE, RetryingClient, bench_on, held_by, says, start_load
from network import Host, Network

from harness import Bench, WorkerProcess, check_takeover, until
from polos import LedgerEntry, Run

# The longest gap in ticks in excess of the gap that the baseline client sees.
LONGEST = 15.0

Finished = tuple[list[Run], dict[str, list[LedgerEntry]]]


@dataclass
class ClusterSetup:
    """The cluster, two workers on their own hosts, and a client."""

    network: Network
    cluster: Cluster
    bench: Bench
    hosts: list[Host]
    workers: list[WorkerProcess]
    requester: RetryingClient
    watch: BaselineClient

    def after(self, what: str, since: float) -> None:
        """Wait until everything continues after a fault; check the gap in ticks."""
        self.requester.wait_until_working(*self.workers)
        self.all_tick()
        away = self.watch.away(since)
        none, one = gaps(self.bench, since)
        found = (
            f"{what}: no tick for {none:.1f} s, none of the slowest schedule for {one:.1f} s; "
            f"psql couldn't commit for {away:.1f} s"
        )
        self.bench.remarks.append(found)
        self.bench.verdict.expect("I7", one - away <= LONGEST, found)
        self.bench.injections += 1

    def all_tick(self) -> None:
        """I7: wait until each schedule has ticked again, according to the oracle."""
        now = time.time()
        known = set(ticks(self.bench))

        def ticking() -> set[str]:
            return {name for name, times in ticks(self.bench).items() if times[-1] > now}

        until(lambda: known <= ticking(), FAILOVER)
        silent = known - ticking()
        self.bench.verdict.expect("I7", not silent, f"schedules without a tick: {silent}")

    def finish(self, *, check_oracle: bool = True) -> Finished:
        """Check everything at the end."""
        check_trouble(self.bench, self.workers)
        self.requester.check()
        if check_oracle:
            check_slots_outside(self.bench)
        return self.bench.finish(LEASE, check_oracle=check_oracle)


@contextmanager
def cluster_setup(bench: Bench, *, is_synchronous: bool = True) -> Iterator[ClusterSetup]:
    """Start a cluster, and workers that know all three nodes."""
    with (
        Network() as network,
        Cluster(network, bench.folder, is_synchronous=is_synchronous) as cluster,
    ):
        cluster.wait_until_healthy()
        watch = BaselineClient(cluster)
        try:
            with bench_on(bench, cluster.url) as part:
                hosts = [network.host(name) for name in ("w1", "w2")]
                workers = [
                    part.start("--lease", LEASE, before=host.before).ready() for host in hosts
                ]
                part.create_digests()
                requester = RetryingClient(part, FAILOVER)
                requester.wait_until_working(*workers)
                yield ClusterSetup(network, cluster, part, hosts, workers, requester, watch)
        finally:
            watch.close()


def payloads(bench: Bench) -> Iterator[tuple[Line, str, str]]:
    """Yield the lines of started scheduled handlers, with schedule and slot."""
    for line in bench.recorded_lines():
        if line.kind == "payload":
            slot, *_, schedule, _ = line.token.split("/")
            yield line, schedule, slot


def ticks(bench: Bench) -> dict[str, list[float]]:
    """Return when the handlers of each schedule started."""
    times: dict[str, list[float]] = defaultdict(list)
    for line, schedule, _ in payloads(bench):
        times[schedule].append(line.time)
    return times


def gaps(bench: Bench, since: float) -> tuple[float, float]:
    """Return the longest time without any tick, and without a tick of one schedule."""
    of_each = ticks(bench)
    every = [at for times in of_each.values() for at in times]
    return longest(every, since), max(longest(times, since) for times in of_each.values())


def check_slots_outside(bench: Bench) -> None:
    """I1 by the oracle alone: at most one run was executed for each slot."""
    runs: dict[tuple[str, str], set[str]] = defaultdict(set)
    for line, schedule, slot in payloads(bench):
        runs[schedule, slot].add(line.run)
    for place, ids in runs.items():
        bench.verdict.expect("I1", len(ids) == 1, f"slot {place} was executed as {ids}")


def check_trouble(bench: Bench, workers: list[WorkerProcess]) -> None:
    """I12: each outage is logged, but not repeatedly."""
    for worker in workers:
        times = worker.errors.read_text().count(TROUBLE)
        text = f"{bench.injections} faults were logged {times} times"
        bench.verdict.expect("I12", times <= 2 * bench.injections, text)


@contextmanager
def asking(requester: RetryingClient) -> Iterator[None]:
    """Start a run during the fault; retry until there is an answer."""
    thread = threading.Thread(target=requester.invoke)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def repeatedly(
    bench: Bench, what: str, full: int, fault: Callable[[ClusterSetup, Node], None]
) -> None:
    """Inject faults of the primary under load; another node becomes the primary."""
    with cluster_setup(bench) as setup:
        for _ in range(bench.times(full)):
            setup.cluster.wait_until_healthy()
            start_load(setup.bench, setup.requester)
            primary = setup.cluster.primary()
            since = time.time()
            with asking(setup.requester):
                fault(setup, primary)
            setup.after(what, since)
            setup.network.reconnect()
            if not primary.host.processes():
                setup.cluster.start(primary)
        setup.cluster.wait_until_healthy()
        setup.requester.wait_until_working(*setup.workers)
        setup.finish()


def f60(bench: Bench) -> None:
    """An operator switches over."""

    def switch_over(setup: ClusterSetup, primary: Node) -> None:
        setup.cluster.switch_over(setup.cluster.synchronous_standby())

    repeatedly(bench, "switchover", 5, switch_over)


def f60b(bench: Bench) -> None:
    """All processes of the primary's host are killed; connections to it are refused."""

    def kill(setup: ClusterSetup, primary: Node) -> None:
        primary.host.kill_all()

    repeatedly(bench, "killed", 5, kill)


def f60c(bench: Bench) -> None:
    """The primary's host disappears: no packet comes or goes."""

    def silence(setup: ClusterSetup, primary: Node) -> None:
        primary.host.disconnect()
        primary.host.kill_all()

    repeatedly(bench, "host silent", 5, silence)


def f60d(bench: Bench) -> None:
    """The primary is isolated, alone or together with one of the workers."""
    numbers = iter(range(1_000_000))

    def separate(setup: ClusterSetup, primary: Node) -> None:
        primary.host.connect("other")
        if next(numbers) % 2:
            setup.hosts[0].connect("other")
            # It must not serve this worker any more once another node has taken over.
            until(lambda: setup.cluster.primary_or_none(), FAILOVER)
            setup.hosts[0].connect()

    repeatedly(bench, "partitioned primary", 6, separate)


def f60e(bench: Bench) -> None:
    """A worker is isolated for three leases, then connected again."""
    with cluster_setup(bench) as setup:
        near = setup.workers[1]
        for _ in range(bench.times(5)):
            far = setup.bench.start(
                *("--lease", LEASE, "--hold", 3.5 * LEASE), before=setup.hosts[0].before
            ).ready()
            job = held_by(setup.bench, setup.requester, far)
            since = time.time()
            setup.hosts[0].disconnect()
            check_takeover(setup.bench, job, since, LEASE * 2 / 3 - 0.1, LEASE + 1)
            setup.hosts[0].connect()
            setup.after("partitioned worker", since)
            late = [line for line in setup.bench.lines("ack", job, "b") if line.pid == far.pid]
            setup.bench.verdict.expect("I5", not late, f"{job}: a late result: {late}")
            setup.requester.wait_until_working(near, far)
            far.term()
        setup.finish()


def f60f(bench: Bench) -> None:
    """Without synchronous replication, a copy that is some seconds old becomes the primary."""
    with cluster_setup(bench, is_synchronous=False) as setup:
        cluster, part, requester = setup.cluster, setup.bench, setup.requester
        lost = 0
        for _ in range(bench.times(3)):
            cluster.wait_until_healthy()
            primary = cluster.primary()
            old, other = cluster.others(primary)
            old.host.disconnect()
            time.sleep(part.random.uniform(2.0, 5.0))
            keys = set(requester.asked)
            forgotten = [id for id in (requester.invoke() for _ in range(5)) if id is not None]
            until(partial(are_done, requester, forgotten), FAILOVER)
            since = time.time()
            for node in (primary, other):
                cluster.kill_server(node)
            old.host.connect()
            setup.after("old copy promoted", since)
            part.verdict.expect(
                "I12", cluster.primary() == old, "another node than the old copy was promoted"
            )
            part.jobs -= set(forgotten)
            requester.asked = {key: requester.asked[key] for key in requester.asked if key in keys}
            lost += sum(not exists(setup, id) for id in forgotten)
            for node in (primary, other):
                cluster.start_program(node, "patroni")
        cluster.wait_until_healthy()
        for worker in setup.workers:
            is_logged = until(partial(says, worker, part.injections), FAILOVER)
            part.verdict.expect(
                "I12", is_logged, "the worker doesn't log that the database went back"
            )
        part.verdict.expect("I12", lost, "nothing was lost: the copy was up to date")
        executed = {(line.run, schedule, slot) for line, schedule, slot in payloads(part)}
        found, _ = setup.finish(check_oracle=False)
        known = {run.id for run in found}
        slots = Counter((schedule, slot) for _, schedule, slot in executed)
        unknown = sum(run not in known for run, _, _ in executed)
        part.remarks.append(
            f"{lost} of {5 * part.injections} acknowledged runs are gone; of {len(slots)} slots, "
            f"{unknown} were executed as runs that the database has lost, and "
            f"{sum(count > 1 for count in slots.values())} were executed twice"
        )


def f60g(bench: Bench) -> None:
    """The synchronous standby's host disappears: commits wait until another standby replaces it."""
    with cluster_setup(bench) as setup:
        for _ in range(bench.times(5)):
            setup.cluster.wait_until_healthy()
            start_load(setup.bench, setup.requester)
            standby = setup.cluster.synchronous_standby()
            since = time.time()
            standby.host.disconnect()
            with asking(setup.requester):
                setup.after("standby silent", since)
            standby.host.connect()
        setup.cluster.wait_until_healthy()
        setup.requester.wait_until_working(*setup.workers)
        setup.finish()


def are_done(requester: RetryingClient, ids: Iterable[str]) -> bool:
    return all(requester.is_done(id) for id in ids)


def exists(setup: ClusterSetup, run: str) -> bool:
    """Return whether the database has the run."""
    try:
        setup.bench.status(run)
    except LookupError:
        return False
    return True


FAULTS: dict[str, Callable[[Bench], None]] = {
    "F60": f60,
    "F60b": f60b,
    "F60c": f60c,
    "F60d": f60d,
    "F60e": f60e,
    "F60f": f60f,
    "F60g": f60g,
}
