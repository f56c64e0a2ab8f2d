"""Track databases that a forked process must not use.

SQLite keeps the locks of a process in its memory. A child inherits that memory but not the locks:
it would write in the belief that it holds locks that it does not, and the parent or the next
process would remove the log under it.
"""

from __future__ import annotations

from polos._core.location import DatabaseLocation
from polos.exceptions import StoreError

__all__ = ["check", "note"]

_inherited: set[str] = set()


def note(database: DatabaseLocation) -> None:
    """Note, in a child, that its parent had this database open at the fork."""
    _inherited.add(database.identity)


def check(database: DatabaseLocation) -> None:
    """Raise :class:`StoreError` for a database that was open when this process was forked."""
    if _inherited and database.identity in _inherited:
        raise StoreError(
            f"the database `{database.name}` was in use when this process was forked (a worker was "
            f"running, or a request was in progress), and cannot be used here; start this process "
            f"with `spawn` or as a separate program, or fork before the worker starts"
        )
