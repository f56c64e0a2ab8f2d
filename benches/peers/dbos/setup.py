"""DBOS as its documentation sets it up in one process: `DBOS(config=...)` with SQLite, its default
database, or the PostgreSQL database `store`, and `DBOS.launch()`.

It opens its file with SQLite's default journal. ``wal=True`` sets the file to WAL before DBOS opens
it, which its documentation doesn't mention and which makes it faster.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from dbos import DBOS


def database(folder: str) -> Path:
    """Return the URL of the database."""
    return Path(folder) / "dbos.sqlite"


def configure(folder: str, *, wal: bool = False, store: str = "") -> None:
    """Make the one instance; workflows may be registered before and after."""
    if not store:
        url = f"sqlite:///{database(folder)}"
        if wal:
            with sqlite3.connect(database(folder)) as file:
                file.execute("PRAGMA journal_mode = WAL")
            file.close()
    else:
        url = store
    config = {"name": "bench", "system_database_url": url, "log_level": "ERROR"}
    DBOS(config={**config, "application_version": "1"})
