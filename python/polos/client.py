"""``PolosClient``: names a database and sends all requests to it."""

from __future__ import annotations

import asyncio
import atexit
import json
import os
import threading
import time
import weakref
from collections.abc import Generator
from types import TracebackType
from typing import Any, TypeVar

from typing_extensions import Self

from polos._core import fork_safety as forks
from polos._core import requests
from polos._core.blocking import is_blocking
from polos._core.bridge import ask
from polos._core.location import DatabaseLocation, locate
from polos._core.own_thread import in_own_thread
from polos._core.requests import Request
from polos._core.safe_logging import quiet_logger
from polos._polos import Core
from polos._runtime.current_run import current_run
from polos._runtime.threads import blocked_thread
from polos._validate.formatting import shown
from polos._validate.schedule_options import check_identifier
from polos.exceptions import InvalidArgumentError, ShutdownError

__all__ = ["PolosClient", "checked_client"]

A = TypeVar("A")

_log = quiet_logger("polos.client")

# Time limits for closing, in seconds: usually, and if the database is known not to answer.
_CLOSE_TIMEOUT = 5.0
_CLOSE_TIMEOUT_UNRESPONSIVE = 0.5

# How long a fork waits for requests in progress, in seconds.
_FORK_TIMEOUT = 1.0


class PolosClient:
    """A database of schedules and runs.

    :param database: a path or URL. The default is ``POLOS_DATABASE_URL``, or else the file
        ``polos.db`` in the current folder. A relative path is resolved when the client is created;
        later changes of the current folder have no effect. ``sqlite:///relative.db`` and
        ``sqlite:////absolute/path.db`` also name files; they take no parameters.
        ``postgresql://user@host/database`` (a libpq URL; ``postgres://`` is the same) names a
        PostgreSQL database. Add ``?schema=`` if its tables are not in the schema ``polos``. A
        string that is neither such a URL nor clearly a path is rejected; write a relative path with
        unusual characters with a leading ``./``.
    :param project_id: a namespace. Nothing in one project is visible from another.
    :param durability: ``"full"`` (what was reported as done survives a loss of power) or
        ``"normal"`` (survives the death of the process, but not always a loss of power; faster on
        slow disks).

    A client is cheap to create. It opens the database on first use, and creates it if it does not
    exist. You can use one client from any event loop, from several loops one after another, from
    any thread, or without a loop (``schedules.sync``).

    At a fork polos closes the database, and parent and child open it again when they need it. This
    is impossible while a worker is running or if a request takes more than a second: then the child
    gets :class:`StoreError`.

    Raises :class:`InvalidArgumentError` for arguments that are not valid, including a
    ``POLOS_DATABASE_URL`` that is set but empty. No message shows any part of a password. Opening
    can raise :class:`StoreError` and its subclasses.
    """

    def __init__(
        self,
        database: str | os.PathLike[str] | None = None,
        *,
        project_id: str = "default",
        durability: str = "full",
    ) -> None:
        self._location = self._locate(database)
        self.database = self._location.name
        self.project_id = check_identifier("project_id", project_id)
        if durability not in ("full", "normal"):
            raise InvalidArgumentError(
                f"durability: {shown(durability)} given, expected `full` or `normal`"
            )
        if self._location.url is not None and durability != "full":
            raise InvalidArgumentError(
                "durability: `normal` is for SQLite files; on PostgreSQL commits are always durable"
            )
        self._options: requests.CoreOptions = {
            "project": self.project_id,
            "synchronous": durability,
        }
        # Held during a fork. Reentrant, because a signal handler can fork at any point.
        self._lock = threading.RLock()
        self._core: Core | None = None
        # Current users of the open database: requests and workers.
        self._users: set[object] = set()
        self._workers: set[object] = set()
        self._opener_pid = 0
        self._is_closed = False
        # Set by a worker that could not deregister in time.
        self._is_unresponsive = False
        _open_clients.add(self)

    def __repr__(self) -> str:
        return f"PolosClient({self.database!r}, project_id={self.project_id!r})"

    def _locate(self, database: str | os.PathLike[str] | None) -> DatabaseLocation:
        return locate(database)

    def _opened(self) -> Core:
        """Return the open database; open it on the calling thread if needed."""
        with self._lock:
            if self._is_closed:
                raise ShutdownError("the client is closed; create a new `PolosClient`")
            if self._core is not None and self._opener_pid != os.getpid():
                _parents_cores.append(self._core)
                self._core = None
            if self._core is None:
                forks.check(self._location)
                core = Core(json.dumps({**self._options, **self._location.options()}))
                # `close` waits for the lock only for a limited time, so check again.
                if self._has_closed():
                    core.close()
                    raise ShutdownError("the client was closed while it opened its database")
                self._core = core
                self._opener_pid = os.getpid()
            return self._core

    def _has_closed(self) -> bool:
        return self._is_closed

    def _call(self, request: Request[A], timeout: int | None = None) -> str | None:
        """Send a request and block the calling thread until the answer (JSON) arrives, or until
        ``timeout`` microseconds have passed (``None``).
        """
        user = object()
        with self._lock:
            core = self._opened()
            self._users.add(user)
        try:
            return core.call(request.text, timeout)
        finally:
            self._users.discard(user)

    async def _ask(self, request: Request[A]) -> A:
        """Send a request and return the answer.

        A request from a handler or a step to its worker's database waits while the database is
        unavailable, as recording a step does: an outage fails no run. All other requests raise the
        error at once, and so do changes that are not safe to repeat.
        """
        active = current_run()
        if (
            active is None
            or active.database != self.database
            or not request.is_repeatable
            or (is_blocking() and _is_on_loop())
        ):
            if is_blocking():
                return request.answer_from(self._call(request))
            return await self._ask_once(request)
        if is_blocking():
            return active.waits.wait_here(self._ask(request))
        return await active.requests.through_outages(lambda: self._ask_once(request))

    async def _ask_once(self, request: Request[A]) -> A:
        """Send a request and return the answer; an outage raises an error."""
        user = object()
        try:
            while True:
                self._users.add(user)
                core = self._core
                if core is not None and self._opener_pid == os.getpid() and not self._is_closed:
                    return request.answer_from(await ask(core, request.text))
                # Opening reads the disk, so it must not block the loop.
                self._users.discard(user)
                await in_own_thread(self._opened)
        finally:
            self._users.discard(user)

    async def _ended_run(self, id: str, seconds: float | None) -> dict[str, Any] | None:
        """Wait for a run to complete and return it, or ``None`` after ``seconds``.

        A handler or step that waits holds neither a permit nor a thread of its worker meanwhile,
        because the awaited run may need them.
        """
        active = current_run()
        if active is None or (is_blocking() and _is_on_loop()):
            return await self._end_of_run(id, seconds)
        if is_blocking():
            return active.waits.wait_here(self._ended_run(id, seconds))
        with active.waits.waiting_for_run(id):
            return await self._end_of_run(id, seconds)

    async def _end_of_run(self, id: str, seconds: float | None) -> dict[str, Any] | None:
        request = requests.await_run(id)
        if is_blocking():
            limit = None if seconds is None else max(0, int(seconds * 1_000_000))
            with blocked_thread():
                answer = self._call(request, limit)
            return None if answer is None else request.answer_from(answer)
        if seconds is None:
            return await self._ask(request)
        try:
            return await asyncio.wait_for(self._ask(request), seconds)
        except (TimeoutError, asyncio.TimeoutError):
            return None

    def _before_fork(self) -> None:
        """Close the database, so that the child inherits no SQLite state.

        The next request opens it again. A database that stays in use is left open.
        """
        self._lock.acquire()
        core = self._core
        if core is None or self._is_virtual() or self._opener_pid != os.getpid():
            return
        # New callers block on the lock; in-flight requests finish.
        self._core = None
        deadline = time.monotonic() + _FORK_TIMEOUT
        while self._users and not self._workers and time.monotonic() < deadline:
            time.sleep(0.001)
        if self._users or self._workers:
            self._core = core
        else:
            core.close()

    def _call_within(self, request: Request[A], seconds: float) -> str | None:
        """Send a request and return the answer (JSON), or ``None`` after ``seconds`` in any
        case.
        """
        return self._opened().call_within(request.text, int(seconds * 1_000_000))

    def _after_fork_in_child(self) -> None:
        # The thread that held the lock in the parent may not exist here.
        self._lock = threading.RLock()
        self._users, self._workers = set(), set()
        if self._core is not None and not self._is_virtual():
            forks.note(self._location)

    def _is_virtual(self) -> bool:
        """Whether this client runs in virtual time."""
        return "start" in self._options

    def _now(self) -> int:
        """Return the time of this database's clock, in microseconds since the epoch."""
        return self._opened().now()

    async def aclose(self) -> None:
        """Close the client like :meth:`close`, without blocking the loop."""
        await in_own_thread(self.close)

    def close(self) -> Closed:
        """Finish pending writes and close, within 5 seconds. A second call does nothing.

        If the database does not answer in time, polos stops waiting and logs that.

        This blocks; ``await client.aclose()`` does not. The return value can be awaited, so that
        ``await client.close()`` is not an error.
        """
        self._close_within(_CLOSE_TIMEOUT_UNRESPONSIVE if self._is_unresponsive else _CLOSE_TIMEOUT)
        return _CLOSED

    def _close_within(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        # Another thread holds the lock while it opens a database that does not answer.
        has_lock = self._lock.acquire(timeout=seconds)
        try:
            self._is_closed = True
            core, self._core = self._core, None
        finally:
            if has_lock:
                self._lock.release()
        if core is None:
            return
        if self._opener_pid != os.getpid():
            _parents_cores.append(core)
            return
        left = max(0.0, deadline - time.monotonic())
        if not core.close(int(left * 1_000_000)) and not self._is_unresponsive:
            _log.warning(
                "the database `%s` does not answer; it was closed without waiting, and pending "
                "writes may be lost",
                self.database,
            )

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


class Closed:
    """The return value of :meth:`PolosClient.close`: already done, and awaitable."""

    __slots__ = ()

    def __await__(self) -> Generator[None, None, None]:
        return
        yield


_CLOSED = Closed()


def _is_on_loop() -> bool:
    """Whether an event loop runs in this thread; it must not block on one of its own tasks."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def checked_client(given: Any) -> PolosClient:
    """Return ``given`` if it is a client; raise :class:`InvalidArgumentError` otherwise."""
    if not isinstance(given, PolosClient):
        raise InvalidArgumentError(
            f"client: {shown(given)} given, expected a `PolosClient` as the first argument, before "
            f"what it is asked for; `PolosClient(...)` makes one"
        )
    return given


_open_clients: weakref.WeakSet[PolosClient] = weakref.WeakSet()

# Databases that a parent process opened: closing them here would release the parent's locks.
_parents_cores: list[Core] = []


# Clients whose locks are held during the current fork.
_held: list[PolosClient] = []


def _before_fork() -> None:
    for client in sorted(_open_clients, key=id):
        client._before_fork()
        _held.append(client)


def _after_fork_in_parent() -> None:
    while _held:
        _held.pop()._lock.release()


def _after_fork_in_child() -> None:
    _held.clear()
    for client in list(_open_clients):
        client._after_fork_in_child()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )


@atexit.register
def _close_all() -> None:
    deadline = time.monotonic() + _CLOSE_TIMEOUT
    for client in list(_open_clients):
        client._close_within(max(0.0, deadline - time.monotonic()))
