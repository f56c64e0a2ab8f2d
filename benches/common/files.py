"""SQLite files for the baselines, with the same durability as polos."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def opened(path: Path) -> sqlite3.Connection:
    """Open a connection that syncs every commit; one thread may use it at a time."""
    database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    return database


@contextmanager
def transaction(database: sqlite3.Connection) -> Iterator[None]:
    """Commit everything in the block once, so with one sync."""
    database.execute("BEGIN IMMEDIATE")
    yield
    database.execute("COMMIT")
