"""Recognize a connection by its type, without importing a client library that is not in use."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from polos._transactions.adapter import Adapter
from polos._validate.formatting import shown
from polos.exceptions import InvalidArgumentError

__all__ = ["adapter_of"]

# Top-level packages of connections, and the modules that know their connections.
_MODULES = {
    "asyncpg": "asyncpg_connections",
    "django": "django_connections",
    "psycopg": "psycopg_connections",
    "sqlalchemy": "sqlalchemy_connections",
}


def adapter_of(connection: Any) -> Adapter:
    """Return how to use a connection.

    Raises :class:`InvalidArgumentError` for one of another kind.
    """
    for kind in type(connection).__mro__:
        name = _MODULES.get(kind.__module__.partition(".")[0])
        if name is not None:
            module = import_module(f"polos._transactions.{name}")
            find: Callable[[Any], Adapter | None] = module.adapter_of
            adapter = find(connection)
            if adapter is not None:
                return adapter
    raise InvalidArgumentError(
        f"connection: {shown(connection)} given, expected a connection of psycopg 3 or asyncpg, a "
        f"`Connection` or `Session` of SQLAlchemy (sync or async), or a connection of Django"
    )
