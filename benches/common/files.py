"""SQLite files for the floors, as durable as what they are compared with."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def opened(path: Path) -> sqlite3.Connection:
    """A connection that syncs every commit, to be used in any one thread at a time."""
    database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    return database


@contextmanager
def transaction(database: sqlite3.Connection) -> Iterator[None]:
    """One commit, and so one sync, for all that is in it."""
    database.execute("BEGIN IMMEDIATE")
    yield
    database.execute("COMMIT")
