"""The work of a herd without a scheduler: a thread inserts a row for each run and advances each
schedule, in transactions of 500, and starts the handlers with one wake-up for each.
"""

import asyncio
import sqlite3
import threading
import time
from pathlib import Path

import files
import side

CHUNK = 500
options = side.options(count=1_000, lead=1.0)
starts: list[float] = []
all_started = asyncio.Event()


async def handler() -> None:
    starts.append(time.time())
    if len(starts) == options.count:
        all_started.set()


def prepare() -> sqlite3.Connection:
    database = files.opened(Path(options.folder) / "baseline.db")
    database.execute("CREATE TABLE schedule (id TEXT PRIMARY KEY, next INTEGER) WITHOUT ROWID")
    database.execute("CREATE INDEX due ON schedule (next)")
    database.execute(
        "CREATE TABLE run (id TEXT PRIMARY KEY, schedule TEXT, slot INTEGER, state TEXT)"
    )
    with files.transaction(database):
        rows = ((f"schedule-{number:09}", 0) for number in range(options.count))
        database.executemany("INSERT INTO schedule VALUES (?, ?)", rows)
    return database


def fire(database: sqlite3.Connection, due: float, start: "Start") -> None:
    ids = [
        row[0] for row in database.execute("SELECT id FROM schedule WHERE next <= 0 ORDER BY id")
    ]
    time.sleep(max(0.0, due - time.time()))
    for first in range(0, len(ids), CHUNK):
        chunk = ids[first : first + CHUNK]
        with files.transaction(database):
            runs = ((f"run_{id}", id, 0, "running") for id in chunk)
            database.executemany("INSERT INTO run VALUES (?, ?, ?, ?)", runs)
            advanced = ((3600, id) for id in chunk)
            database.executemany("UPDATE schedule SET next = ? WHERE id = ?", advanced)
        start(len(chunk))


class Start:
    """Starts handlers on the loop, from another thread."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.tasks: set[asyncio.Task[None]] = set()

    def __call__(self, count: int) -> None:
        self.loop.call_soon_threadsafe(self._on_loop, count)

    def _on_loop(self, count: int) -> None:
        for _ in range(count):
            task = self.loop.create_task(handler())
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)


async def main() -> None:
    database = await asyncio.to_thread(prepare)
    due = side.whole_second(options.lead)
    thread = threading.Thread(target=fire, args=(database, due, Start()))
    thread.start()
    side.due_in_time(due)
    await all_started.wait()
    thread.join()
    database.close()
    side.herd(due, starts, options.count)


asyncio.run(main())
