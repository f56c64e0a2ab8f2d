"""huey as its guide sets it up with SQLite: `SqliteHuey` (WAL, SQLite's default synchronous=FULL)
and a consumer, here in the same process, with as many threads as its guide uses in examples.

Its periodic tasks have the minute as their unit, so what is due at an instant are one-off tasks
with an `eta`; the scheduler looks for them once a second, its shortest interval.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huey import SqliteHuey
from huey.consumer import Consumer


def queue(folder: str) -> SqliteHuey:
    """A queue in a file in ``folder``; results are not kept."""
    return SqliteHuey(filename=str(Path(folder) / "huey.db"), results=False)


class QuietConsumer(Consumer):
    """A consumer that installs no signal handlers."""

    def _set_signal_handlers(self) -> None:
        pass


@contextmanager
def consuming(tasks: SqliteHuey) -> Iterator[None]:
    """Run a consumer during the block."""
    consumer = QuietConsumer(
        tasks, workers=4, scheduler_interval=1, backoff=1.15, initial_delay=0.1, max_delay=0.1
    )
    consumer.start()
    try:
        yield
    finally:
        consumer.stop(graceful=True)
        assert threading.current_thread() is threading.main_thread()
