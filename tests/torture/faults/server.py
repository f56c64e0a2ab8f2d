"""Faults of a PostgreSQL server and of the way to it: each with servers of its own."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from itertools import count

from proxy import Proxy
from servers import FAST, IMMEDIATE, Place, Server, together

from harness import SECOND, Bench, Life, check_takeover, until
from polos import StoreUnavailableError, runs, schedules

LEASE = 2.0

# The longest that a worker waits between two tries is 3 s; a busy machine needs more.
BACK = 20.0

TROUBLE = "the database fails"

numbers = count()


@contextmanager
def on(bench: Bench, url: str) -> Iterator[Bench]:
    """A bench on this database, with folder and verdict within those of the fault."""
    folder = bench.folder / f"part-{next(numbers)}"
    folder.mkdir()
    with Bench(folder, bench.scale, bench.random.randrange(10**6), bench.verdict, url) as part:
        part.ticks = bench.ticks
        yield part
        bench.injections += part.injections
        bench.remarks += part.remarks


class Asker:
    """A client that asks again until it is answered, and then must have been counted once."""

    def __init__(self, bench: Bench, timeout: float = BACK) -> None:
        self.bench = bench
        self.timeout = timeout
        self.asked: dict[str, str] = {}
        self.refusal_count = 0

    def invoke(self) -> str | None:
        """A run that is asked for until the database says that it is there."""
        key = f"asked-{len(self.asked)}"

        def asked() -> str | None:
            try:
                return runs.sync.invoke(self.bench.client, "job", idempotency_key=key).id
            except StoreUnavailableError:
                self.refusal_count += 1
                return None

        id = until(asked, self.timeout)
        if id is not None:
            self.asked[key] = id
            self.bench.jobs.add(id)
        return id if id is None else str(id)

    def works(self, *workers: Life) -> float:
        """I7: workers live and client and workers come back by themselves; how long it took."""
        verdict, begun = self.bench.verdict, time.monotonic()
        for life in workers:
            verdict.expect("I7", life.is_alive(), f"a worker has ended: {life.errors.read_text()}")
        id = self.invoke()
        verdict.expect("I7", id, f"the client is not served within {self.timeout:.0f} s")
        if id is not None:
            verdict.expect(
                "I4", until(lambda: self.is_done(id), self.timeout), f"{id} isn't executed"
            )
        silent = [id for id in sorted(self.bench.digests) if not self.goes_on(id)]
        verdict.expect("I7", not silent, f"silent: {silent}")
        return time.monotonic() - begun

    def is_done(self, run: str) -> bool:
        with suppress(StoreUnavailableError):
            return self.bench.status(run) == "succeeded"
        return False

    def goes_on(self, schedule: str) -> bool:
        """Whether it has a new slot, of the time from now on."""
        since = time.time()

        def is_newer() -> bool:
            with suppress(StoreUnavailableError):
                last = self.bench.last_slot(schedule)
                return last is not None and last.timestamp() > since - 1
            return False

        return bool(until(is_newer, self.timeout))

    def check(self) -> None:
        """I1: what was asked for several times is there once."""
        jobs = [run.id for run in runs.sync.list(self.bench.client, workflow="job", limit=None)]
        times = Counter(jobs)
        for key, id in self.asked.items():
            self.bench.verdict.expect("I1", times[id] == 1, f"{key}: {id} is there {times[id]}x")
        others = set(jobs) - self.bench.jobs
        self.bench.verdict.expect("I2", not others, f"nobody was told of {others}")


def check_said(bench: Bench, workers: list[Life], outage_count: int) -> None:
    """I12: each says what was wrong, and not over and over: at most twice an outage."""
    for life in workers:
        times = life.errors.read_text().count(TROUBLE)
        text = f"{outage_count} outages were told {times} times"
        bench.verdict.expect("I12", 1 <= times <= 2 * outage_count, text)


def f15(bench: Bench) -> None:
    """The server is restarted under load, at once and in good order."""
    with Place() as place:
        server = place.server()
        with on(bench, server.url) as part:
            workers = [part.start("--lease", LEASE).ready() for _ in range(2)]
            part.create_digests()
            asker = Asker(part)
            slowest = 0.0
            for number in range(bench.times(50, 2)):
                under_load(part, asker)
                server.stop((FAST, IMMEDIATE)[number % 2])
                time.sleep(part.random.uniform(0.0, 2.0))
                server.start()
                slowest = max(slowest, asker.works(*workers))
                part.injections += 1
            check_said(part, workers, part.injections)
            asker.check()
            part.remarks.append(
                f"all worked again at most {slowest:.1f} s after the server's start"
            )
            part.finish(LEASE)


def under_load(bench: Bench, asker: Asker) -> None:
    """Some work is under way."""
    for _ in range(bench.random.randint(1, 10)):
        asker.invoke()
    time.sleep(bench.random.uniform(0.0, 0.3))


def f15b(bench: Bench) -> None:
    """The server is lost, and its synchronous standby is promoted in its place, under load."""
    with Place() as place:
        primary = place.server()
        standby = follower(place, primary, None)
        with on(bench, together(primary, standby)) as part:
            workers = [part.start("--lease", LEASE).ready() for _ in range(2)]
            part.create_digests()
            asker = Asker(part)
            slowest = 0.0
            for _ in range(bench.times(10)):
                under_load(part, asker)
                primary.stop(IMMEDIATE)
                time.sleep(part.random.uniform(0.5, 2.0))
                asked = threading.Thread(target=asker.invoke)
                asked.start()
                standby.promote()
                asked.join()
                slowest = max(slowest, asker.works(*workers))
                part.injections += 1
                # It gets a standby of its own, at the address of the one that was lost.
                primary, standby = standby, follower(place, standby, primary.port)
            check_said(part, workers, part.injections)
            asker.check()
            part.remarks.append(f"all worked again at most {slowest:.1f} s after the promotion")
            part.finish(LEASE)


def follower(place: Place, primary: Server, port: int | None) -> Server:
    """A standby without which nothing is committed any more."""
    standby = place.copy_of(primary, follows=True, port=port).start()
    primary.ask("ALTER SYSTEM SET synchronous_standby_names = '*'")
    primary.ask("SELECT pg_reload_conf()")
    if not primary.waits_until(
        "SELECT count(*) = 1 FROM pg_stat_replication WHERE sync_state = 'sync'"
    ):
        raise AssertionError("the standby doesn't follow")
    return standby


def f16(bench: Bench) -> None:
    """The server, or the network, hangs: nobody hangs up, and nothing comes."""
    with Place() as place:
        server = place.server()
        with on(bench, server.url) as part:
            stopped_backends(part, server)
        with on(bench, server.url + "?schema=network") as part:
            silent_network(part, server)
        if bench.scale >= 0.1:
            with on(bench, server.url + "?schema=lost") as part:
                lost_connections(part, server)


def stopped_backends(bench: Bench, server: Server) -> None:
    """Processes of the server stand still, perhaps in the middle of a transaction."""
    workers = [bench.start("--lease", LEASE).ready() for _ in range(2)]
    bench.create_digests()
    asker = Asker(bench)
    for _ in range(bench.times(50, 3)):
        under_load(bench, asker)
        backends = server.backends()
        victims = bench.random.sample(backends, bench.random.choice([1, len(backends) // 2]))
        send(victims, signal.SIGSTOP)
        time.sleep(bench.random.uniform(0.5, 2 * LEASE))
        send(victims, signal.SIGCONT)
        asker.works(*workers)
        bench.injections += 1
    asker.check()
    bench.finish(LEASE)


def send(processes: list[int], number: signal.Signals) -> None:
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process, number)


def silent_network(bench: Bench, server: Server) -> None:
    """What a worker sends and hears is swallowed for a while; another one takes its runs over."""
    proxy = Proxy(server.port)
    try:
        near = bench.start("--lease", LEASE).ready()
        bench.create_digests()
        asker = Asker(bench)
        for number in range(bench.times(20, 2)):
            far = bench.start(
                *("--lease", LEASE, "--hold", 3.5 * LEASE),
                database=f"{proxy.url}?schema=network",
            ).ready()
            # Both work; the one that is cut off is to be the one that holds it.
            job = held_by(bench, asker, far)
            before = far.resources()
            proxy.swallow()
            silent_since = time.time()
            check_takeover(bench, job, silent_since, LEASE * 2 / 3 - 0.1, LEASE + 1)
            if number % 2:
                proxy.cut_all()
            proxy.flow()
            asker.works(near, far)
            after = far.resources()
            is_same = after.threads <= before.threads + 8 and after.files <= before.files + 8
            bench.verdict.expect("I9", is_same, f"from {before} to {after}")
            late = [line for line in bench.lines("ack", job, "b") if line.pid == far.pid]
            bench.verdict.expect("I5", not late, f"{job}: its late result was accepted: {late}")
            far.term()
            bench.injections += 1
        asker.check()
        bench.finish(LEASE)
    finally:
        proxy.close()


def lost_connections(bench: Bench, server: Server) -> None:
    """What was connected hears nothing any more, for good: given up when the server says so."""
    proxy = Proxy(server.port)
    try:
        life = bench.start("--lease", LEASE, database=f"{proxy.url}?schema=lost").ready()
        bench.create_digests()
        asker = Asker(bench)
        for _ in range(bench.times(10)):
            under_load(bench, asker)
            proxy.lose()
            since = time.monotonic()
            job = asker.invoke()
            # After 6 s it asks about its request, and is told that there is none.
            done = job is not None and until(partial(asker.is_done, job), 15.0)
            bench.verdict.expect("I7", done, "the worker doesn't come back in 15 s")
            bench.remarks.append(f"connections lost: worked again after {since_then(since)}")
            asker.works(life)
            bench.injections += 1
        asker.check()
        bench.finish(LEASE)
    finally:
        proxy.close()


def since_then(moment: float) -> str:
    return f"{time.monotonic() - moment:.1f} s"


def held_by(bench: Bench, asker: Asker, life: Life) -> str:
    """A job that this worker, and no other one, is executing."""
    while True:
        job = asker.invoke()
        assert job is not None
        bench.hears("before", job, "b")
        if bench.lines("before", job, "b")[0].pid == life.pid:
            return job


def f17b(bench: Bench) -> None:
    """The connection is cut at a commit: before the server hears of it, or when it has answered."""
    with Place() as place:
        server = place.server()
        proxy = Proxy(server.port)
        try:
            with on(bench, proxy.url) as part:
                workers = [part.start("--lease", LEASE).ready() for _ in range(2)]
                asker = Asker(part)
                for number in range(bench.times(500, 20)):
                    if number % 10 == 0:
                        created_in_spite(part)
                    proxy.cut_next_commit(part.random.choice(["before", "after"]))
                    asker.invoke()
                    part.verdict.expect("I7", proxy.cut_done.wait(BACK), "nobody commits any more")
                    part.injections += 1
                asker.works(*workers)
                asker.check()
                part.remarks.append(f"{asker.refusal_count} times a client was told of it")
                part.finish(LEASE)
        finally:
            proxy.close()


def created_in_spite(bench: Bench) -> None:
    """A schedule that is asked for until it is there; asked for again, it is the same."""
    key = f"key-{len(bench.digests)}"

    def created() -> str | None:
        with suppress(StoreUnavailableError):
            return schedules.sync.create(bench.client, "digest", every=SECOND, key=key)
        return None

    first, second = until(created), until(created)
    bench.verdict.expect("I1", first and first == second, f"{key} is {first}, and {second}")
    bench.digests.add(first)


def f18(bench: Bench) -> None:
    """There are too few connections for all who want one, or none."""
    with Place() as place:
        server = place.server()
        server.ask("CREATE ROLE worker LOGIN")
        server.ask("GRANT ALL ON DATABASE postgres TO worker")
        with on(bench, server.url.replace("polos@", "worker@")) as part:
            workers = [part.start("--lease", LEASE).ready() for _ in range(2)]
            part.create_digests()
            asker = Asker(part)
            for number in range(bench.times(50, 3)):
                # Each of the three processes would like to have five or six.
                left = (0, 6, 3)[number % 3]
                grant(server, left)
                under_load(part, asker) if left > 3 else time.sleep(part.random.uniform(0.2, 2.0))
                used = len(server.backends())
                part.verdict.expect("I9", used <= left, f"{used} connections, {left} allowed")
                if left == 0:
                    one_too_many(part)
                grant(server, -1)
                asker.works(*workers)
                part.injections += 1
            used = len(server.backends())
            part.verdict.expect("I9", used <= 18, f"{used} connections of three processes")
            check_said(part, workers, part.injections)
            asker.check()
            part.finish(LEASE)


def grant(server: Server, count: int) -> None:
    """So many connections, and no more; -1 for any number. Those that there are end."""
    server.ask(f"ALTER ROLE worker CONNECTION LIMIT {count}")
    if count >= 0:
        server.ask(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'polos'"
        )


def one_too_many(bench: Bench) -> None:
    """Who begins when there are none left is told so, and what to do."""
    last = bench.start("--lease", LEASE)
    last.ends(1)
    said = last.errors.read_text()
    bench.verdict.expect("I12", "raise max_connections" in said, said[-500:])


def f18b(bench: Bench) -> None:
    """Others lock our rows crosswise: deadlocks, and waits that take too long."""
    with Place() as place:
        server = place.server(deadlock_timeout="20ms")
        with on(bench, server.url) as part:
            workers = [part.start("--lease", LEASE).ready() for _ in range(2)]
            part.create_digests()
            asker = Asker(part)
            for _ in range(bench.times(50, 2)):
                with rivals(part, server, 3):
                    for _ in range(10):
                        asker.invoke()
                        time.sleep(part.random.uniform(0.0, 0.2))
                # Longer than we wait for a lock.
                with server.session() as holder:
                    holder.say("BEGIN; LOCK polos.run IN EXCLUSIVE MODE;")
                    time.sleep(part.random.uniform(0.5, 6.5))
                asker.works(*workers)
                part.injections += 1
            count = int(server.ask("SELECT sum(deadlocks) FROM pg_stat_database")[0][0])
            part.verdict.expect("I12", count > 0, "there were no deadlocks: nothing was tried")
            part.remarks.append(f"{count} deadlocks, {asker.refusal_count} refusals")
            asker.check()
            part.finish(LEASE)


@contextmanager
def rivals(bench: Bench, server: Server, count: int) -> Iterator[None]:
    """Sessions that lock schedules and runs in an order of their own, over and over."""
    is_over = threading.Event()

    def lock(chance: random.Random) -> None:
        with server.session() as session:
            while not is_over.is_set():
                session.say("BEGIN;")
                for _ in range(3):
                    table = chance.choice(["schedule", "run", "worker"])
                    session.say(
                        f"SELECT FROM polos.{table} ORDER BY random() LIMIT 3 FOR UPDATE;"
                        f" SELECT pg_sleep({chance.uniform(0.0, 0.05):.3f});"
                    )
                session.say("ROLLBACK;")
                session.wait()

    chances = [random.Random(bench.random.random()) for _ in range(count)]
    threads = [threading.Thread(target=lock, args=(chance,)) for chance in chances]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        is_over.set()
        for thread in threads:
            thread.join()


def f19(bench: Bench) -> None:
    """The server is lost, and a copy that is some seconds old takes its place."""
    with Place() as place:
        server = place.server()
        with on(bench, server.url) as part:
            workers = [part.start("--lease", LEASE).ready() for _ in range(2)]
            part.create_digests()
            asker = Asker(part)
            for _ in range(bench.times(10)):
                copy = place.copy_of(server, follows=False, port=server.port)
                lost = {asker.invoke() for _ in range(5)}
                time.sleep(part.random.uniform(1.0, 2.0))
                server.stop(IMMEDIATE)
                server = copy.start()
                part.injections += 1
                asker.works(*workers)
                part.jobs -= {id for id in lost if id is not None}
            for life in workers:
                told = until(partial(says, life, part.injections), BACK)
                part.verdict.expect("I12", told, "nobody is told that the database went back")
            # What it says is right in itself; of executions that it has forgotten it can't know.
            part.finish(LEASE, testimony=False)


def says(life: Life, times: int) -> bool:
    """Whether it has said so often that the database went back."""
    return life.errors.read_text().count("the database went back in time") == times


FAULTS: dict[str, Callable[[Bench], None]] = {
    "F15": f15,
    "F15b": f15b,
    "F16": f16,
    "F17b": f17b,
    "F18": f18,
    "F18b": f18b,
    "F19": f19,
}
