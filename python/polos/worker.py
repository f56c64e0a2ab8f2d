"""``Worker``: executes the workflows of this process."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar, overload

from typing_extensions import Self, Unpack

from polos import _polos
from polos._core import requests
from polos._core.instants import micros_of
from polos._core.own_thread import in_own_thread
from polos._core.safe_logging import quiet_logger
from polos._runtime import counts
from polos._runtime.asyncio_run import run_to_end
from polos._runtime.backoff import Backoff, duration
from polos._runtime.hook_calls import Hook, WorkerHooks
from polos._runtime.middleware import Middleware, MiddlewareChain
from polos._runtime.owner import CodeFile, Owner, calling_file, owner_of
from polos._runtime.signals import Signals
from polos._validate.formatting import shown
from polos._validate.limits import declared_limits
from polos._validate.monitoring import check_address, check_heartbeat_file
from polos._validate.schedule_options import check_identifier
from polos.client import PolosClient
from polos.exceptions import InvalidArgumentError, StoreError, WorkerError
from polos.schedules import declared
from polos.workflow import Workflow, registry

if TYPE_CHECKING:
    from polos._runtime.executor import Executor
    from polos.models import WorkerHealth

__all__ = ["Worker", "WorkerOptions", "lifespan", "run"]

_log = quiet_logger("polos.worker")

# How long `start` waits for the registration, in seconds. After that it returns anyway: the
# database fails, which has been logged, and the worker registers when it can.
_REGISTER_TIMEOUT = 10.0

# In virtual time no other process shares the database, so there is nothing to poll for and no peer
# that needs a heartbeat. Each of these would be a tick, and make a year of weekly slots slow.
_NEVER = micros_of(timedelta(days=36_525))

# Interval of an idle worker's heartbeats, if there are other workers.
_IDLE_HEARTBEAT = micros_of(timedelta(minutes=1))

# Time limits in seconds when the worker closes: for cancelled handlers, and then for hooks.
_STOPPING = 1.0
_STOPPING_FORCED = 0.2
_HOOKS = 0.5
# For processes of steps that have been killed, or that were idle and may clean up.
_PROCESSES = 0.5

# Time limits in seconds for closing as a whole: after the drain, and after a second signal. A
# program needs some more for its tasks, its threads, and its client.
_CLOSING = 2.0
_CLOSING_FORCED = 0.7
_PROGRAM_ENDS = 5.0

# Maximum number of workflows named in the log line about the start of a worker.
_NAMED_MAX = 20


class WorkerOptions(TypedDict, total=False):
    """The options of :class:`Worker`, for functions that pass them on."""

    app: str | None
    version: str | None
    workflows: Iterable[Workflow[Any, Any]] | None
    concurrency: int
    lease: float | timedelta
    drain: float | timedelta
    threads: int
    processes: int | None
    middleware: Iterable[Middleware]
    on_success: Hook | None
    on_failure: Hook | None
    on_missed: Hook | None
    on_skipped: Hook | None
    on_late: Hook | None
    late_after: float | timedelta | None
    retention: timedelta | None
    health: str | None
    stall: float | timedelta
    heartbeat_file: str | os.PathLike[str] | None


class Worker:
    """Executes the workflows that this process has registered, and no others.

    ``await Worker(client).run()`` runs until it is stopped or cancelled. ``async with
    Worker(client):`` runs as long as the block.

    :param app: the application's name, which owns the schedules that its decorators declare. If the
        application starts without a schedule that it declared earlier, polos retires the schedule,
        unless a live worker of any application declares it. The default is the file with its folder
        (``billing/main.py``): that of the module that declares the workflows, or, if there are
        several, of the module that creates the worker. Give each program a name if programs on one
        database have the same file and folder names.
    :param version: the version of the application's code, compared part by part, numbers as numbers
        (``2026.11.3``). If two live workers declare a schedule differently, the newer version wins;
        without versions, the declaration that was first seen later.
    :param workflows: which of the registered workflows to execute; all by default. A worker with a
        selection retires nothing.
    :param concurrency: the maximum number of runs that execute at once. Further runs stay queued in
        the database, where other workers can claim them. A run that waits for another run, or
        sleeps for long, does not count, and continues at once afterward.
    :param lease: how long a worker without heartbeats keeps its runs before others take over.
        Seconds (at least 0.1) or ``timedelta``.
    :param drain: how long running handlers may take to finish when the worker stops, in seconds or
        as ``timedelta``. Unfinished runs then continue elsewhere, from their first unfinished step.
        The whole shutdown takes at most 5 seconds more.
    :param threads: the maximum number of threads for sync handlers, and separately for sync steps.
        Threads that wait for another run do not count.
    :param processes: the maximum number of processes for steps with ``process=True``; by default
        the number of processors. They start when they are needed, and end when they are idle.
    :param middleware: functions around every entry of a handler, the outermost first: ``async def
        middleware(call_next, ctx)`` returns ``await call_next()``. One that is not async surrounds
        sync handlers only, in their thread. A run that is resumed or retried is entered again. If
        one is an object with methods ``on_success``, ``on_failure``, ``on_missed``, ``on_skipped``,
        or ``on_late``, these are called as the next parameters are.
    :param on_success: called as the ``on_success`` of :func:`workflow` is, for all workflows.
    :param on_failure: the same for ``on_failure``.
    :param on_missed: the same for ``on_missed``.
    :param on_skipped: the same for ``on_skipped``.
    :param on_late: the same for ``on_late``, for all workflows that have a ``late_after``.
    :param late_after: the ``late_after`` of workflows that have none of their own.
    :param retention: how long to keep finished runs, their steps, and the history of slots. The
        last 10 runs of each schedule are kept forever, except for one-off schedules (``at``) that
        were created through the API: they are deleted with their runs and their history. ``None``
        keeps everything.
    :param health: where to answer probes: ``HOST:PORT``. ``/livez`` and ``/readyz`` answer 200, or
        503 and a sentence, from a thread of the core that neither a handler nor the database can
        delay. Port 0 takes a free one (:attr:`health_address`). In virtual time there are no
        probes, and this has no effect.
    :param stall: how long the event loop may be blocked before the worker is no longer live, in
        seconds or as ``timedelta``.
    :param heartbeat_file: a file that the same thread writes every 5 seconds, or more often, while
        the worker is live, for probes that look at its age. It is removed when the worker has
        stopped.
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
        processes: int | None = None,
        middleware: Iterable[Middleware] = (),
        on_success: Hook | None = None,
        on_failure: Hook | None = None,
        on_missed: Hook | None = None,
        on_skipped: Hook | None = None,
        on_late: Hook | None = None,
        late_after: float | timedelta | None = None,
        retention: timedelta | None = timedelta(days=30),
        health: str | None = None,
        stall: float | timedelta = timedelta(seconds=30),
        heartbeat_file: str | os.PathLike[str] | None = None,
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
        self._process_count = None if processes is None else _count("processes", processes)
        self._middleware = MiddlewareChain(middleware)
        self._hooks = WorkerHooks(
            self._middleware.given,
            on_success=on_success,
            on_failure=on_failure,
            on_missed=on_missed,
            on_skipped=on_skipped,
            on_late=on_late,
        )
        self._late_after = (
            None if late_after is None else duration("late_after", late_after, zero=False)
        )
        self._retention = (
            None if retention is None else duration("retention", retention, zero=False)
        )
        self._health = None if health is None else check_address(health)
        self._stall = duration("stall", stall, zero=False)
        self._heartbeat_file = (
            None if heartbeat_file is None else check_heartbeat_file(heartbeat_file)
        )
        self._executor: Executor | None = None
        self._core: _polos.WorkerCore | None = None
        self._stop_asked: asyncio.Event | None = None
        self._forced: asyncio.Event | None = None
        self._signals: Signals | None = None
        # Whether the process exists only for this worker and ends with it.
        self._ends_process = False
        self._has_banner = False  # whether the command line prints one of its own
        # In virtual time: whether to take over the runs of other workers after their lease.
        self._minds_lease = False

    def __repr__(self) -> str:
        state = "running" if self._executor is not None else "stopped"
        return f"<Worker app={self.app!r} of {self.client!r}, {state}>"

    @property
    def app(self) -> str:
        """The application's name, which owns the schedules that its decorators declare."""
        return (self._owner or self._find_owner()).name

    def _find_owner(self) -> Owner:
        workflows = registry() if self._workflows is None else self._workflows
        functions = [workflow.fn for workflow in workflows.values()]
        return owner_of(self._app, self._main_file, self._creator, functions)

    @property
    def is_running(self) -> bool:
        """Whether it has been started and not yet stopped."""
        return self._executor is not None

    def health(self) -> WorkerHealth:
        """Return whether the worker is live and ready, as its probes say. Never blocks, and may be
        called from any thread.
        """
        from polos.models import WorkerHealth

        core = self._core
        if core is None:
            return WorkerHealth._of_none()
        return WorkerHealth._from_core(json.loads(core.health()))

    @property
    def health_address(self) -> str | None:
        """``HOST:PORT`` where the worker answers probes now, with the port that it has got."""
        return None if self._core is None else self._core.health_address()

    # -- start and stop -----------------------------------------------------------------------

    async def start(self) -> None:
        """Register the worker and start. Returns when the worker is registered in the database.

        Raises :class:`WorkerError` if it is already running, :class:`StoreError` if the database
        cannot be opened, :class:`InvalidArgumentError` if it cannot listen at ``health`` or write
        ``heartbeat_file``, and what :func:`polos.schedules.create` raises for declared schedules.
        """
        if self._executor is not None:
            raise WorkerError("this worker is already running; create another one to run two")
        loop = asyncio.get_running_loop()
        opened = await in_own_thread(self.client._opened)
        workflows = registry() if self._workflows is None else self._workflows
        if self._stop_asked is None:
            self._stop_asked = asyncio.Event()
        if self._forced is None:
            self._forced = asyncio.Event()
        self._owner = self._find_owner()
        self.client._workers.add(self)
        # Only here, because many processes that import polos start no worker.
        from polos._runtime.executor import Executor
        from polos._runtime.processes.pool import default_size

        executor = Executor(
            self.client,
            dict(workflows),
            self._thread_count,
            default_size() if self._process_count is None else self._process_count,
            self._middleware,
            self._hooks,
            loop,
        )
        try:
            core = await self._start_core(opened, self._setup(workflows), executor)
        except BaseException:
            self.client._workers.discard(self)
            executor.close()
            raise
        self._core, self._executor = core, executor
        executor.begin(core)
        counts.track(self, core)
        if not self.client._is_virtual():
            await asyncio.wait({executor.registered, executor.over}, timeout=_REGISTER_TIMEOUT,
                               return_when=asyncio.FIRST_COMPLETED)  # fmt: skip
        self._announce(f"worker of `{self.app}` started: {self._described(workflows)}")
        if self.health_address is not None and not self._has_banner:
            _log.info("probes are answered at http://%s", self.health_address)

    def _announce(self, text: str) -> None:
        """Log that it has started. On a terminal that doesn't show such lines, print it."""
        _log.info("%s", text)
        is_shown = self._has_banner or logging.getLogger("polos.worker").isEnabledFor(logging.INFO)
        if is_shown or self.client._is_virtual():
            return
        with suppress(Exception):  # a closed or odd stream is no reason not to work
            if sys.stderr.isatty():
                sys.stderr.write(f"polos {_polos.__version__}: {text}\n")
                sys.stderr.flush()

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
        """Start the core's worker, in a thread, because the database can hang."""
        if self.client._is_virtual():
            return opened.start_worker(setup, executor.bridge.core)
        lock = threading.Lock()
        is_abandoned = False

        def start() -> _polos.WorkerCore:
            core = opened.start_worker(setup, executor.bridge.core)
            with lock:
                if is_abandoned:
                    core.deregister(0)
            return core

        try:
            return await in_own_thread(start)
        except BaseException:
            with lock:  # no executor is left for the runs that it would claim
                is_abandoned = True
            raise

    def stop(self) -> None:
        """Make :meth:`run` drain and return. A second call ends the wait for handlers.

        Call it on the worker's loop. From another thread, use
        ``loop.call_soon_threadsafe(worker.stop)``.
        """
        if self._stop_asked is None:
            return
        if self._stop_asked.is_set():
            if self._forced is not None:
                self._forced.set()
            self._release_all()
        self._stop_asked.set()

    async def close(self) -> None:
        """Drain, release unfinished runs, and deregister. A second call does nothing.

        This takes at most 5 seconds beyond the drain, even if the database does not answer. Runs
        that could not be released then continue elsewhere when the lease has run out; the log says
        so.
        """
        executor, core = self._executor, self._core
        if executor is None or core is None:
            return
        loop = asyncio.get_running_loop()
        forced = self._forced
        assert forced is not None
        core.drain()
        if not forced.is_set():
            drained_by = loop.time() + self._drain.total_seconds()
            await self._finish(executor, self._drain.total_seconds(), forced)
            left_to_drain = timedelta(seconds=max(0.0, drained_by - loop.time()))
            await executor.hooks.finish(left_to_drain, forced)
        deadline = loop.time() + (_CLOSING_FORCED if forced.is_set() else _CLOSING)

        def left(most: float) -> float:
            end = min(deadline, loop.time() + _CLOSING_FORCED) if forced.is_set() else deadline
            return max(0.0, min(most, end - loop.time()))

        executor.is_deregistering = True
        # A run that the core has stopped already ends for that reason.
        executor.bridge.drain()
        self._release_all()
        held_count = len(executor.active)
        if forced.is_set():
            executor.processes.close()
        stopping = _STOPPING_FORCED if forced.is_set() else _STOPPING
        await self._finish(executor, left(stopping), forced if not forced.is_set() else None)
        # Before other workers get the runs: nothing of their steps may execute here any more.
        executor.processes.close()
        await executor.processes.ended(left(_PROCESSES))
        # Deregistering releases what has not been reported, and these are to end.
        for active in list(executor.active.values()):
            if active.stop_reason == "timed_out" or active.stop_reason == "cancelled":
                active.give_up()
        if not forced.is_set():
            await executor.hooks.finish(timedelta(seconds=left(_HOOKS)))
        self._executor = self._core = None
        limit = left(_CLOSING)
        if not await in_own_thread(core.deregister, int(limit * 1_000_000)):
            self.client._is_unresponsive = True
            _log.error(
                "the worker could not deregister: the database `%s` did not answer within %.1f s. "
                "Runs that it has not released (%d were in progress) continue elsewhere when its "
                "lease of %s has run out",
                self.client.database,
                limit,
                held_count,
                self._lease,
            )
        counts.forget(self)
        executor.close()
        self.client._workers.discard(self)
        self._forced = None

    async def aclose(self) -> None:
        """Do what :meth:`close` does, for ``contextlib.aclosing``."""
        await self.close()

    async def _finish(
        self, executor: Executor, seconds: float, forced: asyncio.Event | None
    ) -> None:
        """Wait at most ``seconds`` until no run is in progress, or until ``forced`` is set."""
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
        """Run until :meth:`stop`, a signal, or cancellation; then drain.

        Raises what :meth:`start` raises, and :class:`StoreError` if the database file is no longer
        usable because it is damaged, or was deleted, moved, or replaced. The worker waits out every
        other failure, including those that an administrator has to fix, such as a rejected login, a
        missing database, or revoked privileges. It logs such a failure once at ERROR, and once more
        when the database works again.

        In the main thread, SIGINT, SIGTERM, and SIGHUP (unless ignored, as under ``nohup``) drain
        the worker. It then ends within the drain plus 5 seconds, whatever the database and the
        handlers do; if the event loop is blocked, the core ends the process. A second signal ends
        the wait for handlers and, within a second, the process. The same signal within a tenth of a
        second counts once.
        """
        # Install signal handlers first: a signal during the start must not kill the process.
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
        """Start, and return whether that succeeded before a request to stop.

        A database that does not answer must not prevent the worker from stopping.
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

        virtual = self.client._is_virtual()
        owner = self._owner
        limits, limit_of = declared_limits(workflows)
        setup: requests.WorkerSetup = {
            "app": self.app,
            "aliases": () if owner is None else owner.aliases,
            "former": () if owner is None else owner.former,
            "version": self._version,
            "is_whole": self._workflows is None,
            "about": {
                "polos": _polos.__version__,
                "python": platform.python_version(),
                "tzdata": _polos.tzdb_version(),
                "host": platform.node(),
            },
            "workflows": {
                id: self._workflow_setup(workflow, limit_of.get(id))
                for id, workflow in workflows.items()
            },
            "declared": declared(workflows),
            "limits": limits,
            "concurrency": self._concurrency,
            "lease": _NEVER if virtual and not self._minds_lease else micros_of(self._lease),
            "idle_heartbeat": _NEVER if virtual else _IDLE_HEARTBEAT,
            "lead": 0 if virtual else 50_000,
            "lead_per_slot": 0 if virtual else 50,
            "lead_max": 0 if virtual else 1_000_000,
            "poll_interval": _NEVER if virtual else 200_000,
            "retention": None if self._retention is None else micros_of(self._retention),
            "batch_max": 500,
            "monitor": {
                "health": None if virtual else self._health,
                "stall": micros_of(self._stall),
                "heartbeat_file": None if virtual else self._heartbeat_file,
            },
        }
        return json.dumps(setup)

    def _workflow_setup(
        self, workflow: Workflow[Any, Any], limit: str | None
    ) -> requests.WorkflowSetup:
        from polos._runtime.code_fingerprint import fingerprint

        late_after = workflow.late_after or self._late_after
        return {
            "is_schedulable": workflow.schedulable,
            "retry_max": workflow.retries,
            "backoff": _backoff(workflow.backoff),
            "timeout": None if workflow.timeout is None else micros_of(workflow.timeout),
            "code": fingerprint(workflow.fn, self._version),
            "limit": limit,
            "priority": workflow.priority,
            "hooks": {
                "skipped": self._hooks.includes("on_skipped", workflow),
                "missed": self._hooks.includes("on_missed", workflow),
                "late_after_us": None if late_after is None else micros_of(late_after),
                "succeeded": self._hooks.includes("on_success", workflow),
                "failed": self._hooks.includes("on_failure", workflow),
            },
        }


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
                f"; pass the decorated function `{getattr(known.fn, '__name__', workflow)}` itself"
                if known is not None
                else ""
            )
            raise InvalidArgumentError(
                f"workflows: {shown(workflow)} given, expected a function decorated with "
                f"`@workflow`{advice}"
            )
        chosen[workflow.id] = workflow
    return chosen


def _backoff(backoff: Backoff) -> requests.BackoffSetup:
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
    """Run a worker until SIGINT, SIGTERM, or SIGHUP. Call it at the bottom of a script.

    ``options`` are those of :class:`Worker`. Without ``client``, it uses the default database.

    Raises :class:`WorkerError` if an event loop is already running or no workflow is registered,
    and what ``Worker.run`` raises.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        raise WorkerError(
            "polos.run() starts an event loop, but one is already running here; write "
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
        # The script may continue after this call.
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
    """Run a worker as long as a web application: ``FastAPI(lifespan=polos.lifespan(client))``.

    :param own: the application's own lifespan. It is entered before the worker starts and left
        after the worker has drained, so that handlers can use what it opens. What it yields is
        passed on.
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
