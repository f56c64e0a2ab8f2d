"""Faults of a PostgreSQL server and of the connection to it; each fault starts its own servers."""

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
from servers import FAST, IMMEDIATE, Server, ServerFactory, together

from harness import SECOND, Bench, WorkerProcess, check_takeover, until
from polos import StoreUnavailableError, runs, schedules

LEASE = 2.0

# A worker retries at least every 3 s; a busy machine needs more.
BACK = 20.0

TROUBLE = "the database fails"

numbers = count()


@contextmanager
def bench_on(bench: Bench, url: str) -> Iterator[Bench]:
    """Return a bench on this database; its folder and verdict are part of the fault's."""
    folder = bench.folder / f"part-{next(numbers)}"
    folder.mkdir()
    with Bench(folder, bench.scale, bench.random.randrange(10**6), bench.verdict, url) as part:
        part.ticks = bench.ticks
        yield part
        bench.injections += part.injections
        bench.remarks += part.remarks


class RetryingClient:
    """A client that repeats a request until it is answered; the request must take effect once."""

    def __init__(self, bench: Bench, timeout: float = BACK) -> None:
        self.bench = bench
        self.timeout = timeout
        self.asked: dict[str, str] = {}
        self.refusal_count = 0

    def invoke(self) -> str | None:
        """Start a run; repeat the request until it is acknowledged."""
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

    def wait_until_working(self, *workers: WorkerProcess) -> float:
        """I7: client and workers recover by themselves; return how long it took."""
        verdict, begun = self.bench.verdict, time.monotonic()
        for worker in workers:
            verdict.expect(
                "I7", worker.is_alive(), f"a worker has ended: {worker.errors.read_text()}"
            )
        id = self.invoke()
        verdict.expect("I7", id, f"the client is not served within {self.timeout:.0f} s")
        if id is not None:
            verdict.expect(
                "I4", until(lambda: self.is_done(id), self.timeout), f"{id} is not executed"
            )
        silent = [id for id in sorted(self.bench.digests) if not self.has_new_slot(id)]
        verdict.expect("I7", not silent, f"no new slot: {silent}")
        return time.monotonic() - begun

    def is_done(self, run: str) -> bool:
        with suppress(StoreUnavailableError):
            return self.bench.status(run) == "succeeded"
        return False

    def has_new_slot(self, schedule: str) -> bool:
        """Wait for a slot that comes due from now on; return whether there is one."""
        since = time.time()

        def is_newer() -> bool:
            with suppress(StoreUnavailableError):
                last = self.bench.last_slot(schedule)
                return last is not None and last.timestamp() > since - 1
            return False

        return bool(until(is_newer, self.timeout))

    def check(self) -> None:
        """I1: a repeated request took effect once."""
        jobs = [run.id for run in runs.sync.list(self.bench.client, workflow="job", limit=None)]
        times = Counter(jobs)
        for key, id in self.asked.items():
            self.bench.verdict.expect("I1", times[id] == 1, f"{key}: {id} exists {times[id]} times")
        others = set(jobs) - self.bench.jobs
        self.bench.verdict.expect("I2", not others, f"{others} were never acknowledged")


def check_said(bench: Bench, workers: list[WorkerProcess], outage_count: int) -> None:
    """I12: each worker logs the cause, at most twice an outage."""
    for worker in workers:
        times = worker.errors.read_text().count(TROUBLE)
        text = f"{outage_count} outages were logged {times} times"
        bench.verdict.expect("I12", 1 <= times <= 2 * outage_count, text)


def f15(bench: Bench) -> None:
    """The server is restarted under load, with an immediate and a fast shutdown."""
    with ServerFactory() as servers:
        server = servers.server()
        with bench_on(bench, server.url) as part:
            workers = [part.start("--lease", LEASE).ready() for _ in range(2)]
            part.create_digests()
            requester = RetryingClient(part)
            slowest = 0.0
            for number in range(bench.times(50, 2)):
                start_load(part, requester)
                server.stop((FAST, IMMEDIATE)[number % 2])
                time.sleep(part.random.uniform(0.0, 2.0))
                server.start()
                slowest = max(slowest, requester.wait_until_working(*workers))
                part.injections += 1
            check_said(part, workers, part.injections)
            requester.check()
            part.remarks.append(
                f"everything worked again at most {slowest:.1f} s after the server's start"
            )
            part.finish(LEASE)


