"""Execute what the core gives on a connection of the application, and judge what comes back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from polos._core.blocking import is_blocking
from polos._transactions.adapter import Adapter
from polos._transactions.recognize import adapter_of
from polos.exceptions import (
    InvalidArgumentError,
    InvalidStateError,
    StoreUnavailableError,
    StoreVersionError,
)

if TYPE_CHECKING:
    from polos._core.request_types import InTransaction, TransactionScript, TransactionStatement
    from polos._core.requests import Request
    from polos.client import PolosClient

__all__ = ["Created", "create_in_transaction"]

# How often to look for the row of another transaction that was committed in between.
_LOOKS_MAX = 3

_FAILED_TRANSACTION = "25P02"


@dataclass(frozen=True)
class Created:
    """The row, whether this call has created it, and if not, whether it equals what was asked."""

    id: str
    is_new: bool
    is_equal: bool


async def create_in_transaction(
    connection: Any,
    client: PolosClient,
    call: str,
    request: Callable[[], Request[InTransaction]],
) -> Created:
    """Create a row on ``connection``.

    :param call: the name of the caller's function, for messages.
    :param request: returns the request for the core, and checks the other arguments.
    """
    _check_database(client, call)
    adapter = adapter_of(connection)
    _check_kind(adapter, call)
    if adapter.dialect != "postgresql":
        raise InvalidArgumentError(
            f"connection: it leads to {adapter.dialect}, and the client's database "
            f"`{client.database}` is PostgreSQL; connect both to the same database, or call "
            f"{_after_the_commit(call)}"
        )
    script = (await client._ask(request()))["script"]
    assert script is not None, "PostgreSQL has such transactions"
    return await _Execution(connection, adapter, client, script).created()


def _check_kind(adapter: Adapter, call: str) -> None:
    function = call.rpartition(".")[2]
    module = "schedules" if call.startswith("schedules") else "runs"
    if adapter.is_async and is_blocking():
        raise InvalidArgumentError(
            f"connection: an `{adapter.name}` has to be awaited: call `await {call}(...)`, or give "
            f"a connection that is not async"
        )
    if not adapter.is_async and not is_blocking():
        raise InvalidArgumentError(
            f"connection: a `{adapter.name}` would block the event loop: call "
            f"`{module}.sync.{function}(...)`, or give an async connection"
        )


def _check_database(client: PolosClient, call: str) -> None:
    if client._location.url is not None:
        return
    reason = (
        "is in memory, which no other connection reaches; test what needs a transaction with "
        "PostgreSQL"
        if client._is_virtual()
        else "is an SQLite file, which has one writer at a time: while a transaction is open, all "
        "workers would wait for it, and lose their runs if that takes long. To create both "
        "together, use PostgreSQL"
    )
    raise InvalidArgumentError(
        f"connection: the client's database `{client.database}` {reason}. Otherwise call "
        f"{_after_the_commit(call)}"
    )


def _after_the_commit(call: str) -> str:
    plain = call.removesuffix("_in")
    key = (
        ""
        if plain.startswith("schedules")
        else ", with an `idempotency_key` if it may be called again"
    )
    return f"`{plain}` after the commit{key}"


class _Execution:
    """One call."""

    def __init__(
        self, connection: Any, adapter: Adapter, client: PolosClient, script: TransactionScript
    ) -> None:
        self._connection = connection
        self._adapter = adapter
        self._client = client
        self._script = script

    async def created(self) -> Created:
        await self._check()
        for _ in range(_LOOKS_MAX):
            row = await self._row(self._script["create"])
            if row is None:
                raise self._another_database("its table `database` is empty")
            is_here, is_known, is_open, new, old, is_equal, _ = row
            if not is_here:
                raise self._another_database("its tables of polos have another id")
            if not is_known:
                raise StoreVersionError(
                    f"a newer release of polos has migrated the database "
                    f"`{self._client.database}`; upgrade polos"
                )
            if not is_open:
                raise InvalidStateError(
                    "connection: no transaction is open, so what polos adds would not belong to "
                    "what the application writes: the connection commits each statement by itself "
                    "(autocommit). Begin a transaction first, with `connection.transaction()`, "
                    "`engine.begin()`, or `transaction.atomic()`"
                )
            if new is not None:
                return Created(new, is_new=True, is_equal=True)
            if old is not None:
                return Created(old, is_new=False, is_equal=is_equal)
        raise StoreUnavailableError(
            "another transaction has just created a row of the same name, which this transaction "
            "can't see yet; roll back and try again"
        )

    async def _check(self) -> None:
        row = await self._row(self._script["check"])
        assert row is not None
        found, allowed, is_read_only, role, database = row[:5]
        schema = self._script["schema"]
        if found < self._script["tables"]:
            raise self._another_database(
                f"its database `{database}` has no tables of this release of polos in the schema "
                f"`{schema}`"
            )
        if allowed < found:
            raise InvalidStateError(
                f"connection: its role `{role}` may not write to the tables of polos: let an "
                f'administrator run `GRANT USAGE ON SCHEMA "{schema}" TO "{role}"; '
                f'GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA "{schema}" TO "{role}"`'
            )
        if is_read_only == "on":
            raise InvalidStateError(
                "connection: its transaction is read-only, or its server is a standby; use a "
                "transaction that may write"
            )

    async def _row(self, statement: TransactionStatement) -> Sequence[Any] | None:
        try:
            return await self._adapter.fetch(self._connection, statement)
        except Exception as error:
            if _sqlstate(error) == _FAILED_TRANSACTION:
                raise InvalidStateError(
                    "connection: its transaction has failed already, and PostgreSQL refuses "
                    "everything until it is rolled back; handle the first error"
                ) from error
            raise

    def _another_database(self, reason: str) -> InvalidArgumentError:
        return InvalidArgumentError(
            f"connection: it leads to another database than the client, "
            f"`{self._client.database}`: {reason}. Connect the client and the application to the "
            f"same database (the client's URL may name another schema of it)"
        )


def _sqlstate(error: BaseException | None) -> str | None:
    """Return the code of the server's error, which may be the cause of that of a wrapper."""
    while error is not None:
        for name in ("sqlstate", "pgcode"):
            code = getattr(error, name, None)
            if isinstance(code, str):
                return code
        error = error.__cause__
    return None
