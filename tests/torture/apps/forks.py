"""A client is made and used, the process forks, both use it: ``forks.py DATABASE HOW NUMBER``."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import sys
import threading
import warnings

from polos import PolosClient, Worker, runs, schedules, workflow

DATABASE, HOW, NUMBER = sys.argv[1:]

# Python 3.12 warns that threads and forks mix badly.
warnings.simplefilter("ignore", DeprecationWarning)


@workflow(id="job", schedule=True)
async def job() -> int:
    return os.getpid()


client = PolosClient(DATABASE)


async def work() -> bool:
    """A worker of this process and of all others, which may execute it as well."""
    async with Worker(client, app=f"fork-{os.getpid()}", lease=2, drain=1):
        return await job.run(client, timeout=30) > 0


def use(who: str) -> bool:
    key = f"{HOW}-{NUMBER}-{who}"
    made = schedules.sync.create(client, "job", "0 0 1 1 *", key=key)
    return schedules.sync.get(client, made).key == key and asyncio.run(work())


def child() -> None:
    os._exit(7 if use("child") else 1)


def leave() -> None:
    """Ends as programs do, with what they have registered for their end."""
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
    """Other threads are in the middle of requests."""
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
    told = [] if use("before") else ["before the fork it doesn't work"]
    code = HOWS[HOW]()
    if code != 7:
        told.append(f"the child ended with {code}")
    if not use("after"):
        told.append("after the fork it doesn't work")
    client.close()
    print("; ".join(told) or "well", flush=True)  # noqa: T201


main()
