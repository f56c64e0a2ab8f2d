"""Connections of asyncpg."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from polos._transactions.adapter import Adapter, rendered

if TYPE_CHECKING:
    from polos._core.request_types import TransactionStatement

__all__ = ["adapter_of"]


def adapter_of(connection: Any) -> Adapter | None:
    """Return how to use a connection of asyncpg, also one of a pool; ``None`` if it is none."""
    import asyncpg
    from asyncpg.pool import PoolConnectionProxy

    if isinstance(connection, (asyncpg.Connection, PoolConnectionProxy)):
        return Adapter("asyncpg.Connection", True, "postgresql", _fetch)
    return None


async def _fetch(connection: Any, statement: TransactionStatement) -> Sequence[Any] | None:
    sql = rendered(statement, lambda index: f"${index + 1}")
    row = await connection.fetchrow(sql, *statement["values"])
    return None if row is None else tuple(row)
