"""APScheduler 4, a pre-release, as its user guide sets it up: `AsyncScheduler` with an SQLAlchemy
data store on SQLite. The guide advises against `aiosqlite`, so the engine is a synchronous one.

Its defaults let one job of a task run at a time; here as many as there are schedules.
"""

from __future__ import annotations

from pathlib import Path

from apscheduler import AsyncScheduler
from apscheduler.datastores.sqlalchemy import SQLAlchemyDataStore


def scheduler(folder: str) -> AsyncScheduler:
    """A scheduler on a file in ``folder``."""
    return AsyncScheduler(
        SQLAlchemyDataStore(f"sqlite:///{Path(folder) / 'jobs.sqlite'}"), max_concurrent_jobs=1_000
    )
