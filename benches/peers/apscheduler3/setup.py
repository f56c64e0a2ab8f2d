"""APScheduler 3 as its user guide sets it up for asyncio: `AsyncIOScheduler`, jobs in memory or in
SQLite through SQLAlchemy.

`misfire_grace_time` is one second by default, and 1,000 jobs that are due at once in SQLite are
then skipped, all of them; the guide says to raise it, and here it is unlimited.
"""

from __future__ import annotations

from pathlib import Path

from apscheduler.jobstores.memory import MemoryJobStore
from apscheduler.schedulers.asyncio import AsyncIOScheduler

DEFAULTS = {"misfire_grace_time": None, "coalesce": True}


def scheduler(folder: str, jobs: str, *, synced: bool = True) -> AsyncIOScheduler:
    """A scheduler with its ``jobs`` in ``memory`` or ``sqlite``. ``synced=False`` is for filling
    the file before the measurement.
    """
    if jobs == "memory":
        store = MemoryJobStore()
    else:
        # A case in memory must not import what it doesn't use.
        from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
        from sqlalchemy import create_engine, event

        engine = create_engine(f"sqlite:///{Path(folder) / 'jobs.sqlite'}")
        if not synced:

            @event.listens_for(engine, "connect")
            def _(connection: object, _: object) -> None:
                connection.execute("PRAGMA synchronous = OFF")

        store = SQLAlchemyJobStore(engine=engine)
    return AsyncIOScheduler(jobstores={"default": store}, job_defaults=DEFAULTS, timezone="UTC")
