"""Faults of processes: killed, stopped, suspended, blocked, ended in every way."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Callable

from harness import LATE, SECOND, Bench, check_takeover, now, start_held, until
from polos import runs


def f1(bench: Bench) -> None:
    """A worker is killed by SIGKILL at random points, and restarted on the same file."""
    first = bench.start().ready()
    bench.create_digests()
    first.kill()
    for _ in range(bench.times(500)):
        worker = bench.start()
        delay = bench.random.uniform(0.005, 1.5)
        deadline = time.monotonic() + delay
        bench.invoke()
        if bench.random.random() < 0.1:
            bench.create_digests(1)
        time.sleep(max(0.0, deadline - time.monotonic()))
        worker.kill()
        bench.injections += 1
    bench.finish()


def f4(bench: Bench) -> None:
    """Two to four workers share a file; random ones are killed and replaced."""
    lease = 2.0
    workers = [bench.start("--lease", lease).ready()]
    bench.create_digests()
    for _ in range(bench.times(100, 10)):
        while len(workers) < bench.random.randint(2, 4):
            workers.append(bench.start("--lease", lease))
        bench.invoke()
        time.sleep(bench.random.uniform(0.05, 1.0))
        workers.pop(bench.random.randrange(len(workers))).kill()
        bench.injections += 1
    bench.finish(lease)


def f5(bench: Bench) -> None:
    """Two, four, and eight workers share a database; random ones are killed and replaced."""
    lease = 2.0
    bench.start("--lease", lease).ready()
    bench.create_digests()
    for count in (2, 4, 8):
        workers = [worker for worker in bench.processes if worker.is_alive()]
        for _ in range(bench.times(50, 3)):
            while len(workers) < count:
                workers.append(bench.start("--lease", lease))
            bench.invoke()
            time.sleep(bench.random.uniform(0.05, 1.0))
            workers.pop(bench.random.randrange(len(workers))).kill()
            bench.injections += 1
    bench.finish(lease)


def f42(bench: Bench) -> None:
    """Rolling deployments: a new worker starts, then the oldest one is terminated."""
    workers = [bench.start().ready(), bench.start().ready()]
    bench.create_digests()
    for _ in range(bench.times(50, 3)):
        workers.append(bench.start().ready())
        bench.invoke()
        time.sleep(bench.random.uniform(0.05, 1.0))
        workers.pop(0).term()
        bench.injections += 1
    bench.finish()


def f42b(bench: Bench) -> None:
    """Rolling deployments of different releases: old and new code work at the same time.

    Each release has a workflow and a declared schedule that the others don't have.
    """
    workers = [bench.start("--release", "r0").ready(), bench.start("--release", "r0").ready()]
    bench.create_digests()
    waiting: list[str] = []
    rounds = bench.times(25, 2)
    for number in range(1, rounds + 1):
        release, former = f"r{number}", f"r{number - 1}"
        begun = len(bench.processes)
        first = bench.start("--release", release).ready()
        old = bench.invoke(f"job-of-{former}")
        new = bench.invoke(f"job-of-{release}")
        common = bench.invoke()
        time.sleep(bench.random.uniform(0.05, 1.0))
        workers.pop(0).term()
        workers += [first, bench.start("--release", release).ready()]
        workers.pop(0).term()
        for job, able_workers in ((old, bench.processes[:begun]), (new, bench.processes[begun:])):
            ended = bench.wait_for_success(job)
            bench.verdict.expect("I4", ended, f"{job} is {bench.status(job)}")
            able = {worker.pid for worker in able_workers}
            where = {line.pid for line in bench.lines("before", job, "a")}
            bench.verdict.expect("I5", where <= able, f"{job} ran on a worker without its code")
        waiting.append(common)
        bench.injections += 2
    for job in waiting:
        bench.verdict.expect("I4", bench.wait_for_success(job), f"{job} is {bench.status(job)}")
    # A slot that came due while the last worker of its release closed stays queued.
    bench.finish(start_worker=False, gone={f"tick-of-r{number}" for number in range(rounds)})


def f6b(bench: Bench) -> None:
    """F6 with two, four, and eight workers: one of the others takes over, once."""
    lease = 2.0
    bench.ticks = 0
    delays: list[str] = []
    for number in range(bench.times(9, 3)):
        count = (2, 4, 8)[number % 3]
        worker, job = start_held(bench, "--lease", lease, "--hold", 60)
        others = [bench.start("--lease", lease) for _ in range(count - 1)]
        for other in others:
            other.ready()
        died = time.time()
        worker.kill()
        delay = check_takeover(bench, job, died, lease * 2 / 3 - 0.1, lease + 1)
        delays.append(f"{delay:.2f} s ({count} workers)")
        for other in others:
            other.term()
        bench.injections += 1
    bench.remarks.append(f"leases of {lease:g} s; taken over after {', '.join(delays)}")
    bench.finish(lease)


def f5b(bench: Bench) -> None:
    """More runs than permits: each worker executes as many as it has permits for."""
    room, lease = 3, 2.0
    bench.ticks = 0
    for count in (2, 4, 8):
        options = ("--lease", lease, "--concurrency", room, "--hold", 1.5)
        workers = [bench.start(*options) for _ in range(count)]
        for worker in workers:
            worker.ready()
        # The first runs take all permits; the others are queued. One worker after another ends.
        jobs = [bench.invoke() for _ in range(2 * room * count)]
        for job in jobs[: room * count]:
            bench.verdict.expect(
                "I4",
                bench.wait_for_line("before", job, "b"),
                f"{job} stays queued beside free permits",
            )
        taken = Counter(line.pid for job in jobs for line in bench.lines("before", job, "b"))
        for worker in workers:
            text = (
                f"{count} workers: {taken[worker.pid]} of {room} permits are used in {worker.pid}"
            )
            bench.verdict.expect("I5", taken[worker.pid] >= room, text)
        workers.pop().kill()
        for job in jobs:
            bench.verdict.expect("I4", bench.wait_for_success(job), f"{job} is {bench.status(job)}")
        for worker in workers:
            worker.term()
        bench.injections += 1
    check_room(bench, room)
    bench.finish(lease)


def check_room(bench: Bench, room: int) -> None:
    """I5: no process executed more runs at once than it has permits."""
    in_progress: Counter[int] = Counter()
    for line in bench.recorded_lines():
        if line.step == "b" and line.kind in ("before", "after", "cancelled"):
            in_progress[line.pid] += 1 if line.kind == "before" else -1
            text = f"{in_progress[line.pid]} at once in a worker with room for {room}"
            bench.verdict.expect("I5", in_progress[line.pid] <= room, text)


def f6(bench: Bench) -> None:
    """A worker is killed in a step; another one takes over when the lease has expired."""
    for number in range(bench.times(25)):
        lease = (1.0, 2.0, 3.0)[number % 3]
        worker, job = start_held(bench, "--lease", lease, "--hold", 60)
        other = bench.start("--lease", lease).ready()
        time.sleep(bench.random.uniform(0.5, 1.5) * lease)
        died = time.time()
        worker.kill()
        # Its last heartbeat was at most a third of a lease before it was killed.
        check_takeover(bench, job, died, lease * 2 / 3 - 0.1, lease + 1)
        other.term()
        bench.injections += 1
    bench.finish()


def f7(bench: Bench) -> None:
    """A worker is stopped for three leases and continues after another has its runs."""
    lease = 1.0
    number = 0
    hold = 2.0
    while bench.injections - bench.locked < bench.times(25):
        number += 1
        is_sync = number % 2 == 1
        # Async: the step is cancelled when the worker continues. Sync: the thread can't be
        # cancelled, and returns a result.
        options = ("--hold", hold, "--sync") if is_sync else ("--hold", hold)
        worker, job = start_held(bench, "--lease", lease, *options)
        other = bench.start("--lease", lease).ready()
        stopped = time.time()
        worker.signal(signal.SIGSTOP)
        if bench.lines("after", job, "b"):
            # On a busy machine, the step ended while the other worker started.
            hold *= 2
            worker.signal(signal.SIGCONT)
            bench.verdict.expect("I4", bench.wait_for_success(job, 20), f"{job}: doesn't end")
            other.term()
            worker.term()
            continue
        if not bench.sql("SELECT 1", timeout=lease):
            # Stopped during a commit: it holds SQLite's lock, and all others have to wait until it
            # continues. Nothing can have taken over, so the run ends where it began.
            time.sleep(2 * lease)
            worker.signal(signal.SIGCONT)
            bench.verdict.expect("I4", bench.wait_for_success(job, 20), f"{job}: doesn't end")
            bench.locked += 1
            bench.injections += 1
            other.term()
            worker.term()
            continue
        time.sleep(3 * lease)
        check_takeover(bench, job, stopped, lease * 2 / 3 - 0.1, lease + 1)
        result = runs.sync.get(bench.client, job).result
        worker.signal(signal.SIGCONT)

        def comes_back(pid: int = worker.pid, job: str = job) -> bool:
            lines = [*bench.lines("after", job, "b"), *bench.lines("cancelled", job, "b")]
            return any(line.pid == pid for line in lines)

        verdict = bench.verdict
        verdict.expect("I5", until(comes_back, 10), f"{job}: its step doesn't end")
        # A worker that has lost its runs registers again, and works.
        second = bench.invoke()
        bench.wait_for_success(second)
        verdict.expect("I5", runs.sync.get(bench.client, job).result == result, f"{job}: rewritten")
        late = [line for line in bench.lines("ack", job, "b") if line.pid == worker.pid]
        verdict.expect("I5", not late, f"{job}: its late result was accepted: {late}")
        verdict.expect("I7", worker.is_alive() and other.is_alive(), "a worker has died")
        other.term()
        # The only worker again, it must do the work.
        third = bench.invoke()
        bench.wait_for_success(third)
        verdict.expect(
            "I7", bench.status(third) == "succeeded", "the worker doesn't work after it continued"
        )
        worker.term()
        bench.injections += 1
    bench.finish()


def f7b(bench: Bench) -> None:
    """F7, always stopped between two steps: afterwards it must not execute a step that is done."""
    lease = 1.0
    while bench.injections - bench.locked < bench.times(25):
        worker, job = start_held(bench, "--lease", lease, "--hold", 1.0, "--stop")
        other = bench.start("--lease", lease).ready()
        bench.verdict.expect(
            "I4", bench.wait_for_line("ack", job, "b"), f"{job}: step b isn't recorded"
        )
        worker.stands_still()
        if bench.sql("SELECT 1", timeout=lease):
            bench.verdict.expect("I4", bench.wait_for_success(job, 20), f"{job}: not taken over")
        else:
            # Another of its threads was stopped during a commit, and holds SQLite's lock.
            bench.locked += 1
        worker.signal(signal.SIGCONT)
        bench.verdict.expect("I4", bench.wait_for_success(job, 20), f"{job}: doesn't end")
        bench.wait_for_success(bench.invoke())
        other.term()
        worker.kill()
        bench.injections += 1
    bench.finish()


def f8(bench: Bench) -> None:
    """All processes are stopped for many periods: one run for the newest slot, no burst."""
    lease = 2.0
    workers = [bench.start("--lease", lease).ready() for _ in range(2)]
    bench.create_digests()
    pauses = []
    for _ in range(bench.times(5, 1)):
        time.sleep(bench.random.uniform(2.0, 3.0))
        for worker in workers:
            worker.stop()
        stopped = now()
        time.sleep(bench.random.uniform(6.0, 6.0 + 60.0 * bench.scale))
        continued = now()
        for worker in workers:
            worker.signal(signal.SIGCONT)
        pauses.append((stopped, continued))
        bench.injections += 1
        time.sleep(3.0)
    found, ledgers = bench.finish(lease)
    for stopped, continued in pauses:
        # Slots that had certainly not been handled before, and were certainly late afterwards.
        for schedule, entries in ledgers.items():
            ran = [
                e
                for e in entries
                if e.status == "ran" and stopped + SECOND < e.timestamp < continued - SECOND / 4
            ]
            bench.verdict.expect("I1", len(ran) <= 1, f"{schedule}: {len(ran)} catch-up runs")
            created = [
                run
                for run in found
                if run.schedule_id == schedule
                and continued <= run.created_at < continued + 2 * SECOND
            ]
            # A buffered run, the late run, and those of the next two seconds.
            text = f"{schedule}: a burst of {len(created)} runs"
            bench.verdict.expect("I1", len(created) <= 4, text)


def f24(bench: Bench) -> None:
    """A handler blocks the event loop for three leases."""
    lease = 1.0
    for _ in range(bench.times(25, 1)):
        worker = bench.start("--lease", lease, "--block", 3 * lease).ready()
        if not bench.digests:
            bench.create_digests()
        time.sleep(1.0)
        job = bench.invoke("blocker")
        begun = bench.wait_for_line("before", job, "block")
        bench.verdict.expect("I4", begun, f"{job} doesn't begin")
        since = now()
        time.sleep(1.2 * lease)
        alone = now()
        other = bench.start("--lease", lease, "--block", 3 * lease).ready()
        bench.wait_for_line("after", job, "block")
        bench.wait_for_success(job)
        count = len(bench.lines("before", job, "block"))
        bench.verdict.expect("I5", count == 1, f"{job}: executed {count} times")
        # While its loop was blocked and no other worker ran, all runs were created in time.
        for run in runs.sync.list(bench.client, since=since - LATE, limit=None):
            if run.timestamp is None or not since < run.timestamp < alone:
                continue
            late = run.created_at - run.timestamp
            bench.verdict.expect("I1", late < SECOND, f"{run.id} was created {late} late")
        output = worker.errors.read_text()
        bench.verdict.expect("I12", "blocker" in output, "no warning was logged")
        bench.injections += 1
        worker.term()
        other.term()
    bench.finish()


# Ways to end the worker program, and its return code.
EXITS = {
    "return": 0,
    "raise": 1,
    "leave": 0,
    "sys-exit": 3,
    "os-exit": 4,
    "loop-stop": 1,
    "atexit": 0,
    "atexit-close": 0,
    "daemon-thread": 0,
}


def f40(bench: Bench) -> None:
    """The program ends in many ways while runs are in progress."""
    names = list(EXITS)
    for number in range(bench.times(500, len(names) * 2)):
        name = names[number % len(names)]
        is_sync = ("--sync",) if number // len(names) % 2 else ()
        worker = bench.start("--exit", name, "--drain", 0.3, "--hold", 60, *is_sync).ready()
        job = bench.invoke()
        bench.wait_for_line("before", job, "b", 10)
        begun = time.monotonic()
        worker.send_line()
        worker.ends(EXITS[name], timeout=20)
        took = time.monotonic() - begun
        bench.verdict.expect("I11", took < 5, f"{name} {is_sync}: it took {took:.1f} s to end")
        bench.injections += 1
    bench.finish()


def f41(bench: Bench) -> None:
    """SIGTERM while a handler hangs, while one finishes, and during the start."""
    lease = 15.0
    for _ in range(bench.times(25, 1)):
        # Hanging: drained for a while, then released, and taken over without waiting for the lease.
        worker, job = start_held(bench, "--lease", lease, "--hold", 60, "--drain", 0.5)
        other = bench.start("--lease", lease).ready()
        sent = time.time()
        took = worker.term()
        bench.verdict.expect("I11", took < 4, f"draining took {took:.1f} s")
        check_takeover(bench, job, sent, 0.4, took + 2)
        other.term()
        # Finishing: it completes during the drain, where it began.
        worker, job = start_held(bench, "--lease", lease, "--hold", 1)
        worker.term()
        begun = bench.lines("before", job, "b")
        bench.verdict.expect("I11", len(begun) == 1, f"{job}: began {len(begun)} times")
        bench.verdict.expect("I11", bench.status(job) != "running", f"{job} didn't complete")
        # A second signal ends the wait.
        worker, job = start_held(bench, "--lease", lease, "--hold", 60, "--drain", 30)
        worker.signal(signal.SIGTERM)
        time.sleep(bench.random.uniform(0.2, 0.6))
        took = worker.term()
        bench.verdict.expect("I11", took < 4, f"the second signal took {took:.1f} s")
        bench.injections += 4
        # At any moment of the start.
        for _ in range(3):
            worker = bench.start()
            time.sleep(bench.random.uniform(0.0, 0.6))
            worker.signal(signal.SIGTERM)
            # Before Python has installed the handler, the signal has its default effect.
            code = worker.ends(0, -signal.SIGTERM)
            text = "it had begun to work, and was killed by the signal"
            bench.verdict.expect("I11", code == 0 or not worker.said_ready(), text)
            bench.injections += 1
    bench.finish()


FAULTS: dict[str, Callable[[Bench], None]] = {
    "F1": f1,
    "F4": f4,
    "F5": f5,
    "F5b": f5b,
    "F6": f6,
    "F6b": f6b,
    "F7": f7,
    "F7b": f7b,
    "F8": f8,
    "F24": f24,
    "F40": f40,
    "F41": f41,
    "F42": f42,
    "F42b": f42b,
}
