"""``VirtualTime``: a clock that is turned by hand, and a worker that lives by it."""

from __future__ import annotations

import asyncio
import json
import weakref
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta, tzinfo
from typing import TYPE_CHECKING, Any, cast

from typing_extensions import Unpack

from polos import runs, schedules
from polos._describe import shown
from polos._real_datetime import datetime
from polos._time import aware, from_micros, micros_of, to_micros
from polos._worker import ActiveRun, Executor, current_run
from polos.exceptions import InvalidArgumentError, InvalidStateError, StoreUnavailableError
from polos.models import LedgerEntry, LedgerStatus, Run, Schedule, StepInfo, StepStatus
from polos.runs import RunHandle
from polos.testing._client import VirtualClient
from polos.testing._core import HinderedCore
from polos.testing._faults import Fault, Moment, error_of, moment_of, workflow_id
from polos.worker import Worker, WorkerOptions
from polos.workflow import Workflow

if TYPE_CHECKING:
    from polos._polos import WorkerCore

__all__ = ["VirtualTime"]

# How long a handler may be busy with something other than time before virtual time goes on
# without it, if a timeout is running that could end it.
_PATIENCE = 0.1

# How long virtual time waits for a handler altogether, or for a run that somebody awaits.
_PATIENCE_MAX = 30.0

# How often to look whether a busy handler has started a run that it waits for.
_LOOK = 0.005

# What lies further ahead than this is nothing that was asked for: in virtual time the engine shows
# a sign of life every 33 years, and looks around once in a century.
_NEVER_US = micros_of(timedelta(days=12_000))

# An outage of more than this makes what came due in it late. (The engine's own `AWAY_MIN`.)
_UNWATCHED_US = micros_of(timedelta(seconds=1.001))

_ENDED = ("succeeded", "failed", "cancelled")

_PAGE = 1_000

AnyWorkflow = Workflow[Any, Any] | str


