"""``PolosClient``: which database, and the one way in which anything is asked of it."""

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
from typing import Any

from typing_extensions import Self

from polos import _forks as forks
from polos._blocking import is_blocking
from polos._bridge import ask
from polos._current import current_run
from polos._declaration import check_identifier
from polos._describe import shown
from polos._location import DatabaseLocation, locate
from polos._logging import quiet_logger
from polos._own_thread import in_own_thread
from polos._polos import Core
from polos._threads import blocked_thread
from polos.exceptions import InvalidArgumentError, ShutdownError

__all__ = ["PolosClient", "checked_client"]

_log = quiet_logger("polos.client")

# How long closing may take in seconds, and how long where the database is known not to answer.
_CLOSE_TIMEOUT = 5.0
_CLOSE_TIMEOUT_UNRESPONSIVE = 0.5

# What may be asked again when nobody knows whether it has happened: reads, and changes that are the
# same when they are made twice. (`invoke` has an idempotency key then.)
_REPEATABLE = frozenset(
    {
        "await_run",
        "backfill",
        "cancel_run",
        "claim_stands",
        "coming",
        "create",
        "get_run",
        "get_schedule",
        "history",
        "invoke",
        "list_runs",
        "list_schedules",
        "overview",
        "previous_result",
        "workers",
    }
)

# How long a fork waits for requests that are under way.
_FORK_PATIENCE = 1.0


