"""Uses one client in many threads: ``shared_client.py DATABASE HOW THREADS TIMES``."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable
from typing import Any

from polos import PolosClient, RunHandle, ShutdownError, runs, schedules

DATABASE, HOW, THREADS, TIMES = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])

client = PolosClient(DATABASE)
trouble: list[str] = []
start = threading.Barrier(THREADS)


def blocking(index: int) -> None:
    for number in range(TIMES):
        value = [index, number]
        handle: RunHandle[Any] = runs.sync.invoke(client, "echo", value)
        if handle.sync.result(60) != value:
            trouble.append(f"{index}: another answer than {value}")
        schedules.sync.create(client, "digest", "0 0 1 1 *", key=f"{HOW}-{number}")


async def waiting(index: int) -> None:
    async def one(number: int) -> None:
        value = [index, number]
        handle: RunHandle[Any] = await runs.invoke(client, "echo", value)
        if await handle.result(60) != value:
            trouble.append(f"{index}: another answer than {value}")
        await schedules.create(client, "digest", "0 0 1 1 *", key=f"{HOW}-{number}")

    await asyncio.gather(*(one(number) for number in range(TIMES)))


def in_loops(index: int) -> None:
    """Use two event loops, one after another."""
    asyncio.run(waiting(index))
    asyncio.run(waiting(index))


def mixed(index: int) -> None:
    (blocking if index % 2 else in_loops)(index)


def closing(index: int) -> None:
    """Close the client in one thread while the others use it."""
    try:
        if index == 0:
            runs.sync.list(client, limit=1)
            client.close()
        else:
            mixed(index)
    except ShutdownError:
        return


def run(act: Callable[[int], None], index: int) -> None:
    start.wait()
    try:
        act(index)
    except BaseException as error:
        trouble.append(f"{index}: {type(error).__name__}: {error}")


HOWS = {"sync": blocking, "loops": in_loops, "mixed": mixed, "closing": closing}
threads = [threading.Thread(target=run, args=(HOWS[HOW], index)) for index in range(THREADS)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join(120)
if any(thread.is_alive() for thread in threads):
    trouble.append("a thread hangs")
if HOW != "closing":
    client.close()
print("; ".join(trouble[:5]) or "well", flush=True)  # noqa: T201
