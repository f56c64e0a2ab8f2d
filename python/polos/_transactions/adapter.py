"""What every kind of connection has to be able to do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from polos._core.request_types import TransactionStatement

__all__ = ["Adapter", "Value", "rendered"]

Value = str | int | None


class Fetch(Protocol):
    """Executes a statement that returns at most one row, and returns that row."""

    async def __call__(
        self, connection: Any, statement: TransactionStatement, /
    ) -> Sequence[Any] | None: ...


@dataclass(frozen=True)
class Adapter:
    """A kind of connection.

    ``name`` is its class, for messages. ``is_async`` is whether executing has to be awaited;
    otherwise ``fetch`` blocks, and never suspends. ``dialect`` is the database at the other end.
    """

    name: str
    is_async: bool
    dialect: str
    fetch: Fetch


def rendered(
    statement: TransactionStatement,
    placeholder: Callable[[int], str],
    escape: Callable[[str], str] = str,
) -> str:
    """Return the SQL of a statement in the style of a client library.

    :param placeholder: returns what stands for the value with an index.
    :param escape: spells SQL such that nothing in it looks like a placeholder.
    """
    return "".join(
        escape(part) if isinstance(part, str) else placeholder(part) for part in statement["parts"]
    )
