"""``Worker``: executes the workflows of this process."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from datetime import timedelta
from types import TracebackType
from typing import Any, TypedDict, TypeVar, overload

from typing_extensions import Self, Unpack

from polos import _polos
from polos._backoff import Backoff, duration
from polos._declaration import check_identifier
from polos._describe import shown
from polos._logging import quiet_logger
from polos._own_thread import in_own_thread
from polos._owner import CodeFile, Owner, calling_file, owner_of
from polos._runner import run_to_end
from polos._signals import Signals
from polos._time import micros_of
from polos._worker import Executor
from polos.client import PolosClient
from polos.exceptions import InvalidArgumentError, StoreError, WorkerError
from polos.schedules import declared
from polos.workflow import Workflow, registry

__all__ = ["Worker", "WorkerOptions", "lifespan", "run"]

_log = quiet_logger("polos.worker")

# How long signing in may take before the worker goes on without it (the database is in trouble,
# which has been said, and it will sign in when it can).
_ENTER_PATIENCE = 10.0

# In virtual time nobody else shares the database: nothing to look for, nobody to show a sign of
# life to. Each hour of either would be a turn of the clock, and a year of weekly slots slow.
_NEVER = micros_of(timedelta(days=36_525))

# How often a worker without runs shows that it lives, where there are other workers.
_IDLE_BEAT = micros_of(timedelta(minutes=1))

# How many seconds handlers that were told to stop, and then hooks, may take when the worker closes.
_STOPPING = 1.0
_STOPPING_FORCED = 0.2
_HOOKS = 0.5

# How many seconds all of closing may take after the drain, and after a second signal, where nobody
# answers. A program needs some more for its tasks, its threads, and its client.
_CLOSING = 2.0
_CLOSING_FORCED = 0.7
_PROGRAM_ENDS = 5.0

# Workflows that the line of log names when a worker starts.
_NAMED_MAX = 20


class WorkerOptions(TypedDict, total=False):
    """The options of :class:`Worker`, for what passes them on."""

    app: str | None
    version: str | None
    workflows: Iterable[Workflow[Any, Any]] | None
    concurrency: int
    lease: float | timedelta
    drain: float | timedelta
    threads: int
    retention: timedelta | None


class Worker:
    """Executes the workflows that this process has registered, and no others.

    ``await Worker(client).run()`` works until it is stopped or cancelled; ``async with
    Worker(client):`` works while the block does.

    :param app: the application's name, owner of the schedules that its decorators declare. A
        schedule that it declared earlier is retired when it starts without it, unless a live worker
        of any application declares it. By default the file with its folder: that of the module
        that declares the workflows, or, where there are several, of the module that creates the
        worker (``billing/main.py``). Give programs on one database whose file and folder have the
        same names a name each.
    :param version: of the application's code, compared piece by piece, numbers as numbers
        (``2026.11.3``). Where two live workers declare a schedule differently, the newer version
        counts; without versions, the declaration that was seen first at the later time.
    :param workflows: which of the registered workflows; all by default. A worker with a selection
        retires nothing.
    :param concurrency: most runs that execute at once; what there is no room for stays queued in
        the database, free for other workers. A run that waits for another run, or sleeps for long,
        doesn't count, and continues at once when that is over.
    :param lease: how long a worker that has gone silent keeps its runs before others take over.
    :param drain: how long running handlers may take to finish when the worker stops; what has
        not finished then goes on elsewhere, from its first unfinished step. All of stopping takes
        5 seconds more at most.
    :param threads: most threads for sync handlers, and as many for sync steps; those that wait for
        another run don't count.
    :param retention: how long finished runs, their steps and the history of slots are kept; the
        last 10 runs of each schedule stay whatever their age. ``None`` keeps everything.
    """

    def __init__(
        self,
        client: PolosClient,
        *,
        app: str | None = None,
        version: str | None = None,
        workflows: Iterable[Workflow[Any, Any]] | None = None,
        concurrency: int = 1_000,
        lease: float | timedelta = timedelta(seconds=15),
        drain: float | timedelta = timedelta(seconds=10),
        threads: int = 64,
        retention: timedelta | None = timedelta(days=30),
    ) -> None:
        if not isinstance(client, PolosClient):
            raise InvalidArgumentError(
                f"client: {shown(client)} given, expected a `PolosClient`: `Worker(PolosClient())`"
            )
        self.client = client
        self._app = None if app is None else check_identifier("app", app)
        self._version = None if version is None else check_identifier("version", version)
        self._main_file: CodeFile | None = None
        self._creator = calling_file()
        self._owner: Owner | None = None
        self._workflows = None if workflows is None else _chosen(workflows)
        self._concurrency = _count("concurrency", concurrency)
        self._lease = duration("lease", lease, zero=False)
        if self._lease < timedelta(milliseconds=100):
            raise InvalidArgumentError(f"lease: {lease} given, expected at least 0.1 seconds")
        self._drain = duration("drain", drain, zero=True)
        self._thread_count = _count("threads", threads)
        self._retention = (
            None if retention is None else duration("retention", retention, zero=False)
        )
        self._executor: Executor | None = None
        self._core: _polos.WorkerCore | None = None
        self._stop_asked: asyncio.Event | None = None
        self._forced: asyncio.Event | None = None
        self._signals: Signals | None = None
        # Whether the process is there for this worker only, and ends with it.
        self._ends_process = False
        # In virtual time: whether the runs of others are to be taken over after their lease.
        self._minds_lease = False

    def __repr__(self) -> str:
        state = "running" if self._executor is not None else "stopped"
        return f"<Worker app={self.app!r} of {self.client!r}, {state}>"

    @property
    def app(self) -> str:
        """The application's name, owner of the schedules that its decorators declare."""
        return (self._owner or self._find_owner()).name

    def _find_owner(self) -> Owner:
        workflows = registry() if self._workflows is None else self._workflows
        functions = [workflow.fn for workflow in workflows.values()]
        return owner_of(self._app, self._main_file, self._creator, functions)

    @property
    def is_running(self) -> bool:
        """Whether it has been started and not yet stopped."""
        return self._executor is not None

    # -- start and stop -----------------------------------------------------------------------

    async def start(self) -> None:
        """Sign in and begin. Returns when the worker is known in the database.

        Raises :class:`WorkerError` if it runs already, :class:`StoreError` if the database
        can't be opened, and what :func:`polos.schedules.create` raises for declared schedules.
        """
        if self._executor is not None:
            raise WorkerError("this worker is running already; make another one to have two")
        loop = asyncio.get_running_loop()
        opened = await in_own_thread(self.client._opened)
        workflows = registry() if self._workflows is None else self._workflows
        if self._stop_asked is None:
            self._stop_asked = asyncio.Event()
        if self._forced is None:
            self._forced = asyncio.Event()
        self._owner = self._find_owner()
        self.client._workers.add(self)
        executor = Executor(self.client, dict(workflows), self._thread_count, loop)
        try:
            core = await self._start_core(opened, self._setup(workflows), executor)
        except BaseException:
            self.client._workers.discard(self)
            executor.close()
            raise
        executor.core = self._core = core
        self._executor = executor
        if not self.client._is_virtual():
            await asyncio.wait({executor.entered, executor.over}, timeout=_ENTER_PATIENCE,
                               return_when=asyncio.FIRST_COMPLETED)  # fmt: skip
        _log.info("worker of `%s` started: %s", self.app, self._described(workflows))

    def _described(self, workflows: Mapping[str, Workflow[Any, Any]]) -> str:
        names = sorted(workflows)
        listed = ", ".join(f"`{name}`" for name in names[:_NAMED_MAX])
        more = f" and {len(names) - _NAMED_MAX} more" if len(names) > _NAMED_MAX else ""
        count = f"{len(names)} workflow{'' if len(names) == 1 else 's'}"
        database = f"database `{self.client.database}`, project `{self.client.project_id}`"
        return f"{database}, {count}{': ' if names else ''}{listed}{more}"

    async def _start_core(
        self, opened: _polos.Core, setup: str, executor: Executor
    ) -> _polos.WorkerCore:
        """Start the core's worker. In a thread, since it asks the database, which may hang."""
        if self.client._is_virtual():
            return opened.start_worker(setup, executor.bridge.core)
        lock = threading.Lock()
        is_abandoned = False

        def start() -> _polos.WorkerCore:
            core = opened.start_worker(setup, executor.bridge.core)
            with lock:
                if is_abandoned:
                    core.leave(0)
            return core

        try:
            return await in_own_thread(start)
        except BaseException:
            with lock:  # nobody would execute what it claims
                is_abandoned = True
            raise

    def stop(self) -> None:
        """Ask :meth:`run` to drain and return; asked again, it no longer waits for handlers.

        Call it on the worker's loop; from elsewhere, ``loop.call_soon_threadsafe(worker.stop)``.
        """
        if self._stop_asked is None:
            return
        if self._stop_asked.is_set():
            if self._forced is not None:
                self._forced.set()
            self._release_all()
        self._stop_asked.set()

    async def close(self) -> None:
        """Drain, give back what is left, and sign out. A second time does nothing.

        Takes 5 seconds at most beyond the drain, also while the database doesn't answer. What could
        not be given back then continues elsewhere when the lease has run out; the log says so.
        """
        executor, core = self._executor, self._core
        if executor is None or core is None:
            return
        loop = asyncio.get_running_loop()
        forced = self._forced
        assert forced is not None
        core.drain()
        if not forced.is_set():
            await self._finish(executor, self._drain.total_seconds(), forced)
        deadline = loop.time() + (_CLOSING_FORCED if forced.is_set() else _CLOSING)

        def left(most: float) -> float:
            end = min(deadline, loop.time() + _CLOSING_FORCED) if forced.is_set() else deadline
            return max(0.0, min(most, end - loop.time()))

        executor.is_leaving = True
        self._release_all()
        held_count = len(executor.active)
        stopping = _STOPPING_FORCED if forced.is_set() else _STOPPING
        await self._finish(executor, left(stopping), forced if not forced.is_set() else None)
        if not forced.is_set():
            await executor.finish_hooks(timedelta(seconds=left(_HOOKS)))
        self._executor = self._core = None
        limit = left(_CLOSING)
        if not await in_own_thread(core.leave, int(limit * 1_000_000)):
            self.client._is_unresponsive = True
            _log.error(
                "the worker could not sign out: the database `%s` did not answer within %.1f s. "
                "What it has not given back (%d runs were under way) continues elsewhere when its "
                "lease of %s has run out",
                self.client.database,
                limit,
                held_count,
                self._lease,
            )
        executor.close()
        self.client._workers.discard(self)
        self._forced = None

    async def aclose(self) -> None:
        """The same as :meth:`close`, as ``contextlib.aclosing`` calls it."""
        await self.close()

    async def _finish(
        self, executor: Executor, seconds: float, forced: asyncio.Event | None
    ) -> None:
        """Wait for ``seconds`` at most until no run is under way, or the worker is forced."""
        if not executor.active or seconds <= 0:
            return
        idle = asyncio.Event()
        executor.on_idle = idle.set
        events = [idle] if forced is None else [idle, forced]
        waits = [asyncio.ensure_future(event.wait()) for event in events]
        try:
            await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    def _release_all(self) -> None:
        if self._executor is not None:
            for active in list(self._executor.active.values()):
                active.stop("released")

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def run(self) -> None:
        """Work until :meth:`stop`, a signal, or cancellation; then drain.

        Raises what :meth:`start` raises, and :class:`StoreError` when the database file can't be
        used any more: it is damaged, or was deleted, moved or replaced. Everything else is waited
        out, also what needs somebody to act, such as a rejected login, a missing database, or
        revoked rights: that is logged once at ERROR, and once more when the database works again.

        In the main thread SIGINT, SIGTERM and SIGHUP (unless it is ignored, as under ``nohup``)
        drain. Then the worker ends within the time of the drain and 5 seconds, whatever the
        database and the handlers do; where the event loop is blocked, the process ends without it.
        A second signal stops waiting for handlers, and ends the process within a second; the same
        signal twice within a tenth of a second counts once.
        """
        # First the signals: one that comes while the worker starts must not kill it half-way.
        asked = self._stop_asked = asyncio.Event()
        self._forced = asyncio.Event()
        limit = self._drain.total_seconds() + _PROGRAM_ENDS
        signals = self._signals = Signals(self.stop, limit)
        stopped = asyncio.ensure_future(asked.wait())
        lost: str | None = None
        try:
            if await self._starts_before(stopped):
                assert self._executor is not None
                over = self._executor.over
                await asyncio.wait({stopped, over}, return_when=asyncio.FIRST_COMPLETED)
                lost = self._executor.lost
        finally:
            stopped.cancel()
            try:
                await self.close()
            finally:
                self._stop_asked = None
                signals.close(keep_deadline=self._ends_process)
        if lost is not None:
            raise StoreError(lost)

    async def _starts_before(self, stopped: asyncio.Future[Any]) -> bool:
        """Start; gives up, and returns false, when it is asked to stop first: a database that
        doesn't answer must not keep it from ending.
        """
        starting = asyncio.ensure_future(self.start())
        try:
            await asyncio.wait({starting, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                await starting
                return True
            return False
        finally:
            if not starting.done():
                starting.cancel()
                await asyncio.wait({starting}, timeout=_STOPPING)

    # -- set-up -------------------------------------------------------------------------------

    def _setup(self, workflows: dict[str, Workflow[Any, Any]]) -> str:
        import platform

        from polos._fingerprint import fingerprint

        virtual = self.client._is_virtual()
        return json.dumps(
            {
                "app": self.app,
                "aliases": () if self._owner is None else self._owner.aliases,
                "former": () if self._owner is None else self._owner.former,
                "version": self._version,
                "is_whole": self._workflows is None,
                "about": {
                    "polos": _polos.__version__,
                    "python": platform.python_version(),
                    "tzdata": _polos.tzdb_version(),
                    "host": platform.node(),
                },
                "workflows": {
                    id: {
                        "is_schedulable": workflow.schedulable,
                        "retry_max": workflow.retries,
                        "backoff": _backoff(workflow.backoff),
                        "timeout": None
                        if workflow.timeout is None
                        else micros_of(workflow.timeout),
                        "code": fingerprint(workflow.fn, getattr(self, "_version", None)),
                    }
                    for id, workflow in workflows.items()
                },
                "declared": declared(workflows),
                "concurrency": self._concurrency,
                "lease": _NEVER if virtual and not self._minds_lease else micros_of(self._lease),
                "idle_beat": _NEVER if virtual else _IDLE_BEAT,
                "lead": 0 if virtual else 50_000,
                "lead_per_slot": 0 if virtual else 50,
                "lead_max": 0 if virtual else 1_000_000,
                "poll_interval": _NEVER if virtual else 200_000,
                "retention": None if self._retention is None else micros_of(self._retention),
                "batch_max": 500,
            }
        )


def _chosen(workflows: Any) -> dict[str, Workflow[Any, Any]]:
    if isinstance(workflows, (str, Workflow)) or not isinstance(workflows, Iterable):
        raise InvalidArgumentError(
            f"workflows: {shown(workflows)} given, expected a list of workflows"
        )
    chosen = {}
    for workflow in workflows:
        if not isinstance(workflow, Workflow):
            known = registry().get(workflow) if isinstance(workflow, str) else None
            advice = (
                f"; give the decorated function `{getattr(known.fn, '__name__', workflow)}` itself"
                if known is not None
                else ""
            )
            raise InvalidArgumentError(
                f"workflows: {shown(workflow)} given, expected a workflow, which is what "
                f"`@workflow` makes of a function{advice}"
            )
        chosen[workflow.id] = workflow
    return chosen


def _backoff(backoff: Backoff) -> dict[str, Any]:
    return {
        "initial_us": micros_of(backoff.initial),
        "factor": float(backoff.factor),
        "maximum_us": micros_of(backoff.maximum),
        "jitter": float(backoff.jitter),
    }


def _count(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 1_000_000:
        raise InvalidArgumentError(
            f"{name}: {shown(value)} given, expected a whole number of 1 or more"
        )
    return value


def run(client: PolosClient | None = None, **options: Unpack[WorkerOptions]) -> None:
    """Work until SIGINT, SIGTERM or SIGHUP: for the bottom of a script.

    ``options`` are those of :class:`Worker`. Without ``client``, the default database.

    Raises :class:`WorkerError` where an event loop is running already, and where no workflow is
    registered; otherwise what ``Worker.run`` raises.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        raise WorkerError(
            "polos.run() starts an event loop, and one is running here already; write "
            "`await Worker(client).run()` instead"
        )
    if options.get("workflows") is None and not registry():
        raise WorkerError(
            "polos.run() has nothing to do: no workflow is registered in this process; decorate "
            "functions with `@workflow`, or import the modules that do, before it"
        )
    worker = Worker(client if client is not None else PolosClient(), **options)
    worker._ends_process = True
    try:
        run_to_end(worker.run())
    finally:
        # The script may have something left to do.
        if worker._signals is not None:
            worker._signals.close()


AppT = TypeVar("AppT")
StateT = TypeVar("StateT")


@overload
def lifespan(
    client: PolosClient, own: None = None, **options: Unpack[WorkerOptions]
) -> Callable[[Any], AbstractAsyncContextManager[None]]: ...
@overload
def lifespan(
    client: PolosClient,
    own: Callable[[AppT], AbstractAsyncContextManager[StateT]],
    **options: Unpack[WorkerOptions],
) -> Callable[[AppT], AbstractAsyncContextManager[StateT]]: ...
def lifespan(
    client: PolosClient, own: Any = None, **options: Any
) -> Callable[[Any], AbstractAsyncContextManager[Any]]:
    """A worker for the lifetime of a web application: ``FastAPI(lifespan=polos.lifespan(client))``.

    :param own: the application's own lifespan. It is entered before the worker starts and left when
        the worker has drained, so that handlers have what it opens; what it yields is passed on.
    :param options: those of :class:`Worker`.
    """
    if own is not None and (not callable(own) or hasattr(own, "__aenter__")):
        raise InvalidArgumentError(
            f"lifespan: {shown(own)} given, expected the application's own lifespan: a function "
            f"of the application that `asynccontextmanager` decorates"
        )

    main = calling_file()

    @asynccontextmanager
    async def context(app: Any) -> AsyncIterator[Any]:
        async with AsyncExitStack() as stack:
            state = None if own is None else await stack.enter_async_context(own(app))
            worker = Worker(client, **options)
            worker._main_file = main
            await stack.enter_async_context(worker)
            yield state

    return context
