"""The work of a herd that any durable scheduler has to do, without a scheduler.

A thread inserts rows in transactions of 500, and at most 1,000 of them run at once. The completion
of each is recorded, and frees the permit of one that is claimed in the same transaction.
"""

import asyncio
import sqlite3
import threading
import time
from collections import deque
from pathlib import Path

import files
import side

CHUNK, PLACES = 500, 1_000
options = side.options(count=1_000, lead=1.0)
starts: list[float] = []
all_started = asyncio.Event()


def prepare() -> sqlite3.Connection:
    database = files.opened(Path(options.folder) / "baseline.db")
    database.execute("CREATE TABLE schedule (id TEXT PRIMARY KEY, next INTEGER) WITHOUT ROWID")
    database.execute("CREATE INDEX due ON schedule (next)")
    database.execute(
        "CREATE TABLE run (id TEXT PRIMARY KEY, schedule TEXT, slot INTEGER, state TEXT)"
    )
    database.execute("CREATE INDEX queued ON run (id) WHERE state = 'queued'")
    with files.transaction(database):
        rows = ((f"schedule-{number:09}", 0) for number in range(options.count))
        database.executemany("INSERT INTO schedule VALUES (?, ?)", rows)
    return database


class Runs:
    """Starts handlers on the loop, and collects their completions."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.tasks: set[asyncio.Task[None]] = set()
        self.ended: deque[str] = deque()
        self.bell = threading.Event()

    def start(self, ids: list[str]) -> None:
        """Start handlers from another thread."""
        self.loop.call_soon_threadsafe(self._on_loop, ids)

    def _on_loop(self, ids: list[str]) -> None:
        for id in ids:
            task = self.loop.create_task(self._handler(id))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    async def _handler(self, id: str) -> None:
        starts.append(time.time())
        if len(starts) == options.count:
            all_started.set()
        self.ended.append(id)
        if not self.bell.is_set():
            self.bell.set()


def fire(database: sqlite3.Connection, due: float, runs: Runs) -> None:
    found = database.execute("SELECT id FROM schedule WHERE next <= 0 ORDER BY id").fetchall()
    ids = [id for (id,) in found]
    time.sleep(max(0.0, due - time.time()))
    for first in range(0, len(ids), CHUNK):
        chunk = ids[first : first + CHUNK]
        state = "running" if first < PLACES else "queued"
        with files.transaction(database):
            rows = ((f"run_{id}", id, 0, state) for id in chunk)
            database.executemany("INSERT INTO run VALUES (?, ?, ?, ?)", rows)
            advanced = ((3600, id) for id in chunk)
            database.executemany("UPDATE schedule SET next = ? WHERE id = ?", advanced)
        if state == "running":
            runs.start([f"run_{id}" for id in chunk])
    left = len(ids)
    while left:
        runs.bell.wait()
        runs.bell.clear()
        ended = [(runs.ended.popleft(),) for _ in range(len(runs.ended))]
        left -= len(ended)
        with files.transaction(database):
            database.executemany("UPDATE run SET state = 'succeeded' WHERE id = ?", ended)
            free = database.execute(
                "SELECT id FROM run WHERE state = 'queued' ORDER BY id LIMIT ?", (len(ended),)
            ).fetchall()
            database.executemany("UPDATE run SET state = 'running' WHERE id = ?", free)
        if free:
            runs.start([id for (id,) in free])


async def main() -> None:
    database = await asyncio.to_thread(prepare)
    due = side.whole_second(options.lead)
    thread = threading.Thread(target=fire, args=(database, due, Runs()))
    thread.start()
    side.due_in_time(due)
    await all_started.wait()
    await asyncio.to_thread(thread.join)
    database.close()
    side.herd(due, starts, options.count)


asyncio.run(main())
