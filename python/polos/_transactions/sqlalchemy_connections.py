"""Connections and sessions of SQLAlchemy, sync and async."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from polos._transactions.adapter import Adapter, rendered

if TYPE_CHECKING:
    from polos._core.request_types import TransactionStatement

__all__ = ["adapter_of"]


def adapter_of(connection: Any) -> Adapter | None:
    """Return how to use a connection or session of SQLAlchemy; ``None`` if it is none."""
    from sqlalchemy import Connection
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, async_scoped_session
    from sqlalchemy.orm import Session, scoped_session

    if isinstance(connection, AsyncConnection):
        return Adapter("AsyncConnection", True, connection.dialect.name, _fetch_async)
    if isinstance(connection, (AsyncSession, async_scoped_session)):
        return Adapter("AsyncSession", True, _dialect(connection.get_bind()), _fetch_async)
    if isinstance(connection, Connection):
        return Adapter("Connection", False, connection.dialect.name, _fetch)
    if isinstance(connection, (Session, scoped_session)):
        return Adapter("Session", False, _dialect(connection.get_bind()), _fetch)
    return None


def _dialect(bind: Any) -> str:
    name: str = bind.dialect.name
    return name


async def _fetch(connection: Any, statement: TransactionStatement) -> Sequence[Any] | None:
    row = connection.execute(_clause(statement)).first()
    return None if row is None else tuple(row)


async def _fetch_async(connection: Any, statement: TransactionStatement) -> Sequence[Any] | None:
    row = (await connection.execute(_clause(statement))).first()
    return None if row is None else tuple(row)


def _clause(statement: TransactionStatement) -> Any:
    from sqlalchemy import BigInteger, Text, bindparam, text

    sql = rendered(statement, ":p{}".format, lambda text: text.replace(":", "\\:"))
    # Their types, because a dialect may write a cast to the type that it takes a value for.
    parameters = [
        bindparam(f"p{index}", value, type_=BigInteger() if isinstance(value, int) else Text())
        for index, value in enumerate(statement["values"])
    ]
    return text(sql).bindparams(*parameters)