def start_load(bench: Bench, requester: RetryingClient) -> None:
    """Start some runs."""
    for _ in range(bench.random.randint(1, 10)):
        requester.invoke()
    time.sleep(bench.random.uniform(0.0, 0.3))


def f15b(bench: Bench) -> None:
    """The server is lost under load, and its synchronous standby is promoted."""
    with ServerFactory() as servers:
        primary = servers.server()
        standby = follower(servers, primary, None)
        with bench_on(bench, together(primary, standby)) as part:
            workers = [part.start("--lease", LEASE).ready() for _ in range(2)]
            part.create_digests()
            requester = RetryingClient(part)
            slowest = 0.0
            for _ in range(bench.times(10)):
                start_load(part, requester)
                primary.stop(IMMEDIATE)
                time.sleep(part.random.uniform(0.5, 2.0))
                asked = threading.Thread(target=requester.invoke)
                asked.start()
                standby.promote()
                asked.join()
                slowest = max(slowest, requester.wait_until_working(*workers))
                part.injections += 1
                # It gets its own standby, at the address of the lost server.
                primary, standby = standby, follower(servers, standby, primary.port)
            check_said(part, workers, part.injections)
            requester.check()
            part.remarks.append(
                f"everything worked again at most {slowest:.1f} s after the promotion"
            )
            part.finish(LEASE)


def follower(servers: ServerFactory, primary: Server, port: int | None) -> Server:
    """Start a synchronous standby, without which nothing is committed."""
    standby = servers.copy_of(primary, follows=True, port=port).start()
    primary.query("ALTER SYSTEM SET synchronous_standby_names = '*'")
    primary.query("SELECT pg_reload_conf()")
    if not primary.waits_until(
        "SELECT count(*) = 1 FROM pg_stat_replication WHERE sync_state = 'sync'"
    ):
        raise AssertionError("the standby doesn't replicate")
    return standby


def f16(bench: Bench) -> None:
    """The server or the network hangs: connections stay open, and no answer comes."""
    with ServerFactory() as servers:
        server = servers.server()
        with bench_on(bench, server.url) as part:
            stopped_backends(part, server)
        with bench_on(bench, server.url + "?schema=network") as part:
            silent_network(part, server)
        if bench.scale >= 0.1:
            with bench_on(bench, server.url + "?schema=lost") as part:
                lost_connections(part, server)


