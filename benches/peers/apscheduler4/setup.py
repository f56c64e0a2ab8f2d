"""APScheduler 4, a pre-release, as its user guide sets it up: `AsyncScheduler` with an SQLAlchemy
data store on SQLite. The guide advises against `aiosqlite`, so the engine is a synchronous one.

Its defaults let one job of a task run at a time; here as many as there are schedules. Its threads
wait for each other's locks for 30 seconds, where the 5 of the driver end in errors on a slow disk.
"""

from __future__ import annotations

from pathlib import Path

from apscheduler import AsyncScheduler
from apscheduler.datastores.sqlalchemy import SQLAlchemyDataStore
from sqlalchemy import create_engine


def scheduler(folder: str) -> AsyncScheduler:
    """A scheduler on a file in ``folder``."""
    url = f"sqlite:///{Path(folder) / 'jobs.sqlite'}"
    engine = create_engine(url, connect_args={"timeout": 30})
    return AsyncScheduler(SQLAlchemyDataStore(engine), max_concurrent_jobs=1_000)
