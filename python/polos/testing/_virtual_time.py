"""``VirtualTime``: a clock that a test advances, and a worker that uses it."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta, tzinfo
from typing import TYPE_CHECKING, Any, cast

from typing_extensions import Unpack

from polos import runs, schedules
from polos._core import requests
from polos._core.instants import aware, from_micros, micros_of, to_micros
from polos._core.real_datetime import datetime
from polos._runtime.active_run import ActiveRun
from polos._runtime.current_run import current_run
from polos._runtime.executor import Executor
from polos._validate.formatting import shown
from polos.exceptions import InvalidArgumentError, InvalidStateError, StoreUnavailableError
from polos.models import LedgerEntry, LedgerStatus, Run, Schedule, StepInfo, StepStatus
from polos.runs import RunHandle
from polos.testing._client import VirtualClient
from polos.testing._faults import Fault, Moment, error_of, moment_of, workflow_id
from polos.testing._faulty_core import FaultyCore
from polos.worker import Worker, WorkerOptions
from polos.workflow import Workflow

if TYPE_CHECKING:
    from polos._polos import WorkerCore

__all__ = ["VirtualTime"]

# How long a handler may be busy with something other than time before virtual time advances without
# it, if a timeout is running that could end it. In real seconds.
_TIMEOUT = 0.1

# How long virtual time waits for a handler at most, or for an awaited run. In real seconds.
_TIMEOUT_MAX = 30.0

# How often to check whether a busy handler has started a run that it waits for. In real seconds.
_LOOK = 0.005

# Deadlines further away than this are internal to the engine: in virtual time it sends a heartbeat
# every 33 years and refreshes its peers once a century.
_NEVER_US = micros_of(timedelta(days=12_000))

# An outage longer than this makes slots that came due in it late. (The engine's `AWAY_MIN`.)
_UNWATCHED_US = micros_of(timedelta(seconds=1.001))

_ENDED = ("succeeded", "failed", "cancelled")

_PAGE = 1_000

AnyWorkflow = Workflow[Any, Any] | str


class VirtualTime:
    """A clock that the test advances, with a worker that uses it. Created by :func:`clock`."""

    def __init__(
        self, start: datetime, *, project_id: str = "default", options: WorkerOptions
    ) -> None:
        self._client = VirtualClient(start, project_id=project_id)
        self._client.passing = self
        self._options: WorkerOptions = {"retention": None, **options}
        self._zone: tzinfo | None = start.tzinfo
        self._faults = self._client.faults
        self._worker: Worker | None = None
        self._core: FaultyCore | None = None
        self._crashed_at: datetime | None = None
        self._dead: list[WorkerCore] = []
        self._dying: set[asyncio.Task[Any]] = set()
        self._was_unwatched = False
        self._is_begun = False
        self._is_ended = False
        self._turn_lock = asyncio.Lock()
        self._nudges_seen = 0
        self._hanging: weakref.WeakSet[ActiveRun] = weakref.WeakSet()
        self.loop: asyncio.AbstractEventLoop | None = None

    # -- access ------------------------------------------------------------------------------

    @property
    def client(self) -> VirtualClient:
        """The client of the database, for :mod:`polos.schedules`, :mod:`polos.runs`, and
        ``Workflow.run``.

        Awaiting a result (``handle.result()``, ``workflow.run(t.client)``) advances time until the
        run has completed.
        """
        return self._client

    @property
    def worker(self) -> Worker:
        """The worker. Raises :class:`InvalidStateError` if none is running."""
        if self._worker is None:
            raise InvalidStateError(f"no worker runs: {self._why_no_worker()}")
        return self._worker

    @property
    def now(self) -> datetime:
        """The time on the clock, in the zone of its start."""
        return self._at(self._client._now())

    async def runs(self, **filters: Any) -> list[Run]:
        """Return runs, oldest first.

        The filters are those of :func:`polos.runs.list`: ``workflow=``, ``key=``, ``schedule=``,
        ``status=``, ``since=``.
        """
        await self._begin()
        with self._client.looking():
            return (await runs.list(self._client, limit=None, **filters))[::-1]

    async def steps(
        self,
        run: Run | RunHandle[Any] | str | None = None,
        *,
        name: str | None = None,
        status: StepStatus | None = None,
        **filters: Any,
    ) -> list[StepInfo]:
        """Return the recorded steps of ``run``, or of all runs that match ``filters``.

        The filters are those of :meth:`runs`. The steps are in the order in which they started.
        """
        if run is None:
            ids = [found.id for found in await self.runs(**filters)]
        elif filters:
            given = ", ".join(f"`{filter}`" for filter in filters)
            raise InvalidArgumentError(f"steps: {given} and a run given; pass only one of them")
        else:
            ids = [run if isinstance(run, str) else run.id]
        found: list[StepInfo] = []
        with self._client.looking():
            for id in ids:
                found += (await runs.get(self._client, id)).steps
        return [
            step for step in found if name in (None, step.name) and status in (None, step.status)
        ]

    async def schedules(self, **filters: Any) -> list[Schedule]:
        """Return schedules. The filters are those of :func:`polos.schedules.list`."""
        await self._begin()
        with self._client.looking():
            return await schedules.list(self._client, limit=None, **filters)

    async def ledger(
        self,
        schedule: Schedule | str | None = None,
        *,
        status: LedgerStatus | None = None,
        **filters: Any,
    ) -> list[LedgerEntry]:
        """Return the outcome of each slot, oldest first.

        Of one schedule (or its id), or of all schedules that match ``filters`` (``workflow=``,
        ``key=``, as in :func:`polos.schedules.list`).
        """
        await self._begin()
        if schedule is None:
            ids = [found.id for found in await self.schedules(**filters)]
        else:
            ids = [schedule.id if isinstance(schedule, Schedule) else schedule]
        found: list[LedgerEntry] = []
        with self._client.looking():
            for id in ids:
                before: datetime | None = None
                while True:
                    page = await schedules.history(self._client, id, limit=_PAGE, before=before)
                    found += page
                    if len(page) < _PAGE:
                        break
                    before = page[-1].timestamp
        # Sort by instant: times of one zone compare by the wall clock, which repeats some hours.
        found.sort(key=lambda entry: to_micros(entry.timestamp))
        return [entry for entry in found if status in (None, entry.status)]

    # -- time ---------------------------------------------------------------------------------

    async def advance(self, delta: timedelta | None = None, **parts: float) -> None:
        """Advance time by ``delta``, or by ``weeks=``, ``days=``, ``hours=``, ``minutes=``,
        ``seconds=``.

        Raises ``TimeoutError`` if a handler is busy for more than 30 real seconds.
        """
        step = delta if delta is not None else timedelta(**parts)
        if step < timedelta(0):
            raise InvalidArgumentError(f"advance: {step} given, expected 0 or more")
        async with self._exclusive():
            await self._advance_to(self._client._now() + micros_of(step))

    async def advance_to(self, instant: datetime | str) -> None:
        """Advance time to ``instant``: an aware datetime, or its ISO text."""
        target = aware("instant", parsed("instant", instant))
        async with self._exclusive():
            await self._advance_to(target)

    async def set_to(self, instant: datetime | str) -> None:
        """Set the wall clock to ``instant`` (aware), forward or back, like a clock correction.

        No time passes, so sleeps, timeouts, and retries in progress take as long as before. When
        the clock is set forward, slots in between are late, and ``catch_up`` decides about them.
        """
        target = aware("instant", parsed("instant", instant))
        async with self._exclusive():
            await self._settle()
            self._client._opened().set_wall(target)
            await self._settle()

    # -- the worker ---------------------------------------------------------------------------

    async def crash(self) -> None:
        """Crash the worker at once, as ``kill -9`` does.

        Nothing that its handlers still do is recorded, and its runs stay claimed until
        :meth:`restart`. Time can pass without a worker. You can call this while another task
        advances time.

        This process continues, so handlers are cancelled and their ``finally`` blocks run; after a
        real ``kill -9`` they would not.
        """
        self._refuse_handlers("crash")
        await self._begin()
        if self._worker is None:
            raise InvalidStateError(f"no worker runs: {self._why_no_worker()}")
        self._crash()
        await self._expire()

    async def stop(self) -> None:
        """Stop the worker as a deploy does: it releases its runs and deregisters."""
        async with self._exclusive():
            await self._settle()
            await self._close_worker()

    async def restart(self, *, elsewhere: bool = False, **options: Unpack[WorkerOptions]) -> None:
        """Start a new worker with the workflows that are registered now.

        A running worker is stopped first. The runs of a crashed worker continue at once, as on the
        same machine.

        :param elsewhere: start the worker as on another machine: the runs of a crashed worker
            continue when its lease has run out, 15 seconds by default (``lease=``).
        :param options: those of :class:`polos.Worker`; they override those of :func:`clock`.
        """
        self._refuse_handlers("restart")
        async with self._turn_lock:
            await self._close_worker()
            if not elsewhere:
                for core in self._dead:
                    core.deregister(0)
                self._dead.clear()
            await self._start_worker({**self._options, **options})
            await self._settle()

    # -- faults -------------------------------------------------------------------------------

    def fail_step(
        self,
        name: str,
        *,
        times: int = 1,
        error: BaseException | type[BaseException] | None = None,
        workflow: AnyWorkflow | None = None,
    ) -> Fault:
        """Make the next ``times`` executions of step ``name`` raise ``error`` (by default a
        ``ConnectionError``) instead of calling its function.
        """
        what = f"fail_step({name!r})"
        made = error_of(error, lambda: ConnectionError(f"step `{name}` fails in this test"))
        return self._faults.add(
            Fault(what, "step", times, step=name, workflow=workflow_id(workflow), error=made)
        )

    def fail_run(
        self,
        workflow: AnyWorkflow,
        *,
        times: int = 1,
        error: BaseException | type[BaseException] | None = None,
    ) -> Fault:
        """Make the next ``times`` executions of a workflow raise ``error`` (by default a
        ``RuntimeError``) instead of calling its handler.
        """
        id = workflow_id(workflow)
        made = error_of(error, lambda: RuntimeError(f"workflow `{id}` fails in this test"))
        return self._faults.add(Fault(f"fail_run({id!r})", "run", times, workflow=id, error=made))

    def crash_at(
        self,
        step: str | None = None,
        *,
        workflow: AnyWorkflow | None = None,
        when: Moment = "before_commit",
        times: int = 1,
    ) -> Fault:
        """Make the worker crash (as in :meth:`crash`) when it reaches ``step``.

        Without a step, it crashes at a handler's end, or (``"before_call"``) at its beginning.

        :param when: ``"before_call"``: the function is not called; ``"before_commit"``: it has
            returned and its result is not recorded, so it will be called again;
            ``"after_commit"``: the result is recorded, and the handler has not received it.
        """
        where = [repr(step)] if step is not None else []
        where += [f"workflow={workflow_id(workflow)!r}"] if workflow is not None else []
        fault = Fault(
            f"crash_at({', '.join([*where, f'when={when!r}'])})",
            "crash",
            times,
            moment=moment_of(when),
            workflow=workflow_id(workflow),
            step=step,
        )
        return self._faults.add(fault)

    def fail_requests(
        self,
        op: str | None = None,
        *,
        times: int = 1,
        when: Moment = "before_commit",
        error: BaseException | type[BaseException] | None = None,
    ) -> Fault:
        """Make the next ``times`` requests through :attr:`client` raise ``error`` (by default a
        :class:`StoreUnavailableError`).

        :param op: only requests of one kind, such as ``"invoke"``, ``"create"``, ``"get_run"``.
        :param when: ``"before_commit"``: the request had no effect; ``"after_commit"``: it took
            effect, and the answer is lost.
        """
        moment = moment_of(when)
        if moment == "before_call":
            raise InvalidArgumentError(
                "when: `before_call` given, expected one of `before_commit`, `after_commit`"
            )
        what = f"fail_requests({'' if op is None else repr(op) + ', '}when={when!r})"
        text = "the database does not answer: a fault of this test (`fail_requests`)"
        made = error_of(error, lambda: StoreUnavailableError(text))
        return self._faults.add(Fault(what, "request", times, moment=moment, step=op, error=made))

    @contextmanager
    def outage(self) -> Iterator[None]:
        """Make the database unavailable inside the block.

        No slot comes due and no run starts. The test's own requests through :attr:`client` raise
        :class:`StoreUnavailableError`, and handlers wait when they record or request something.
        Afterward everything continues; slots that came due meanwhile are late.
        """
        if self._client.is_away:
            raise InvalidStateError("outage: the database is already unavailable")
        self._client.is_away = True
        self._was_unwatched = False
        if self._core is not None:
            self._core.hold()
        try:
            yield
        finally:
            self._client.is_away = False
            if self._core is not None:
                self._core.release()

    # -- for `clock`, the client and the plugin -----------------------------------------------

    async def _begin(self) -> None:
        """Start the worker, unless it has been started."""
        if self._is_begun:
            return
        try:
            self.loop = asyncio.get_running_loop()
        except RuntimeError:
            raise InvalidStateError(
                "no asyncio event loop is running here; with anyio's plugin, make the fixture "
                "`anyio_backend` return `asyncio`"
            ) from None
        self._is_begun = True
        async with self._turn_lock:
            await self._start_worker(self._options)
            await self._settle()

    async def _end(self) -> None:
        """Stop everything. A second call does nothing."""
        if self._is_ended:
            return
        self._is_ended = True
        try:
            if self._worker is not None:
                await self._close_worker()
        finally:
            self._client.close()

    def _abandon(self) -> None:
        """Stop everything without the loop, which may be closed. A second call does nothing."""
        if not self._is_ended:
            self._is_ended = True
            if self._worker is not None:
                self._crash()
            self._client.close()

    async def until_ended(self, id: str, seconds: float | None) -> dict[str, Any] | None:
        """Advance time until run ``id`` has completed, and return the run.

        Returns ``None`` if virtual ``seconds`` pass first. Raises ``TimeoutError`` if nothing is
        due that could complete the run.
        """
        async with self._exclusive():
            core, loop = self._client._opened(), asyncio.get_running_loop()
            begun = loop.time()
            last = None if seconds is None else core.now() + int(max(0.0, seconds) * 1e6)
            while True:
                due = await self._settle()
                run = await self._client._ask(requests.get_run(id))
                if run["status"] in _ENDED:
                    return run
                if last is not None and (due is None or due > last):
                    core.advance_to(last)
                    await self._settle()
                    run = await self._client._ask(requests.get_run(id))
                    return run if run["status"] in _ENDED else None
                self._check_running(run, due, loop.time() - begun)
                assert due is not None
                core.advance_to(due)

    def until_ended_here(self, id: str, seconds: float | None) -> dict[str, Any] | None:
        """Do what :meth:`until_ended` does, for code without a loop."""
        loop = self.loop
        if loop is None or loop.is_running():
            raise InvalidStateError(
                "nothing advances the clock while this thread is blocked; await the result, or use "
                "`with polos.testing.clock(...)` in a sync test"
            )
        return loop.run_until_complete(self.until_ended(id, seconds))

    def _check_running(self, run: dict[str, Any], due: int | None, spent: float) -> None:
        what = f"run `{run['id']}` of workflow `{run['workflow']}` is {run['status']} at {self.now}"
        if self._worker is None:
            raise TimeoutError(f"{what}, and no worker runs: {self._why_no_worker()}")
        if due is None or due - self._client._now() > _NEVER_US:
            raise TimeoutError(f"{what}, and nothing is due that could continue it")
        if spent > _TIMEOUT_MAX:
            raise TimeoutError(
                f"{what}, after {_TIMEOUT_MAX:.0f} real seconds of advancing time; pass "
                f"`timeout=` (in virtual time) to stop earlier"
            )

    def _why_no_worker(self) -> str:
        if self._crashed_at is not None:
            return f"it crashed at {self._crashed_at}; `await t.restart()` starts another"
        if not self._is_begun:
            return "the clock has not been entered"
        return "it was stopped; `await t.restart()` starts another"

    def _at(self, micros: int) -> datetime:
        return from_micros(micros).astimezone(self._zone)

    # -- parts --------------------------------------------------------------------------------

    @asynccontextmanager
    async def _exclusive(self) -> AsyncIterator[None]:
        """Prevent other tasks from advancing the clock inside the block."""
        self._refuse_handlers("time")
        await self._begin()
        async with self._turn_lock:
            yield

    def _refuse_handlers(self, what: str) -> None:
        if current_run() is not None:
            raise InvalidStateError(
                f"{what}: only the test can control the clock; handlers wait with `ctx.step.sleep`"
            )

    async def _advance_to(self, target: int) -> None:
        core = self._client._opened()
        while True:
            due = await self._settle()
            if due is None or due > target:
                break
            core.advance_to(due)
        if self._client.is_away and target - core.now() > _UNWATCHED_US and not self._was_unwatched:
            # The engine notices an absence when the wall clock has advanced by more than the steady
            # clock, which does not advance here as it would in a real outage.
            self._was_unwatched = True
            core.advance_to(target - _UNWATCHED_US)
            core.set_wall(target)
        core.advance_to(target)
        await self._settle()

    @property
    def _executor(self) -> Executor | None:
        return None if self._worker is None else self._worker._executor

    async def _start_worker(self, options: WorkerOptions) -> None:
        worker = Worker(self._client, **options)
        # Peers and heartbeats matter only if a dead worker still has runs.
        worker._minds_lease = bool(self._dead)
        await worker.start()
        executor = worker._executor
        assert executor is not None
        self._core = FaultyCore(executor.core, executor, self._faults, self._crash)
        if self._client.is_away:
            self._core.hold()
        executor.core = worker._core = cast("WorkerCore", self._core)
        executor.before_call = self._before_call
        self._worker = worker
        self._crashed_at = None

    async def _close_worker(self) -> None:
        """Make the worker release its runs and deregister; without a worker, do nothing."""
        executor, worker = self._executor, self._worker
        if executor is None or worker is None:
            return
        for active in list(executor.active.values()):
            active.stop("released")
        for _ in range(50):
            await asyncio.sleep(0)
        self._worker = self._core = None
        await worker.close()

    def _before_call(self, active: ActiveRun, step: str | None) -> None:
        """Inject faults before a handler or a step's function is called."""
        workflow = active.workflow.id
        if self._faults.take("crash", "before_call", workflow, step) is not None:
            self._crash()
            raise asyncio.CancelledError("the worker has crashed: a fault of this test")
        self._faults.fail("run" if step is None else "step", "before_call", workflow, step)

    def _crash(self) -> None:
        """Cut the worker off at once; its tasks end when the loop runs them."""
        executor, worker, core = self._executor, self._worker, self._core
        assert executor is not None
        assert worker is not None
        assert core is not None
        self._worker = self._core = None
        self._crashed_at = self.now
        self._dead.append(core.cut())
        for active in executor.active.values():
            active.stop_reason = "crashed"
            active.is_reported = True
        tasks = [active.task for active in executor.active.values() if active.task is not None]
        self._dying.update(tasks, executor.hooks.tasks)
        for task in self._dying:
            if task is not asyncio.current_task():
                task.cancel()
        worker._executor = worker._core = None
        self._client._workers.discard(worker)
        executor.close()

    async def _expire(self) -> None:
        """Wait briefly for the tasks of a crashed worker to end."""
        if self._dying:
            dying, self._dying = self._dying, set()
            await asyncio.wait(dying, timeout=_TIMEOUT)

    async def _settle(self) -> int | None:
        """Process everything that is due now.

        Returns when something is due next, or ``None`` if nothing will become due.
        """
        while True:
            await self._expire()
            executor, worker_core = self._executor, self._core
            if executor is None or worker_core is None:
                return None
            if self._client.is_away:
                executor.bridge.drain()
                await self._wait_until_idle(executor)
                if executor is self._executor:
                    return None
                continue
            turned = worker_core.tick()
            executor.bridge.drain()
            await self._wait_until_idle(executor)
            if executor is not self._executor:
                continue
            if turned is None or turned[2]:
                return None
            again = worker_core.tick()
            if again is None:
                return None
            wall, within, _ = again
            now = self._client._now()
            due = now + within if wall is None else min(wall, now + within)
            has_news = executor.bridge.drain()
            if due > now and not has_news and not self._busy(executor):
                if not self._has_answer_coming(executor):
                    return due
                # The answer arrives from another thread and belongs to this instant.
                await asyncio.sleep(_LOOK / 5)

    def _busy(self, executor: Executor) -> list[ActiveRun]:
        """Return runs in progress that wait for something other than time and may continue."""
        waiting = set() if self._core is None else self._core.waiting
        return [
            active
            for active in executor.active.values()
            if not active.waits.are_for_time()
            and active not in self._hanging
            and active not in waiting
        ]

    def _has_answer_coming(self, executor: Executor) -> bool:
        """Whether a handler waits for a run that has completed, or for an event that is there."""
        awaited = {id for active in executor.active.values() for id in active.waits.awaited}
        core = self._client._opened()
        for id in awaited:
            request = requests.get_run(id)
            run = request.answer_from(core.call(request.text))
            if run["status"] in _ENDED:
                return True
        for active in executor.active.values():
            if not active.waits.awaited_events:
                continue
            request = requests.get_run(active.run_id)
            run = request.answer_from(core.call(request.text))
            done = {step["name"] for step in run["steps"] if step["status"] == "succeeded"}
            if done.intersection(active.waits.awaited_events):
                return True
        return False

    async def _wait_until_idle(self, executor: Executor) -> None:
        """Wait until every handler in progress waits for time or seems to hang."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        if executor.nudge_count != self._nudges_seen:
            # Handlers that seemed to hang may continue now, for example because of a timeout.
            self._nudges_seen = executor.nudge_count
            self._hanging.clear()
        for _ in range(50):
            await asyncio.sleep(0)
            executor.bridge.drain()
            if not self._busy(executor) or executor is not self._executor:
                return
        while busy := self._busy(executor):
            timeout = _TIMEOUT if executor.has_timers() else _TIMEOUT_MAX
            # Steps in processes take their real time, at most as long as their limits.
            timeout = max(timeout, executor.processes.expected_seconds(loop.time()))
            if not await self._changes_within(executor, timeout) and executor.has_timers():
                # Time may end what they wait for; do not wait for them again.
                self._hanging.update(busy)
                return
            if executor is not self._executor:
                return
            if loop.time() - begun > _TIMEOUT_MAX:
                names = ", ".join(sorted({active.workflow.id for active in busy}))
                raise TimeoutError(
                    f"the handlers of {names} are busy with something other than virtual time for "
                    f"more than {_TIMEOUT_MAX:.0f} s"
                )

    async def _changes_within(self, executor: Executor, timeout: float) -> bool:
        """Whether anything happens within ``timeout``."""
        loop = asyncio.get_running_loop()
        before, end = executor.change_count, loop.time() + timeout
        while loop.time() < end and executor is self._executor:
            await executor.changed(min(_LOOK, timeout))
            if self._core is not None and not self._client.is_away:
                # A handler may wait for a run that it has started.
                self._core.tick()
            if executor.bridge.drain() or executor.change_count != before:
                return True
        return executor.change_count != before


def parsed(name: str, instant: datetime | str) -> datetime:
    """Return an aware datetime, given as such or as ISO text."""
    if isinstance(instant, str):
        try:
            instant = datetime.fromisoformat(instant.replace("Z", "+00:00"))
        except ValueError:
            raise InvalidArgumentError(
                f"{name}: {shown(instant)} isn't an ISO datetime such as `2026-03-07T12:00-05:00`"
            ) from None
    aware(name, instant)
    return instant