class VirtualTime:
    """A clock that is turned by hand, with a worker that lives by it. Made by :func:`clock`."""

    def __init__(
        self, start: datetime, *, project_id: str = "default", options: WorkerOptions
    ) -> None:
        self._client = VirtualClient(start, project_id=project_id)
        self._client.passing = self
        self._options: WorkerOptions = {"retention": None, **options}
        self._zone: tzinfo | None = start.tzinfo
        self._faults = self._client.faults
        self._worker: Worker | None = None
        self._core: HinderedCore | None = None
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

    # -- what there is ------------------------------------------------------------------------

    @property
    def client(self) -> VirtualClient:
        """The client of the database, for :mod:`polos.schedules`, :mod:`polos.runs` and
        ``Workflow.run``.

        Awaiting a result (``handle.result()``, ``workflow.run(t.client)``) lets time go on until
        the run has ended.
        """
        return self._client

    @property
    def worker(self) -> Worker:
        """The worker. Raises :class:`InvalidStateError` where none runs."""
        if self._worker is None:
            raise InvalidStateError(f"no worker runs: {self._why_no_worker()}")
        return self._worker

    @property
    def now(self) -> datetime:
        """What the clock says, in the zone that it was started in."""
        return self._at(self._client._now())

    async def runs(self, **filters: Any) -> list[Run]:
        """Runs, oldest first; filters as in :func:`polos.runs.list`: ``workflow=``, ``key=``,
        ``schedule=``, ``status=``, ``since=``.
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
        """The recorded steps of ``run``, or of all runs (``filters`` as in :meth:`runs`), in the
        order in which they were started.
        """
        if run is None:
            ids = [found.id for found in await self.runs(**filters)]
        elif filters:
            given = ", ".join(f"`{filter}`" for filter in filters)
            raise InvalidArgumentError(f"steps: {given} given, and a run too; one of them")
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
        """Schedules; filters as in :func:`polos.schedules.list`."""
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
        """What became of each slot, oldest first: of one schedule (or its id), or of all that
        ``filters`` find (``workflow=``, ``key=``, as in :func:`polos.schedules.list`).
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
        # By the instant: times of one zone compare by the wall clock, which shows some hours twice.
        found.sort(key=lambda entry: to_micros(entry.timestamp))
        return [entry for entry in found if status in (None, entry.status)]

    # -- time ---------------------------------------------------------------------------------

    async def advance(self, delta: timedelta | None = None, **parts: float) -> None:
        """Let time go on by ``delta``, or by ``weeks=``, ``days=``, ``hours=``, ``minutes=``,
        ``seconds=``.

        Raises ``TimeoutError`` when a handler doesn't come to rest within 30 real seconds.
        """
        step = delta if delta is not None else timedelta(**parts)
        if step < timedelta(0):
            raise InvalidArgumentError(f"advance: {step} given; time only goes forward")
        async with self._turning():
            await self._go_on_to(self._client._now() + micros_of(step))

    async def advance_to(self, instant: datetime | str) -> None:
        """Let time go on until ``instant``: an aware datetime, or its ISO text."""
        target = aware("instant", parsed("instant", instant))
        async with self._turning():
            await self._go_on_to(target)

    async def set_to(self, instant: datetime | str) -> None:
        """Set the wall clock to ``instant`` (aware), forward or back, as somebody who corrects it
        would: no time passes, so sleeps, timeouts and retries that are under way take as long as
        before. What was to come in between is late when the clock was set forward, and
        ``catch_up`` decides about it.
        """
        target = aware("instant", parsed("instant", instant))
        async with self._turning():
            await self._settle()
            self._client._opened().set_wall(target)
            await self._settle()

    # -- the worker ---------------------------------------------------------------------------

    async def crash(self) -> None:
        """Have the worker gone at once, as by ``kill -9``: nothing that its handlers still do is
        recorded, and what they had is held until :meth:`restart`. Time may pass without a worker.
        Also while another task lets time go on.

        This process goes on, so handlers are cancelled and their ``finally`` blocks run; on a real
        ``kill -9`` they would not.
        """
        self._refuse_handlers("crash")
        await self._begin()
        if self._worker is None:
            raise InvalidStateError(f"no worker runs: {self._why_no_worker()}")
        self._crash()
        await self._bury()

    async def stop(self) -> None:
        """Stop the worker as a deploy does: it gives back what it has, and signs out."""
        async with self._turning():
            await self._settle()
            await self._close_worker()

    async def restart(self, *, elsewhere: bool = False, **options: Unpack[WorkerOptions]) -> None:
        """Start a worker anew, with the workflows that are registered now; the one that runs is
        stopped first. What a crashed one had goes on at once, as it does on the same machine.

        :param elsewhere: as on another machine: what a crashed worker had goes on when its lease
            has run out, 15 seconds by default (``lease=``).
        :param options: those of :class:`polos.Worker`, in place of the ones of :func:`clock`.
        """
        self._refuse_handlers("restart")
        async with self._turn_lock:
            await self._close_worker()
            if not elsewhere:
                for core in self._dead:
                    core.leave(0)
                self._dead.clear()
            await self._start_worker({**self._options, **options})
            await self._settle()

    # -- what goes wrong ----------------------------------------------------------------------

    def fail_step(
        self,
        name: str,
        *,
        times: int = 1,
        error: BaseException | type[BaseException] | None = None,
        workflow: AnyWorkflow | None = None,
    ) -> Fault:
        """Have the next ``times`` executions of step ``name`` raise ``error`` (a
        ``ConnectionError`` by default) instead of calling its function.
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
        """Have the next ``times`` executions of a workflow raise ``error`` (a ``RuntimeError`` by
        default) instead of calling its handler.
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
        """Have the worker crash (as in :meth:`crash`) when it comes to ``step``; without a step,
        when it comes to a handler's end, or (``"before_call"``) its beginning.

        :param when: ``"before_call"``: the function is not called; ``"before_commit"``: it has
            returned and nothing of it is recorded, so it will be called again; ``"after_commit"``:
            it is recorded, and the handler has not been told.
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
        """Have the next ``times`` requests through :attr:`client` raise ``error`` (a
        :class:`StoreUnavailableError` by default).

        :param op: only those of one kind, such as ``"invoke"``, ``"create"``, ``"get_run"``.
        :param when: ``"before_commit"``: nothing has happened; ``"after_commit"``: it has, and the
            answer is lost.
        """
        moment = moment_of(when)
        if moment == "before_call":
            raise InvalidArgumentError(
                "when: `before_call` given, expected one of `before_commit`, `after_commit`"
            )
        what = f"fail_requests({'' if op is None else repr(op) + ', '}when={when!r})"
        text = "the database doesn't answer, as the test has it (`fail_requests`)"
        made = error_of(error, lambda: StoreUnavailableError(text))
        return self._faults.add(Fault(what, "request", times, moment=moment, step=op, error=made))

    @contextmanager
    def outage(self) -> Iterator[None]:
        """While this is open, the database is away: no slot comes due and no run starts, requests
        of the test through :attr:`client` raise :class:`StoreUnavailableError`, and handlers wait
        where they have something to record or to ask. Then all goes on; slots that came due
        meanwhile are late.
        """
        if self._client.is_away:
            raise InvalidStateError("outage: the database is away already")
        self._client.is_away = True
        self._was_unwatched = False
        if self._core is not None:
            self._core.hold()
        try:
            yield
        finally:
            self._client.is_away = False
            if self._core is not None:
                self._core.let_go()

    # -- for `clock`, the client and the plugin -----------------------------------------------

    async def _begin(self) -> None:
        """Start the worker, unless that has been done."""
        if self._is_begun:
            return
        try:
            self.loop = asyncio.get_running_loop()
        except RuntimeError:
            raise InvalidStateError(
                "no event loop of asyncio is running here; with anyio's plugin, have the fixture "
                "`anyio_backend` return `asyncio`"
            ) from None
        self._is_begun = True
        async with self._turn_lock:
            await self._start_worker(self._options)
            await self._settle()

    async def _end(self) -> None:
        """Stop everything. A second time does nothing."""
        if self._is_ended:
            return
        self._is_ended = True
        try:
            if self._worker is not None:
                await self._close_worker()
        finally:
            self._client.close()

    def _abandon(self) -> None:
        """End it without its loop, which may be over. A second time does nothing."""
        if not self._is_ended:
            self._is_ended = True
            if self._worker is not None:
                self._crash()
            self._client.close()

    async def until_ended(self, id: str, seconds: float | None) -> dict[str, Any] | None:
        """Let time go on until run ``id`` has ended; ``None`` when virtual ``seconds`` pass first.

        Raises ``TimeoutError`` when it can't be seen how it would end.
        """
        async with self._turning():
            core, loop = self._client._opened(), asyncio.get_running_loop()
            begun = loop.time()
            last = None if seconds is None else core.now() + int(max(0.0, seconds) * 1e6)
            while True:
                due = await self._settle()
                run = cast("dict[str, Any]", await self._client._ask("get_run", id=id))
                if run["status"] in _ENDED:
                    return run
                if last is not None and (due is None or due > last):
                    core.advance_to(last)
                    await self._settle()
                    run = cast("dict[str, Any]", await self._client._ask("get_run", id=id))
                    return run if run["status"] in _ENDED else None
                self._check_goes_on(run, due, loop.time() - begun)
                assert due is not None
                core.advance_to(due)

    def until_ended_here(self, id: str, seconds: float | None) -> dict[str, Any] | None:
        """The same for code without a loop."""
        loop = self.loop
        if loop is None or loop.is_running():
            raise InvalidStateError(
                "nothing turns the clock while this thread is blocked; await the result, or use "
                "`with polos.testing.clock(...)` in a test that isn't async"
            )
        return loop.run_until_complete(self.until_ended(id, seconds))

    def _check_goes_on(self, run: dict[str, Any], due: int | None, spent: float) -> None:
        what = f"run `{run['id']}` of workflow `{run['workflow']}` is {run['status']} at {self.now}"
        if self._worker is None:
            raise TimeoutError(f"{what}, and no worker runs: {self._why_no_worker()}")
        if due is None or due - self._client._now() > _NEVER_US:
            raise TimeoutError(f"{what}, and nothing is due that could let it go on")
        if spent > _PATIENCE_MAX:
            raise TimeoutError(
                f"{what}, after {_PATIENCE_MAX:.0f} real seconds of letting time go on; give "
                f"`timeout=` (of virtual time) to stop earlier"
            )

    def _why_no_worker(self) -> str:
        if self._crashed_at is not None:
            return f"it has crashed at {self._crashed_at}; `await t.restart()` starts another"
        if not self._is_begun:
            return "the clock has not been entered"
        return "it was stopped; `await t.restart()` starts another"

    def _at(self, micros: int) -> datetime:
        return from_micros(micros).astimezone(self._zone)

    # -- how ----------------------------------------------------------------------------------

    @asynccontextmanager
    async def _turning(self) -> AsyncIterator[None]:
        """While this is open, nobody else turns the clock."""
        self._refuse_handlers("time")
        await self._begin()
        async with self._turn_lock:
            yield

    def _refuse_handlers(self, what: str) -> None:
        if current_run() is not None:
            raise InvalidStateError(
                f"{what}: it is for the test to turn the clock; handlers wait with `ctx.step.sleep`"
            )

    async def _go_on_to(self, target: int) -> None:
        core = self._client._opened()
        while True:
            due = await self._settle()
            if due is None or due > target:
                break
            core.advance_to(due)
        if self._client.is_away and target - core.now() > _UNWATCHED_US and not self._was_unwatched:
            # The engine notices that it could not look when the wall clock has gone on by more than
            # the steady one, by which it is not turned here as it would be in an outage.
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
        # Only a dead worker's runs make it worth while to look after others and to beat.
        worker._minds_lease = bool(self._dead)
        await worker.start()
        executor = worker._executor
        assert executor is not None
        assert executor.core is not None
        self._core = HinderedCore(executor.core, executor, self._faults, self._crash)
        if self._client.is_away:
            self._core.hold()
        executor.core = worker._core = cast("WorkerCore", self._core)
        executor.before_call = self._before_call
        self._worker = worker
        self._crashed_at = None

    async def _close_worker(self) -> None:
        """Have the worker give back what it has and sign out; without one, do nothing."""
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
        """A handler or a step's function is called next."""
        workflow = active.workflow.id
        if self._faults.take("crash", "before_call", workflow, step) is not None:
            self._crash()
            raise asyncio.CancelledError("the worker has crashed, as the test has it")
        self._faults.fail("run" if step is None else "step", "before_call", workflow, step)

    def _crash(self) -> None:
        """The worker is gone from here on; its tasks end when the loop comes to them."""
        executor, worker, core = self._executor, self._worker, self._core
        assert executor is not None
        assert worker is not None
        assert core is not None
        self._worker = self._core = None
        self._crashed_at = self.now
        self._dead.append(core.cut())
        for active in executor.active.values():
            active.stop_reason = "crashed"
            active._reported = True
        tasks = [active.task for active in executor.active.values() if active.task is not None]
        self._dying.update(tasks, executor._hooks)
        for task in self._dying:
            if task is not asyncio.current_task():
                task.cancel()
        worker._executor = worker._core = None
        self._client._workers.discard(worker)
        executor.close()

    async def _bury(self) -> None:
        """Let the tasks of a crashed worker end, if they do."""
        if self._dying:
            dying, self._dying = self._dying, set()
            await asyncio.wait(dying, timeout=_PATIENCE)

    async def _settle(self) -> int | None:
        """Let everything happen that is due now; gives when something is due next, ``None`` if
        nothing will be by itself.
        """
        while True:
            await self._bury()
            executor, worker_core = self._executor, self._core
            if executor is None or worker_core is None:
                return None
            if self._client.is_away:
                executor.bridge.drain()
                await self._rest(executor)
                if executor is self._executor:
                    return None
                continue
            turned = worker_core.turn()
            executor.bridge.drain()
            await self._rest(executor)
            if executor is not self._executor:
                continue
            if turned is None or turned[2]:
                return None
            again = worker_core.turn()
            if again is None:
                return None
            wall, within, _ = again
            now = self._client._now()
            due = now + within if wall is None else min(wall, now + within)
            has_news = executor.bridge.drain()
            if due > now and not has_news and not self._busy(executor):
                if not self._is_anybody_told(executor):
                    return due
                # The answer comes from another thread, and belongs to this instant.
                await asyncio.sleep(_LOOK / 5)

    def _busy(self, executor: Executor) -> list[ActiveRun]:
        """Runs under way that wait for something other than time, and may well go on."""
        held_up = set() if self._core is None else self._core.waiting
        return [
            active
            for active in executor.active.values()
            if not active.waits_for_time() and active not in self._hanging and active not in held_up
        ]

    def _is_anybody_told(self, executor: Executor) -> bool:
        """Whether a handler waits for the end of a run that has ended."""
        awaited = {id for active in executor.active.values() for id in active.awaited}
        core = self._client._opened()
        for id in awaited:
            run = json.loads(core.call(json.dumps({"get_run": {"id": id}})) or "null")
            if run["status"] in _ENDED:
                return True
        return False

    async def _rest(self, executor: Executor) -> None:
        """Wait until every handler under way waits for time, or seems to hang."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        if executor.nudge_count != self._nudges_seen:
            # What seemed to hang may have been stirred: by a timeout, for example.
            self._nudges_seen = executor.nudge_count
            self._hanging.clear()
        for _ in range(50):
            await asyncio.sleep(0)
            executor.bridge.drain()
            if not self._busy(executor) or executor is not self._executor:
                return
        while busy := self._busy(executor):
            patience = _PATIENCE if executor.has_timers() else _PATIENCE_MAX
            if not await self._stirs(executor, patience) and executor.has_timers():
                # Time may end what they wait for, and won't be held up by them again.
                self._hanging.update(busy)
                return
            if executor is not self._executor:
                return
            if loop.time() - begun > _PATIENCE_MAX:
                names = ", ".join(sorted({active.workflow.id for active in busy}))
                raise TimeoutError(f"virtual time waits in vain for the handlers of {names}")

    async def _stirs(self, executor: Executor, patience: float) -> bool:
        """Whether anything happens within ``patience``."""
        loop = asyncio.get_running_loop()
        before, end = executor.change_count, loop.time() + patience
        while loop.time() < end and executor is self._executor:
            await executor.changed(min(_LOOK, patience))
            if self._core is not None and not self._client.is_away:
                # What a handler waits for may be a run that it has started.
                self._core.turn()
            if executor.bridge.drain() or executor.change_count != before:
                return True
        return executor.change_count != before


def parsed(name: str, instant: datetime | str) -> datetime:
    """An aware datetime that is given as such or as ISO text."""
    if isinstance(instant, str):
        try:
            instant = datetime.fromisoformat(instant.replace("Z", "+00:00"))
        except ValueError:
            raise InvalidArgumentError(
                f"{name}: {shown(instant)} isn't an ISO datetime such as `2026-03-07T12:00-05:00`"
            ) from None
    aware(name, instant)
    return instant
