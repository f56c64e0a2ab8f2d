"""Uses a client before and after a fork, in both processes: ``forks.py DATABASE HOW NUMBER``."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import sys
import threading
import warnings

from polos import PolosClient, Worker, runs, schedules, workflow

DATABASE, HOW, NUMBER = sys.argv[1:]

# Python 3.12 warns when a process with threads forks.
warnings.simplefilter("ignore", DeprecationWarning)


@workflow(id="job", schedule=True)
async def job() -> int:
    return os.getpid()


client = PolosClient(DATABASE)


async def work() -> bool:
    """Run a worker, and a job that this worker or one of another process executes."""
    async with Worker(client, app=f"fork-{os.getpid()}", lease=2, drain=1):
        return await job.run(client, timeout=30) > 0


def use(who: str) -> bool:
    key = f"{HOW}-{NUMBER}-{who}"
    made = schedules.sync.create(client, "job", "0 0 1 1 *", key=key)
    return schedules.sync.get(client, made).key == key and asyncio.run(work())


def child() -> None:
    os._exit(7 if use("child") else 1)


def leave() -> None:
    """End like a program: call what `atexit` has."""
    sys.exit(7 if use("child") else 1)


def fork() -> int:
    pid = os.fork()
    if pid == 0:
        leave()
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def fork_in_thread() -> int:
    codes: list[int] = []

    def act() -> None:
        pid = os.fork()
        if pid == 0:
            child()
        codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))

    thread = threading.Thread(target=act)
    thread.start()
    thread.join()
    return codes[0]


def fork_while_busy() -> int:
    """Fork while other threads make requests."""
    is_over = threading.Event()

    def ask() -> None:
        while not is_over.is_set():
            runs.sync.list(client, limit=10)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        return fork()
    finally:
        is_over.set()
        for thread in threads:
            thread.join()


def by_multiprocessing() -> int:
    context = multiprocessing.get_context("fork")
    process = context.Process(target=leave)
    process.start()
    process.join()
    return process.exitcode or 0


HOWS = {
    "fork": fork,
    "fork-in-thread": fork_in_thread,
    "fork-while-busy": fork_while_busy,
    "multiprocessing": by_multiprocessing,
}


def main() -> None:
    problems = [] if use("before") else ["before the fork it doesn't work"]
    code = HOWS[HOW]()
    if code != 7:
        problems.append(f"the child ended with {code}")
    if not use("after"):
        problems.append("after the fork it doesn't work")
    client.close()
    print("; ".join(problems) or "well", flush=True)  # noqa: T201


main()
