"""Which databases a forked process must not touch.

SQLite keeps in its process's memory which locks the process holds. A child inherits that memory,
and not the locks: it would write believing that it holds what it doesn't, and the parent, or
whoever comes next, would remove the log under it.
"""

from __future__ import annotations

from polos._location import DatabaseLocation
from polos.exceptions import StoreError

__all__ = ["check", "note"]

_inherited: set[str] = set()


def note(database: DatabaseLocation) -> None:
    """In a child: its parent had this database open when the process was forked."""
    _inherited.add(database.identity)


def check(database: DatabaseLocation) -> None:
    """Raises :class:`StoreError` for a database that was open when this process was forked."""
    if _inherited and database.identity in _inherited:
        raise StoreError(
            f"the database `{database.name}` was in use when this process was forked (a worker was "
            f"running, or a request was under way), and can't be used in it; start it by `spawn` "
            f"or as a program of its own, or fork before the worker starts"
        )
