"""Tasks that await their rows' commit: a writer thread takes what has gathered while it synced the
last, writes it in one transaction, and wakes the loop once.
"""

import asyncio
import threading
import time
from collections import deque
from pathlib import Path

import files
import side

options = side.options(runs=100, steps=10, batches=20)


class Writer:
    """Group commit in a thread."""

    def __init__(self, path: Path) -> None:
        self.loop = asyncio.get_running_loop()
        self.database = files.opened(path)
        self.database.execute("CREATE TABLE step (run INTEGER, name TEXT, result TEXT)")
        self.waiting: deque[tuple[asyncio.Future[None], tuple[int, str, str]]] = deque()
        self.bell = threading.Event()
        self.over = False
        self.thread = threading.Thread(target=self._work)
        self.thread.start()

    def write(self, row: tuple[int, str, str]) -> asyncio.Future[None]:
        future: asyncio.Future[None] = self.loop.create_future()
        self.waiting.append((future, row))
        self.bell.set()
        return future

    def _work(self) -> None:
        while not self.over:
            self.bell.wait()
            self.bell.clear()
            batch = [self.waiting.popleft() for _ in range(len(self.waiting))]
            if batch:
                with files.transaction(self.database):
                    rows = [row for _, row in batch]
                    self.database.executemany("INSERT INTO step VALUES (?, ?, ?)", rows)
                self.loop.call_soon_threadsafe(self._done, [future for future, _ in batch])

    def _done(self, futures: list["asyncio.Future[None]"]) -> None:
        for future in futures:
            future.set_result(None)

    def close(self) -> None:
        self.over = True
        self.bell.set()
        self.thread.join()
        self.database.close()


async def run(writer: Writer, number: int) -> None:
    for step in range(options.steps):
        await writer.write((number, f"step-{step}", str(step)))


async def main() -> None:
    writer = Writer(Path(options.folder) / "floor.db")
    begun = time.perf_counter()
    for _ in range(options.batches):
        await asyncio.gather(*(run(writer, number) for number in range(options.runs)))
    spent = time.perf_counter() - begun
    writer.close()
    count = options.runs * options.steps * options.batches
    side.report(steps_per_s=side.rate(count, spent), step_us=spent / count * 1e6)


asyncio.run(main())
