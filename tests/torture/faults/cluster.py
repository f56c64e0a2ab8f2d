"""Faults of a cluster: three nodes that Patroni manages, and workers, each on a host of its own."""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from checker import Line
from cluster import FAILOVER, Cluster, Node, Watch, longest
from faults.server import LEASE, TROUBLE, Asker, held_by, on, says, under_load
from network import Host, Network

from harness import Bench, Life, check_takeover, until
from polos import LedgerEntry, Run

# The longest gap in ticks beyond that of a client that makes a connection for each commit.
LONGEST = 15.0

Finished = tuple[list[Run], dict[str, list[LedgerEntry]]]


@dataclass
class Stage:
    """The cluster, two workers on hosts of their own, and who asks."""

    network: Network
    cluster: Cluster
    bench: Bench
    hosts: list[Host]
    workers: list[Life]
    asker: Asker
    watch: Watch

    def after(self, what: str, since: float) -> None:
        """Wait until everything continues after a fault, and judge the gap in ticks."""
        self.asker.works(*self.workers)
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
        """I7: wait until each schedule has ticked from now on, as its handler testifies."""
        now = time.time()
        known = set(ticks(self.bench))

        def ticking() -> set[str]:
            return {name for name, times in ticks(self.bench).items() if times[-1] > now}

        until(lambda: known <= ticking(), FAILOVER)
        silent = known - ticking()
        self.bench.verdict.expect("I7", not silent, f"schedules without a tick: {silent}")

    def finish(self, *, testimony: bool = True) -> Finished:
        """Nobody disturbs any more; all is checked."""
        check_trouble(self.bench, self.workers)
        self.asker.check()
        if testimony:
            check_slots_outside(self.bench)
        return self.bench.finish(LEASE, testimony=testimony)


@contextmanager
def stage(bench: Bench, *, is_synchronous: bool = True) -> Iterator[Stage]:
    """A cluster, and workers that know all three nodes."""
    with (
        Network() as network,
        Cluster(network, bench.folder, is_synchronous=is_synchronous) as cluster,
    ):
        cluster.heals()
        watch = Watch(cluster)
        try:
            with on(bench, cluster.url) as part:
                hosts = [network.host(name) for name in ("w1", "w2")]
                workers = [
                    part.start("--lease", LEASE, before=host.before).ready() for host in hosts
                ]
                part.create_digests()
                asker = Asker(part, FAILOVER)
                asker.works(*workers)
                yield Stage(network, cluster, part, hosts, workers, asker, watch)
        finally:
            watch.close()


def payloads(bench: Bench) -> Iterator[tuple[Line, str, str]]:
    """What scheduled handlers testified when they were entered, with schedule and slot."""
    for line in bench.testimonies():
        if line.kind == "payload":
            slot, *_, schedule, _ = line.token.split("/")
            yield line, schedule, slot


def ticks(bench: Bench) -> dict[str, list[float]]:
    """When the handlers of each schedule were entered."""
    times: dict[str, list[float]] = defaultdict(list)
    for line, schedule, _ in payloads(bench):
        times[schedule].append(line.time)
    return times


def gaps(bench: Bench, since: float) -> tuple[float, float]:
    """The longest time without any tick, and the longest one of a single schedule."""
    of_each = ticks(bench)
    every = [at for times in of_each.values() for at in times]
    return longest(every, since), max(longest(times, since) for times in of_each.values())


def check_slots_outside(bench: Bench) -> None:
    """I1, without the database: for no slot were two runs executed."""
    runs: dict[tuple[str, str], set[str]] = defaultdict(set)
    for line, schedule, slot in payloads(bench):
        runs[schedule, slot].add(line.run)
    for place, ids in runs.items():
        bench.verdict.expect("I1", len(ids) == 1, f"slot {place} was executed as {ids}")


def check_trouble(bench: Bench, workers: list[Life]) -> None:
    """I12: it is said, and not over and over."""
    for life in workers:
        times = life.errors.read_text().count(TROUBLE)
        text = f"{bench.injections} faults were told {times} times"
        bench.verdict.expect("I12", times <= 2 * bench.injections, text)


@contextmanager
def asking(asker: Asker) -> Iterator[None]:
    """Somebody asks for a run while it happens, until there is an answer."""
    thread = threading.Thread(target=asker.invoke)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def repeatedly(bench: Bench, what: str, full: int, fault: Callable[[Stage, Node], None]) -> None:
    """A fault of the primary, under load, after which another node becomes the primary."""
    with stage(bench) as scene:
        for _ in range(bench.times(full)):
            scene.cluster.heals()
            under_load(scene.bench, scene.asker)
            primary = scene.cluster.primary()
            since = time.time()
            with asking(scene.asker):
                fault(scene, primary)
            scene.after(what, since)
            scene.network.reconnect()
            if not primary.host.processes():
                scene.cluster.start(primary)
        scene.cluster.heals()
        scene.asker.works(*scene.workers)
        scene.finish()