def stopped_backends(bench: Bench, server: Server) -> None:
    """Stop processes of the server, perhaps during a transaction."""
    workers = [bench.start("--lease", LEASE).ready() for _ in range(2)]
    bench.create_digests()
    requester = RetryingClient(bench)
    for _ in range(bench.times(50, 3)):
        start_load(bench, requester)
        backends = server.backends()
        victims = bench.random.sample(backends, bench.random.choice([1, len(backends) // 2]))
        send(victims, signal.SIGSTOP)
        time.sleep(bench.random.uniform(0.5, 2 * LEASE))
        send(victims, signal.SIGCONT)
        requester.wait_until_working(*workers)
        bench.injections += 1
    requester.check()
    bench.finish(LEASE)


def send(processes: list[int], number: signal.Signals) -> None:
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process, number)


def silent_network(bench: Bench, server: Server) -> None:
    """Drop what a worker sends and receives for a while; another one takes its runs over."""
    proxy = Proxy(server.port)
    try:
        near = bench.start("--lease", LEASE).ready()
        bench.create_digests()
        requester = RetryingClient(bench)
        for number in range(bench.times(20, 2)):
            far = bench.start(
                *("--lease", LEASE, "--hold", 3.5 * LEASE),
                database=f"{proxy.url}?schema=network",
            ).ready()
            # Both work; the isolated worker must be the one that executes the run.
            job = held_by(bench, requester, far)
            before = far.resources()
            proxy.swallow()
            silent_since = time.time()
            check_takeover(bench, job, silent_since, LEASE * 2 / 3 - 0.1, LEASE + 1)
            if number % 2:
                proxy.cut_all()
            proxy.flow()
            requester.wait_until_working(near, far)
            after = far.resources()
            is_same = after.threads <= before.threads + 8 and after.files <= before.files + 8
            bench.verdict.expect("I9", is_same, f"from {before} to {after}")
            late = [line for line in bench.lines("ack", job, "b") if line.pid == far.pid]
            bench.verdict.expect("I5", not late, f"{job}: its late result was accepted: {late}")
            far.term()
            bench.injections += 1
        requester.check()
        bench.finish(LEASE)
    finally:
        proxy.close()


def lost_connections(bench: Bench, server: Server) -> None:
    """Existing connections get no answer any more; they are given up when the server says so."""
    proxy = Proxy(server.port)
    try:
        worker = bench.start("--lease", LEASE, database=f"{proxy.url}?schema=lost").ready()
        bench.create_digests()
        requester = RetryingClient(bench)
        for _ in range(bench.times(10)):
            start_load(bench, requester)
            proxy.lose()
            since = time.monotonic()
            job = requester.invoke()
            # After 6 s the worker asks the server about its request, and learns that there is none.
            done = job is not None and until(partial(requester.is_done, job), 15.0)
            bench.verdict.expect("I7", done, "the worker doesn't recover within 15 s")
            bench.remarks.append(f"connections lost: worked again after {since_then(since)}")
            requester.wait_until_working(worker)
            bench.injections += 1
        requester.check()
        bench.finish(LEASE)
    finally:
        proxy.close()


def since_then(moment: float) -> str:
    return f"{time.monotonic() - moment:.1f} s"


def held_by(bench: Bench, requester: RetryingClient, worker: WorkerProcess) -> str:
    """Return a job that this worker executes."""
    while True:
        job = requester.invoke()
        assert job is not None
        bench.wait_for_line("before", job, "b")
        if bench.lines("before", job, "b")[0].pid == worker.pid:
            return job


def f17b(bench: Bench) -> None:
    """The connection is cut before the server gets a commit, or after it has answered."""
    with ServerFactory() as servers:
        server = servers.server()
        proxy = Proxy(server.port)
        try:
            with bench_on(bench, proxy.url) as part:
                workers = [part.start("--lease", LEASE).ready() for _ in range(2)]
                requester = RetryingClient(part)
                for number in range(bench.times(500, 20)):
                    if number % 10 == 0:
                        create_with_retries(part)
                    proxy.cut_next_commit(part.random.choice(["before", "after"]))
                    requester.invoke()
                    part.verdict.expect("I7", proxy.cut_done.wait(BACK), "no commit came")
                    part.injections += 1
                requester.wait_until_working(*workers)
                requester.check()
                part.remarks.append(f"{requester.refusal_count} requests failed at the client")
                part.finish(LEASE)
        finally:
            proxy.close()


def create_with_retries(bench: Bench) -> None:
    """Create a schedule, repeating the request; a further request returns the same schedule."""
    key = f"key-{len(bench.digests)}"

    def created() -> str | None:
        with suppress(StoreUnavailableError):
            return schedules.sync.create(bench.client, "digest", every=SECOND, key=key)
        return None

    first, second = until(created), until(created)
    bench.verdict.expect("I1", first and first == second, f"{key} is {first}, then {second}")
    bench.digests.add(first)


def f18(bench: Bench) -> None:
    """There are too few connections for all clients, or none."""
    with ServerFactory() as servers:
        server = servers.server()
        server.query("CREATE ROLE worker LOGIN")
        server.query("GRANT ALL ON DATABASE postgres TO worker")
        with bench_on(bench, server.url.replace("polos@", "worker@")) as part:
            workers = [part.start("--lease", LEASE).ready() for _ in range(2)]
            part.create_digests()
            requester = RetryingClient(part)
            for number in range(bench.times(50, 3)):
                # Each of the three processes would open five or six.
                left = (0, 6, 3)[number % 3]
                grant(server, left)
                start_load(part, requester) if left > 3 else time.sleep(
                    part.random.uniform(0.2, 2.0)
                )
                used = len(server.backends())
                part.verdict.expect("I9", used <= left, f"{used} connections, {left} allowed")
                if left == 0:
                    one_too_many(part)
                grant(server, -1)
                requester.wait_until_working(*workers)
                part.injections += 1
            used = len(server.backends())
            part.verdict.expect("I9", used <= 18, f"{used} connections of three processes")
            check_said(part, workers, part.injections)
            requester.check()
            part.finish(LEASE)


def grant(server: Server, count: int) -> None:
    """Limit the connections to ``count``, -1 for any number, and close the existing ones."""
    server.query(f"ALTER ROLE worker CONNECTION LIMIT {count}")
    if count >= 0:
        server.query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'polos'"
        )


def one_too_many(bench: Bench) -> None:
    """I12: a client that gets no connection reports the cause and the remedy."""
    last = bench.start("--lease", LEASE)
    last.ends(1)
    output = last.errors.read_text()
    bench.verdict.expect("I12", "raise max_connections" in output, output[-500:])


def f18b(bench: Bench) -> None:
    """Other sessions lock rows of polos in another order: deadlocks, and lock timeouts."""
    with ServerFactory() as servers:
        server = servers.server(deadlock_timeout="20ms")
        with bench_on(bench, server.url) as part:
            workers = [part.start("--lease", LEASE).ready() for _ in range(2)]
            part.create_digests()
            requester = RetryingClient(part)
            for _ in range(bench.times(50, 2)):
                with rivals(part, server, 3):
                    for _ in range(10):
                        requester.invoke()
                        time.sleep(part.random.uniform(0.0, 0.2))
                # Longer than the lock timeout of polos.
                with server.session() as holder:
                    holder.say("BEGIN; LOCK polos.run IN EXCLUSIVE MODE;")
                    time.sleep(part.random.uniform(0.5, 6.5))
                requester.wait_until_working(*workers)
                part.injections += 1
            count = int(server.query("SELECT sum(deadlocks) FROM pg_stat_database")[0][0])
            part.verdict.expect("I12", count > 0, "there were no deadlocks")
            part.remarks.append(f"{count} deadlocks, {requester.refusal_count} refusals")
            requester.check()
            part.finish(LEASE)


@contextmanager
def rivals(bench: Bench, server: Server, count: int) -> Iterator[None]:
    """Run sessions that repeatedly lock schedules and runs in another order."""
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
    """The server is replaced by a copy that is some seconds old."""
    with ServerFactory() as servers:
        server = servers.server()
        with bench_on(bench, server.url) as part:
            workers = [part.start("--lease", LEASE).ready() for _ in range(2)]
            part.create_digests()
            requester = RetryingClient(part)
            for _ in range(bench.times(10)):
                copy = servers.copy_of(server, follows=False, port=server.port)
                lost = {requester.invoke() for _ in range(5)}
                time.sleep(part.random.uniform(1.0, 2.0))
                server.stop(IMMEDIATE)
                server = copy.start()
                part.injections += 1
                requester.wait_until_working(*workers)
                part.jobs -= {id for id in lost if id is not None}
            for worker in workers:
                is_logged = until(partial(says, worker, part.injections), BACK)
                part.verdict.expect(
                    "I12", is_logged, "the worker doesn't log that the database went back"
                )
            # The database is consistent, but doesn't know of the executions that it has lost.
            part.finish(LEASE, check_oracle=False)


def says(worker: WorkerProcess, times: int) -> bool:
    """Return whether the worker has logged so often that the database went back."""
    return worker.errors.read_text().count("the database went back in time") == times


FAULTS: dict[str, Callable[[Bench], None]] = {
    "F15": f15,
    "F15b": f15b,
    "F16": f16,
    "F17b": f17b,
    "F18": f18,
    "F18b": f18b,
    "F19": f19,
}
