"""Connections of Django."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from polos._transactions.adapter import Adapter, rendered

if TYPE_CHECKING:
    from polos._core.request_types import TransactionStatement

__all__ = ["adapter_of"]


def adapter_of(connection: Any) -> Adapter | None:
    """Return how to use ``django.db.connection`` and its like; ``None`` if it is something else."""
    from django.db.backends.base.base import BaseDatabaseWrapper
    from django.utils.connection import ConnectionProxy

    if isinstance(connection, (BaseDatabaseWrapper, ConnectionProxy)):
        vendor: str = connection.vendor
        return Adapter("Django's connection", False, vendor, _fetch)
    return None


async def _fetch(connection: Any, statement: TransactionStatement) -> Sequence[Any] | None:
    sql = rendered(statement, "%(p{})s".format, lambda text: text.replace("%", "%%"))
    with connection.cursor() as cursor:
        cursor.execute(sql, {f"p{index}": value for index, value in enumerate(statement["values"])})
        row: Sequence[Any] | None = cursor.fetchone()
        return row