def f60(bench: Bench) -> None:
    """An operator switches over."""

    def switch_over(scene: Stage, primary: Node) -> None:
        scene.cluster.switch_over(scene.cluster.synchronous_standby())

    repeatedly(bench, "switchover", 5, switch_over)


def f60b(bench: Bench) -> None:
    """All processes of the primary's host are killed; its connections are refused."""

    def kill(scene: Stage, primary: Node) -> None:
        primary.host.kill_all()

    repeatedly(bench, "killed", 5, kill)


def f60c(bench: Bench) -> None:
    """The primary's host is silent from one moment to the next: no packet comes or goes."""

    def silence(scene: Stage, primary: Node) -> None:
        primary.host.disconnect()
        primary.host.kill_all()

    repeatedly(bench, "host silent", 5, silence)


def f60d(bench: Bench) -> None:
    """The primary lives, and reaches nobody; or only one of the workers."""
    numbers = iter(range(1_000_000))

    def separate(scene: Stage, primary: Node) -> None:
        primary.host.connect("other")
        if next(numbers) % 2:
            scene.hosts[0].connect("other")
            # Whoever is with it must not be served any more when another one has taken over.
            until(lambda: scene.cluster.primary_or_none(), FAILOVER)
            scene.hosts[0].connect()

    repeatedly(bench, "partitioned primary", 6, separate)


def f60e(bench: Bench) -> None:
    """A worker reaches nobody for three leases, and comes back."""
    with stage(bench) as scene:
        near = scene.workers[1]
        for _ in range(bench.times(5)):
            far = scene.bench.start(
                *("--lease", LEASE, "--hold", 3.5 * LEASE), before=scene.hosts[0].before
            ).ready()
            job = held_by(scene.bench, scene.asker, far)
            since = time.time()
            scene.hosts[0].disconnect()
            check_takeover(scene.bench, job, since, LEASE * 2 / 3 - 0.1, LEASE + 1)
            scene.hosts[0].connect()
            scene.after("partitioned worker", since)
            late = [line for line in scene.bench.lines("ack", job, "b") if line.pid == far.pid]
            scene.bench.verdict.expect("I5", not late, f"{job}: a late result: {late}")
            scene.asker.works(near, far)
            far.term()
        scene.finish()


def f60f(bench: Bench) -> None:
    """Without synchronous replication: a copy that is some seconds old becomes the primary."""
    with stage(bench, is_synchronous=False) as scene:
        cluster, part, asker = scene.cluster, scene.bench, scene.asker
        lost = 0
        for _ in range(bench.times(3)):
            cluster.heals()
            primary = cluster.primary()
            old, other = cluster.others(primary)
            old.host.disconnect()
            time.sleep(part.random.uniform(2.0, 5.0))
            keys = set(asker.asked)
            forgotten = [id for id in (asker.invoke() for _ in range(5)) if id is not None]
            until(partial(are_done, asker, forgotten), FAILOVER)
            since = time.time()
            for node in (primary, other):
                cluster.kill_server(node)
            old.host.connect()
            scene.after("old copy promoted", since)
            part.verdict.expect("I12", cluster.primary() == old, "it wasn't the old copy")
            part.jobs -= set(forgotten)
            asker.asked = {key: asker.asked[key] for key in asker.asked if key in keys}
            lost += sum(not is_there(scene, id) for id in forgotten)
            for node in (primary, other):
                cluster.start_program(node, "patroni")
        cluster.heals()
        for life in scene.workers:
            told = until(partial(says, life, part.injections), FAILOVER)
            part.verdict.expect("I12", told, "nobody is told that the database went back")
        part.verdict.expect("I12", lost, "nothing was lost: the copy wasn't old")
        executed = {(line.run, schedule, slot) for line, schedule, slot in payloads(part)}
        found, _ = scene.finish(testimony=False)
        known = {run.id for run in found}
        slots = Counter((schedule, slot) for _, schedule, slot in executed)
        unknown = sum(run not in known for run, _, _ in executed)
        part.remarks.append(
            f"{lost} of {5 * part.injections} acknowledged runs are gone; of {len(slots)} slots, "
            f"{unknown} were executed as runs that the database doesn't know any more, and "
            f"{sum(count > 1 for count in slots.values())} were executed twice"
        )


def f60g(bench: Bench) -> None:
    """The synchronous standby's host is silent: commits wait until another one takes its place."""
    with stage(bench) as scene:
        for _ in range(bench.times(5)):
            scene.cluster.heals()
            under_load(scene.bench, scene.asker)
            standby = scene.cluster.synchronous_standby()
            since = time.time()
            standby.host.disconnect()
            with asking(scene.asker):
                scene.after("standby silent", since)
            standby.host.connect()
        scene.cluster.heals()
        scene.asker.works(*scene.workers)
        scene.finish()


def are_done(asker: Asker, ids: Iterable[str]) -> bool:
    return all(asker.is_done(id) for id in ids)


def is_there(scene: Stage, run: str) -> bool:
    """Whether the database knows the run."""
    try:
        scene.bench.status(run)
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
