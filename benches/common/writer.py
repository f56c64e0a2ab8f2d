"""Group commit in a thread, so that an asyncio program can await the disk without blocking.

The thread writes everything that has accumulated during the last sync in one transaction, and wakes
the loop once.
"""

import asyncio
import threading
from collections import deque
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import files


class Writer:
    """Writes rows; each is awaited until it is on disk."""

    def __init__(self, path: Path, table: str) -> None:
        self.loop = asyncio.get_running_loop()
        self.database = files.opened(path)
        self.database.execute(table)
        self.waiting: deque[tuple[asyncio.Future[None], str, tuple[Any, ...]]] = deque()
        self.bell = threading.Event()
        self.over = False
        self.thread = threading.Thread(target=self._work)
        self.thread.start()

    def write(self, sql: str, row: tuple[Any, ...]) -> "asyncio.Future[None]":
        future: asyncio.Future[None] = self.loop.create_future()
        self.waiting.append((future, sql, row))
        self.bell.set()
        return future

    def _work(self) -> None:
        while not self.over:
            self.bell.wait()
            self.bell.clear()
            batch = [self.waiting.popleft() for _ in range(len(self.waiting))]
            if batch:
                with files.transaction(self.database):
                    for sql, items in groupby(batch, key=itemgetter(1)):
                        self.database.executemany(sql, [row for _, _, row in items])
                self.loop.call_soon_threadsafe(self._done, [future for future, _, _ in batch])

    def _done(self, futures: list["asyncio.Future[None]"]) -> None:
        for future in futures:
            future.set_result(None)

    def close(self) -> None:
        self.over = True
        self.bell.set()
        self.thread.join()
        self.database.close()
