"""Connections of psycopg 3."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from polos._transactions.adapter import Adapter, rendered

if TYPE_CHECKING:
    from polos._core.request_types import TransactionStatement

__all__ = ["adapter_of"]


def adapter_of(connection: Any) -> Adapter | None:
    """Return how to use a connection of psycopg 3; ``None`` if it is none."""
    import psycopg

    if isinstance(connection, psycopg.AsyncConnection):
        return Adapter("psycopg.AsyncConnection", True, "postgresql", _fetch_async)
    if isinstance(connection, psycopg.Connection):
        return Adapter("psycopg.Connection", False, "postgresql", _fetch)
    return None


async def _fetch(connection: Any, statement: TransactionStatement) -> Sequence[Any] | None:
    from psycopg.rows import tuple_row

    with connection.cursor(row_factory=tuple_row) as cursor:
        row: Sequence[Any] | None = cursor.execute(*_call(statement)).fetchone()
        return row


async def _fetch_async(connection: Any, statement: TransactionStatement) -> Sequence[Any] | None:
    from psycopg.rows import tuple_row

    async with connection.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(*_call(statement))
        row: Sequence[Any] | None = await cursor.fetchone()
        return row


def _call(statement: TransactionStatement) -> tuple[str, dict[str, Any]]:
    sql = rendered(statement, "%(p{})s".format, lambda text: text.replace("%", "%%"))
    return sql, {f"p{index}": value for index, value in enumerate(statement["values"])}