class PolosClient:
    """A database of schedules and runs.

    :param database: a path or URL. By default ``POLOS_DATABASE_URL``, else the file
        ``polos.db`` in the current folder. A relative path is resolved when the client is made;
        later changes of the current folder don't matter. ``sqlite:///relative.db`` and
        ``sqlite:////absolute/path.db`` name files too, without parameters.
        ``postgresql://user@host/database`` (a URL as libpq reads it; ``postgres://`` is the
        same) names a PostgreSQL database, with ``?schema=`` where its tables are to be elsewhere
        than in the schema ``polos``. A string that is neither a URL of these kinds nor clearly a
        path is refused; a relative path with unusual characters is written with ``./`` before it.
    :param project_id: a namespace; nothing of one project is visible from another.
    :param durability: ``"full"`` (what was reported as done survives loss of power) or
        ``"normal"`` (survives the process, not always loss of power; faster on slow disks).

    Cheap to make: the database is opened, and created where it does not exist, when it is first
    needed. One client may be used from any event loop, several loops one after another, any
    thread, or none (``schedules.sync``). At a fork the database is closed, and parent and child
    open it anew when they need it. Where a worker is running, or a request takes more than a
    second, that can't be: such a child gets :class:`StoreError`.

    Raises :class:`InvalidArgumentError` for arguments that can't be meant, also where
    ``POLOS_DATABASE_URL`` is set and empty. No message shows any part of a password. Opening may
    raise :class:`StoreError` and those under it.
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
        self._options: dict[str, Any] = {
            "project": self.project_id,
            "synchronous": durability,
        }
        # Held through a fork, which a signal handler may do in the middle of anything.
        self._lock = threading.RLock()
        self._core: Core | None = None
        # What uses the open database at the moment: requests, and workers.
        self._users: set[object] = set()
        self._workers: set[object] = set()
        self._opener_pid = 0
        self._is_closed = False
        # Set by a worker that could not sign out in time.
        self._is_unresponsive = False
        _open_clients.add(self)

    def __repr__(self) -> str:
        return f"PolosClient({self.database!r}, project_id={self.project_id!r})"

    def _locate(self, database: str | os.PathLike[str] | None) -> DatabaseLocation:
        return locate(database)

    def _opened(self) -> Core:
        """The open database; opens it if need be, on the calling thread."""
        with self._lock:
            if self._is_closed:
                raise ShutdownError("the client is closed; make a new `PolosClient`")
            if self._core is not None and self._opener_pid != os.getpid():
                _parents_cores.append(self._core)
                self._core = None
            if self._core is None:
                forks.check(self._location)
                core = Core(json.dumps({**self._options, **self._location.options()}))
                # `close` does not wait for the lock without end.
                if self._has_closed():
                    core.close()
                    raise ShutdownError("the client was closed while it opened its database")
                self._core = core
                self._opener_pid = os.getpid()
            return self._core

    def _has_closed(self) -> bool:
        return self._is_closed

    def _call(self, request: str, timeout: int | None = None) -> str | None:
        """The answer to a request, waited for on the calling thread."""
        user = object()
        with self._lock:
            core = self._opened()
            self._users.add(user)
        try:
            return core.call(request, timeout)
        finally:
            self._users.discard(user)

    async def _ask(self, op: str, **fields: Any) -> Any:
        """Make a request; the answer as parsed JSON."""
        return await self._ask_text(json.dumps({op: fields}))

    async def _ask_text(self, request: str) -> Any:
        """As :meth:`_ask`, for a request that is JSON already.

        Made by a handler or a step, to the database of its worker, it waits while the database is
        unavailable, as recording a step does: an outage fails no run. Elsewhere, and where nobody
        could tell whether a change was made twice, the error is raised at once.
        """
        active = current_run()
        is_patient = (
            active is not None
            and active.database == self.database
            and request[2 : request.index('"', 2)] in _REPEATABLE
        )
        if is_blocking():
            if active is not None and is_patient and not _is_on_loop():
                return active.wait_here(self._ask_text(request))
            return json.loads(self._call(request) or "null")
        if active is not None and is_patient:
            return await active.through_outages(lambda: self._ask_once(request))
        return await self._ask_once(request)

    async def _ask_once(self, request: str) -> Any:
        """The answer to a request; an outage is an error."""
        user = object()
        try:
            while True:
                self._users.add(user)
                core = self._core
                if core is not None and self._opener_pid == os.getpid() and not self._is_closed:
                    return json.loads(await ask(core, request))
                # Opening touches the disk, which the loop must not wait for.
                self._users.discard(user)
                await in_own_thread(self._opened)
        finally:
            self._users.discard(user)

    async def _ended_run(self, id: str, seconds: float | None) -> dict[str, Any] | None:
        """The run when it has ended; ``None`` when ``seconds`` pass first.

        Handlers and steps keep nothing meanwhile that the awaited run may need: neither a permit of
        the worker nor a thread of its pools.
        """
        active = current_run()
        if active is None or (is_blocking() and _is_on_loop()):
            return await self._end_of_run(id, seconds)
        if is_blocking():
            return active.wait_here(self._ended_run(id, seconds))
        with active.waiting_for_run(id):
            return await self._end_of_run(id, seconds)

    async def _end_of_run(self, id: str, seconds: float | None) -> dict[str, Any] | None:
        ended: dict[str, Any]
        if is_blocking():
            limit = None if seconds is None else max(0, int(seconds * 1_000_000))
            with blocked_thread():
                answer = self._call(json.dumps({"await_run": {"id": id}}), limit)
            if answer is None:
                return None
            ended = json.loads(answer)
            return ended
        try:
            ended = await asyncio.wait_for(self._ask("await_run", id=id), seconds)
        except (TimeoutError, asyncio.TimeoutError):
            return None
        return ended

    def _before_fork(self) -> None:
        """Close the database, so that the child inherits nothing of SQLite; it is opened anew when
        it is next needed. Where it is in use and stays so, it is left open.
        """
        self._lock.acquire()
        core = self._core
        if core is None or self._is_virtual() or self._opener_pid != os.getpid():
            return
        # Who comes now waits for the lock; who came before gets his answer.
        self._core = None
        deadline = time.monotonic() + _FORK_PATIENCE
        while self._users and not self._workers and time.monotonic() < deadline:
            time.sleep(0.001)
        if self._users or self._workers:
            self._core = core
        else:
            core.close()

    def _call_within(self, request: str, seconds: float) -> str | None:
        """The answer to a request within ``seconds``, whatever the database does, or ``None``."""
        return self._opened().call_within(request, int(seconds * 1_000_000))

    def _after_fork_in_child(self) -> None:
        # The thread that held it when the process was forked may not exist here.
        self._lock = threading.RLock()
        self._users, self._workers = set(), set()
        if self._core is not None and not self._is_virtual():
            forks.note(self._location)

    def _is_virtual(self) -> bool:
        """Whether time is turned by hand."""
        return "start" in self._options

    def _now(self) -> int:
        """The time by this database's clock, in microseconds since the epoch."""
        return self._opened().now()

    async def aclose(self) -> None:
        """Like :meth:`close`, without blocking the loop."""
        await in_own_thread(self.close)

    def close(self) -> Closed:
        """Write what is under way and close, within 5 seconds. A second time does nothing.

        A database that doesn't answer is not waited for any longer; the log says so.

        Blocks; ``await client.aclose()`` doesn't. What it gives can be awaited, so that ``await
        client.close()`` is no error.
        """
        self._close_within(_CLOSE_TIMEOUT_UNRESPONSIVE if self._is_unresponsive else _CLOSE_TIMEOUT)
        return _CLOSED

    def _close_within(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        # Somebody may hold it while a database that doesn't answer is opened.
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
                "the database `%s` does not answer; it was closed without waiting for it, and what "
                "was still to be written may be lost",
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
    """What :meth:`PolosClient.close` gives: done already, and can be awaited."""

    __slots__ = ()

    def __await__(self) -> Generator[None, None, None]:
        return
        yield


_CLOSED = Closed()


def _is_on_loop() -> bool:
    """Whether an event loop runs in this thread: it must not wait for one of its own tasks."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


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


# Those whose locks are held through the fork that is under way.
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
