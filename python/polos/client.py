"""``PolosClient``: which database, and the one way in which anything is asked of it."""

from __future__ import annotations

import asyncio
import atexit
import json
import os
import threading
import weakref
from datetime import datetime
from types import TracebackType
from typing import Any

from typing_extensions import Self

from polos._blocking import is_blocking
from polos._bridge import ask
from polos._declaration import check_identifier
from polos._describe import shown
from polos._polos import Core
from polos._time import to_micros
from polos.exceptions import InvalidArgumentError, ShutdownError

__all__ = ["PolosClient", "checked_client"]

DATABASE_VARIABLE = "POLOS_DATABASE_URL"
DEFAULT_DATABASE = "polos.db"

_POSTGRES = ("postgresql://", "postgres://")


class PolosClient:
    """A database of schedules and runs.

    :param database: a path or URL. By default ``POLOS_DATABASE_URL``, else the file
        ``polos.db`` in the current folder. ``sqlite:///relative.db`` and
        ``sqlite:////absolute.db`` name files too; ``postgresql://user@host/database`` (as libpq
        has it) names a PostgreSQL database, with ``?schema=`` where its tables are to be
        elsewhere than in the schema ``polos``.
    :param project_id: a namespace; nothing of one project is visible from another.
    :param durability: ``"full"`` (what was reported as done survives loss of power) or
        ``"normal"`` (survives the process, not always loss of power; faster on slow disks).

    Cheap to make: the database is opened, and created where it does not exist, when it is first
    needed. One client may be used from any event loop, several loops one after another, any
    thread, or none (``schedules.sync``). After a fork the child opens the database anew; fork while
    no worker runs in the parent, since a lock that another thread holds at that instant stays held
    in the child.

    Raises :class:`InvalidArgumentError` for arguments that can't be meant. Opening may raise
    :class:`StoreError` and those under it.
    """

    def __init__(
        self,
        database: str | os.PathLike[str] | None = None,
        *,
        project_id: str = "default",
        durability: str = "full",
    ) -> None:
        given = _database(database)
        is_postgres = given.startswith(_POSTGRES)
        self.database = _without_password(given) if is_postgres else given
        self.project_id = check_identifier("project_id", project_id)
        if durability not in ("full", "normal"):
            raise InvalidArgumentError(
                f"durability: {shown(durability)} given, expected `full` or `normal`"
            )
        if is_postgres and durability != "full":
            raise InvalidArgumentError(
                "durability: `normal` is for SQLite files; on PostgreSQL commits are always durable"
            )
        self._options: dict[str, Any] = {
            "project": self.project_id,
            "url" if is_postgres else "path": given,
            "synchronous": durability,
        }
        self._lock = threading.Lock()
        self._core: Core | None = None
        self._opener_pid = 0
        self._is_closed = False
        _open_clients.add(self)

    @classmethod
    def _in_memory(cls, start: datetime, *, project_id: str = "default") -> Self:
        """A client of a database in memory, whose clock is turned by hand."""
        client = cls(":virtual:", project_id=project_id)
        client._options = {"project": project_id, "start": to_micros(start)}
        return client

    def __repr__(self) -> str:
        return f"PolosClient({self.database!r}, project_id={self.project_id!r})"

    def _opened(self) -> Core:
        """The open database; opens it if need be, on the calling thread."""
        with self._lock:
            if self._is_closed:
                raise ShutdownError("the client is closed; make a new `PolosClient`")
            if self._core is None or self._opener_pid != os.getpid():
                if self._core is not None:
                    _parents_cores.append(self._core)
                self._core = Core(json.dumps(self._options))
                self._opener_pid = os.getpid()
            return self._core

    async def _ask(self, op: str, **fields: Any) -> Any:
        """Make a request; the answer as parsed JSON."""
        return await self._ask_text(json.dumps({op: fields}))

    async def _ask_text(self, request: str) -> Any:
        """As :meth:`_ask`, for a request that is JSON already."""
        if is_blocking():
            return json.loads(self._opened().call(request) or "null")
        core = self._core
        if core is None or self._opener_pid != os.getpid() or self._is_closed:
            # Opening touches the disk, which the loop must not wait for.
            core = await asyncio.get_running_loop().run_in_executor(None, self._opened)
        return json.loads(await ask(core, request))

    def _is_virtual(self) -> bool:
        """Whether time is turned by hand."""
        return "start" in self._options

    def _now(self) -> int:
        """The time by this database's clock, in microseconds since the epoch."""
        return self._opened().now()

    async def aclose(self) -> None:
        """Like :meth:`close`, without blocking the loop."""
        await asyncio.get_running_loop().run_in_executor(None, self.close)

    def close(self) -> None:
        """Write what is under way and close. A second time does nothing."""
        with self._lock:
            self._is_closed = True
            core, self._core = self._core, None
        if core is None:
            return
        if self._opener_pid == os.getpid():
            core.close()
        else:
            _parents_cores.append(core)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _database(given: str | os.PathLike[str] | None) -> str:
    """The path that is meant."""
    if given is None:
        given = os.environ.get(DATABASE_VARIABLE) or DEFAULT_DATABASE
    elif not isinstance(given, (str, os.PathLike)):
        raise InvalidArgumentError(
            f"database: {shown(given)} given, expected a path or a URL such as `polos.db`"
        )
    text = os.fsdecode(given)
    scheme, separator, rest = text.partition("://")
    if text.startswith(_POSTGRES) and "\0" not in text:
        return text
    if separator:
        if scheme == "sqlite":
            # sqlite:///relative.db has an empty host, then a path behind the third slash.
            path = rest.removeprefix("/") if not rest.startswith("//") else rest[1:]
            text = path
        else:
            raise InvalidArgumentError(
                f"database: the scheme `{scheme}` isn't known; expected a path, or a URL with "
                f"`sqlite:///` or `postgresql://`"
            )
    if not text or "\0" in text:
        raise InvalidArgumentError(
            f"database: {shown(text)} given, expected a path such as `polos.db`"
        )
    return text


def _without_password(url: str) -> str:
    """What may be shown of a URL: no password, and no parameters, which may hold one."""
    scheme, _, rest = url.partition("://")
    rest = rest.partition("?")[0]
    # The last @ ends the user's part, whatever somebody forgot to spell as %40.
    user, separator, place = rest.rpartition("@")
    return f"{scheme}://{user.partition(':')[0]}{separator}{place}"


def checked_client(given: Any) -> PolosClient:
    """``given`` if it is a client."""
    if not isinstance(given, PolosClient):
        raise InvalidArgumentError(
            f"client: {shown(given)} given, expected a `PolosClient`; it comes first: "
            f"`schedules.create(client, workflow=...)`"
        )
    return given


_open_clients: weakref.WeakSet[PolosClient] = weakref.WeakSet()

# Databases that a parent process opened: closing them here would let go of the parent's locks.
_parents_cores: list[Core] = []


@atexit.register
def _close_all() -> None:
    for client in list(_open_clients):
        client.close()
