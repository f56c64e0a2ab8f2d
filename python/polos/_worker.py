"""Runs of one worker on an event loop: from claim to ending. Knows no policy; the core decides
what runs and when, this executes it and reports.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import inspect
import itertools
import json
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar
from zoneinfo import ZoneInfo

from polos import runs
from polos._blocking import awaiting
from polos._bridge import LoopBridge
from polos._codec import decode, encode
from polos._current import current_run, running
from polos._declaration import ScheduleDeclaration, core_spec
from polos._errors import error_record
from polos._logging import quiet_logger
from polos._loop_watch import LoopWatch
from polos._observe import around_run
from polos._polos import spec_slots
from polos._real_datetime import date
from polos._threads import ThreadPool, blocked_thread, pool_of_thread
from polos._time import from_micros, micros_of
from polos._watchdog import Watchdog
from polos.context import (
    StepJournal,
    SyncWorkflowContext,
    WorkflowContext,
    _current_step,
    _RunLog,
    lease_lost,
    previous_result,
    run_ended,
)
from polos.context import (
    _log as _run_log,
)
from polos.exceptions import (
    CodeChangedError,
    HandlerParked,
    InterruptedTooOftenError,
    RunTimeoutError,
    SerializationError,
    StoreUnavailableError,
)

if TYPE_CHECKING:
    from polos._polos import WorkerCore
    from polos.client import PolosClient
    from polos.hooks import RunFailure
    from polos.runs import RunHandle
    from polos.workflow import Workflow

__all__ = ["ActiveRun", "Executor", "current_run"]

R = TypeVar("R")

_log = quiet_logger("polos.worker")

# How many slots in a row an application's calendar may exclude before `upcoming` names one of them.
_EXCLUDED_MAX = 4_000

# A handler that sleeps for longer gives up its task and its place, and is entered again when it
# is time. Below, that would cost more than it saves.
_PARK_MIN_US = 5_000_000

# How many seconds a run waits before it asks a database again that is unavailable: at first, and at
# most.
_ASK_AGAIN_MIN = 0.05
_ASK_AGAIN_MAX = 1.0

# How many seconds the event loop waits for `ctx.last_result`, which is no awaitable.
_READ_ON_LOOP = 1.0

# What is recorded of a failure where even the memory to describe it is lacking.
_NO_MEMORY = json.dumps(
    {
        "type": "builtins:MemoryError",
        "message": "there was no memory to record how the run failed",
        "traceback": "",
    }
)

# How many times `max_interruptions` a run may be interrupted beside other runs, any of which may
# have been the cause.
_SHARED_FACTOR = 4

# How long a handler that was told to stop may take before it is given up.
_STOP_GRACE = timedelta(seconds=5)


class Executor:
    """Executes runs that the core claims, until it is closed."""

    def __init__(
        self,
        client: PolosClient,
        workflows: dict[str, Workflow[Any, Any]],
        thread_count: int,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        # Now, since they load most of pydantic and more: the first run is not the time for that.
        from polos import _decoding, _encoding, hooks  # noqa: F401
        from polos.payload import SchedulePayload

        self.new_payload = SchedulePayload._from_micros
        self.client = client
        self.workflows = workflows
        # Apart, since a sync handler waits in its thread for its steps: in one pool, handlers that
        # fill it would wait for ever.
        self.handler_threads = ThreadPool(thread_count, "polos-handler")
        self.step_threads = ThreadPool(thread_count, "polos-step")
        self.loop = loop
        self.bridge = LoopBridge(loop, self._handle)
        self.core: WorkerCore | None = None
        self.entered = loop.create_future()
        self.over = loop.create_future()
        self.lost: str | None = None  # why it ended by itself
        self.active: dict[tuple[str, int], ActiveRun] = {}
        self._begun = 0  # of the runs that are being started, how many are
        self.on_idle: Callable[[], None] = lambda: None
        self._hooks: set[asyncio.Task[None]] = set()
        self._timers: dict[int, asyncio.Future[None]] = {}
        self._timer_ids = itertools.count(1)
        self.change_count = 0
        # How often the clock or the core has stirred a handler.
        self.nudge_count = 0
        # Called before a handler (step `None`) or a step's function; what it raises counts as
        # theirs.
        self.before_call: Callable[[ActiveRun, str | None], None] | None = None
        self._change: asyncio.Future[None] | None = None
        self.opened = client._opened()
        self.watchdog = Watchdog(loop, self._describe)
        self.loop_watch = LoopWatch(loop)
        self.is_leaving = False  # whether runs that arrive are no longer entered

    def _handle(self, item: tuple[Any, ...]) -> None:
        kind = item[0]
        if kind == "start":
            if item[1]:
                self.watchdog.busy(True)
            self._start_all(item[1])
        elif kind == "stop":
            self.nudge_count += 1
            for run_id, token, reason in item[1]:
                active = self.active.get((run_id, token))
                if active is not None:
                    active.stop(reason)
        elif kind == "ring":
            self.nudge_count += 1
            for timer in item[1]:
                future = self._timers.pop(timer, None)
                if future is not None and not future.done():
                    future.set_result(None)
        elif kind == "notice":
            self._notice(item[1], item[2])
        elif kind == "missed":
            self._missed(item[1])
        elif kind == "over" and not self.over.done():
            self.over.set_result(None)

    def _notice(self, kind: str, text: str) -> None:
        if kind == "entered":
            _log.debug("signed in as %s", text)
            if not self.entered.done():
                self.entered.set_result(text)
            return
        if kind == "lost":
            self.lost = text
            kind = "error"
        getattr(_log, kind)(text)

    def _missed(self, missed: list[tuple[str, str, str, int, int, int, str]]) -> None:
        """Slots were missed: say so once per workflow and reason, and tell who wants to know."""
        totals: dict[tuple[str, str], tuple[int, int]] = {}
        for schedule, workflow_id, key, first, last, count, reason in missed:
            schedules, slots = totals.get((workflow_id, reason), (0, 0))
            totals[workflow_id, reason] = schedules + 1, slots + count
            workflow = self.workflows.get(workflow_id)
            if workflow is not None and workflow.on_missed is not None:
                from polos.hooks import MissedSlots

                told = MissedSlots(
                    workflow_id, schedule, key, from_micros(first), from_micros(last), count, reason
                )
                self.call_hook(workflow.on_missed, told, f"on_missed of workflow `{workflow_id}`")
        for (workflow_id, reason), (schedules, slots) in totals.items():
            text = "%d slots of %d schedules of workflow `%s` were missed: %s"
            _log.warning(text, slots, schedules, workflow_id, reason)

    def call_hook(self, hook: Callable[..., Any], told: Any, what: str) -> None:
        """Have the application's ``hook`` told, beside everything else; its errors are logged."""
        task = self.loop.create_task(self._call_hook(hook, told, what))
        self._hooks.add(task)
        task.add_done_callback(self._hooks.discard)

    async def finish_hooks(self, patience: timedelta) -> None:
        """Let hooks that were called come to their end."""
        if self._hooks:
            await asyncio.wait(self._hooks, timeout=patience.total_seconds())

    async def _call_hook(self, hook: Callable[..., Any], told: Any, what: str) -> None:
        try:
            if inspect.iscoroutinefunction(hook):
                await hook(told)
            else:
                made = await self.step_threads.run(hook, told)
                if asyncio.iscoroutine(made):
                    await made
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            _log.error("%s failed", what, exc_info=_loggable(error))

    def _start_all(self, runs: list[tuple[Any, ...]]) -> None:
        """Start them, each once. Without memory it ends early, and goes on where it was when it is
        called again.
        """
        while self._begun < len(runs):
            following = self._begun + 1  # made first: between start and count nothing may fail
            try:
                self._start(runs[self._begun])
            except MemoryError:
                raise
            except Exception:
                # The others are not to be lost with it.
                _log.exception("run %s could not be started", runs[self._begun][0])
            self._begun = following
        self._begun = 0

    def _start(self, claimed: tuple[Any, ...]) -> None:
        if self.is_leaving:
            # Sent before the core heard of it. Deregistering frees the claim, and maybe has.
            return
        workflow = self.workflows[claimed[2]]
        active = ActiveRun(self, workflow, claimed)
        key, execution = (active.run_id, active.token), active.execute()
        try:
            self.active[key] = active
            active.task = self.loop.create_task(execution)
            active.task.add_done_callback(active._check_has_begun)
        except BaseException:
            self.active.pop(key, None)
            execution.close()
            raise

    def ended(self, active: ActiveRun) -> None:
        """A run is no longer executed here."""
        if self.active.pop((active.run_id, active.token), None) is not None and not self.active:
            self.watchdog.busy(False)
            self.on_idle()
        self.note_change()

    def timer(self, delay_us: int) -> asyncio.Future[None]:
        """A future that is done after ``delay_us`` microseconds of the database's clock."""
        future: asyncio.Future[None] = self.loop.create_future()
        if delay_us <= 0:
            future.set_result(None)
            return future
        timer = next(self._timer_ids)
        self._timers[timer] = future
        future.add_done_callback(lambda _: self._timers.pop(timer, None))
        assert self.core is not None
        self.core.set_timer(timer, delay_us)
        return future

    # -- for virtual time ---------------------------------------------------------------------

    def has_timers(self) -> bool:
        """Whether something waits for the clock, or may be ended by it."""
        return bool(self._timers) or any(a.workflow.timeout for a in self.active.values())

    def note_change(self) -> None:
        """A run has ended, or has come to wait."""
        self.change_count += 1
        if self._change is not None and not self._change.done():
            self._change.set_result(None)

    async def changed(self, patience: float) -> None:
        """Wait for the next change, for ``patience`` seconds at most."""
        self._change = self.loop.create_future()
        await asyncio.wait({self._change}, timeout=patience)
        self._change = None

    def close(self) -> None:
        """Stop listening to the core."""
        self.bridge.close()
        self.watchdog.close()
        self.loop_watch.close()
        self.handler_threads.close()
        self.step_threads.close()

    def _describe(self, task: asyncio.Task[Any] | None) -> str:
        for active in list(self.active.values()):
            if active.task is task and task is not None:
                return f"the handler of workflow `{active.workflow.id}` (run {active.run_id})"
        return "something other than a handler"


class ActiveRun:
    """One run under way."""

    __slots__ = (
        "__weakref__",
        "_blocked",
        "_executing",
        "_executor",
        "_handler_thread",
        "_has_begun",
        "_input",
        "_log",
        "_payload",
        "_previous",
        "_reported",
        "_sleeping",
        "_slots",
        "_waits",
        "_wakes_at",
        "_was_alone",
        "attempt",
        "awaited",
        "failure",
        "interruptions",
        "journal",
        "key",
        "loop",
        "origin",
        "outcome",
        "patches",
        "run_id",
        "schedule_id",
        "stop_reason",
        "task",
        "threads",
        "token",
        "workflow",
    )

    run_id: str
    token: int
    key: str
    schedule_id: str | None
    origin: str
    attempt: int
    interruptions: int

    def __init__(
        self, executor: Executor, workflow: Workflow[Any, Any], claimed: tuple[Any, ...]
    ) -> None:
        (
            self.run_id,
            self.token,
            _,
            self.key,
            self.schedule_id,
            slot,
            last_slot,
            upcoming,
            timezone,
            self.origin,
            self.attempt,
            self._payload,
            self._input,
            journal,
            self.interruptions,
            self._was_alone,
        ) = claimed
        self._slots = (slot, last_slot, upcoming, timezone)
        self._executor = executor
        self.workflow = workflow
        self.journal = StepJournal(journal)
        self.loop = executor.loop
        self.threads = executor.step_threads
        self.task: asyncio.Task[None] | None = None
        self.stop_reason: str | None = None
        self._has_begun = False
        self._executing = 0
        self._sleeping = 0
        self._blocked = 0  # in how many places it waits for what may need its permit
        # Tasks in which threads of the run wait; whether it is the handler's own thread.
        self._waits: dict[asyncio.Task[Any] | None, bool] = {}
        self._handler_thread: int | None = None
        self._wakes_at: int | None = None
        self._reported = False
        self.outcome: str | None = None  # how this execution was reported to end
        self.failure: BaseException | None = None
        self.awaited: list[str] = []  # runs for whose end it waits
        self.patches: dict[str, bool] = {}  # what this execution has answered
        self._log: _RunLog | None = None
        self._previous: tuple[Any] | None = None

    # -- the run ------------------------------------------------------------------------------

    async def execute(self) -> None:
        """Call the handler and report its end. Raises nothing."""
        self._has_begun = True
        # Here and not a coroutine further in, which a GeneratorExit would reach without its text.
        with around_run(self):
            try:
                if self._is_left_out() or self._is_interrupted_too_often():
                    return
                try:
                    value = await self._call()
                    if self.stop_reason is None:
                        self.check_same_code(None)
                        text = None if value is None else encode(value, name="result").decode()
                        self._report("succeeded", text)
                        return
                except asyncio.CancelledError as cancelled:
                    if self.stop_reason is None:
                        if not self._executor.loop_watch.is_closing():
                            # Released, it would be entered again at once, and again.
                            self._report_failure(cancelled)
                            return
                        # The loop is shutting down: another worker continues the run.
                        self.stop_reason = "released"
                except CodeChangedError as error:
                    # Trying again with the same code changes nothing.
                    if self.stop_reason is None:
                        self._report_code_change(error)
                        return
                except SerializationError as error:
                    # It gets no better by trying again.
                    if self.stop_reason is None:
                        self._report_failure(error, final=True)
                        return
                except BaseException as error:
                    if self.stop_reason is None:
                        # Not `isinstance`, which asks the exception for its class.
                        is_exit = issubclass(type(error), GeneratorExit)
                        is_abandoned = is_exit and self.loop.is_closed()
                        if not is_abandoned and not self._executor.client._is_closed:
                            self._report_failure(error)
                            return
                        # The client or the loop was closed under the handler, which can't know
                        # why its step was refused.
                        self.stop_reason = "released"
                self._report_stop()
            except MemoryError:
                # The report could not be made up.
                self._report("failed", _NO_MEMORY)
            finally:
                self._executor.ended(self)

    def _check_has_begun(self, task: asyncio.Task[None]) -> None:
        """The task is over. If it was cancelled before its first instruction, :meth:`execute` has
        not noticed: the run ends here.
        """
        if self._has_begun:
            return
        if self.stop_reason is None:
            if self._executor.loop_watch.is_closing():
                self.stop_reason = "released"
            else:
                self._report_failure(asyncio.CancelledError())
        self._report_stop()
        self._executor.ended(self)

    def _is_left_out(self) -> bool:
        """Whether the application's calendar excludes the slot; if so, that is reported."""
        calendar = self._calendar()
        slot = self._slots[0]
        if calendar is None or slot is None or self.origin not in ("schedule", "backfill"):
            return False
        try:
            day = self._day(slot)
            if day not in calendar:
                return False
        except Exception as error:
            self._report_failure(error)
            return True
        self._report("skipped", f"{day} is excluded by the application's calendar")
        return True

    def _is_interrupted_too_often(self) -> bool:
        """Whether its workers disappeared so often that it is not executed again; if so, it fails.

        That the last interruption hit this run alone makes it certain that no other run was the
        cause. Where a run is never alone, it takes several times as many.
        """
        limit = self.workflow.max_interruptions
        if limit is None or self.interruptions < limit:
            return False
        if not self._was_alone and self.interruptions < limit * _SHARED_FACTOR:
            return False
        self._report_failure(
            InterruptedTooOftenError(
                f"the worker disappeared {self.interruptions} times in a row while it executed "
                f"the run, and no step was recorded meanwhile: killed, out of memory, or crashed "
                f"(the system's log may say which). The run was not executed again, so that it "
                f"ends no more workers (max_interruptions={limit}); find the cause, and then "
                f"retry it: polos runs retry {self.run_id}",
                run_id=self.run_id,
                interruptions=self.interruptions,
            ),
            final=True,
        )
        return True

    def _calendar(self) -> Any:
        declared = self.workflow.schedule
        if declared is True or not declared or declared.skip_calendar is None:
            return None
        return declared.skip_calendar if declared.spec["key"] == self.key else None

    def _day(self, slot: int) -> date:
        return from_micros(slot).astimezone(ZoneInfo(self._slots[3])).date()

    def _upcoming(self, slot: int, upcoming: int | None) -> int:
        """The slot that will come next; a schedule that ends with this one has none, and its own
        stands for it.
        """
        calendar = self._calendar()
        if upcoming is None or calendar is None:
            return slot if upcoming is None else upcoming
        assert isinstance(self.workflow.schedule, ScheduleDeclaration)
        spec = json.dumps(core_spec(self.workflow.schedule.spec))
        for _ in range(_EXCLUDED_MAX):
            if self._day(upcoming) not in calendar:
                return upcoming
            later = spec_slots(spec, 1, upcoming)
            if not later:
                return slot
            upcoming = later[0]
        return upcoming

    async def _call(self) -> Any:
        workflow = self.workflow
        running.set(self)  # of this task, and of what it starts
        self.about_to_call(None)
        payload = self.payload() if workflow.arity == 2 else None
        if workflow.is_async:
            arity = workflow.arity
            if arity == 2:
                return await workflow.fn(WorkflowContext(self), payload)
            return await (workflow.fn(WorkflowContext(self)) if arity else workflow.fn())
        arguments = workflow.arguments(
            SyncWorkflowContext(self) if workflow.arity else None, payload
        )
        value = await self._executor.handler_threads.run(self._in_thread, arguments)
        # A partial around an async function looks sync and returns a coroutine.
        return await value if asyncio.iscoroutine(value) else value

    def _in_thread(self, arguments: tuple[Any, ...]) -> Any:
        self._handler_thread = threading.get_ident()
        return self.workflow.fn(*arguments)

    def payload(self) -> Any:
        """What the handler is given."""
        slot, last_slot, upcoming, timezone = self._slots
        workflow = self.workflow
        if slot is None:
            data = (
                None
                if self._payload is None
                else decode(self._payload, workflow.payload_type, name="payload")
            )
            return data if data is None else workflow.payload_from(data)
        made = self._executor.new_payload(
            slot,
            last_slot,
            timezone,
            self.schedule_id or "",
            self.key,
            self._upcoming(slot, upcoming),
        )
        return made if workflow.takes_schedule_payload else workflow.payload_from(made)

    def stop(self, reason: str) -> None:
        """The core wants it stopped; a second reason doesn't matter."""
        if self.stop_reason is not None:
            return
        self.stop_reason = reason
        if self.task is not None:
            self.task.cancel()
        for task in list(self._waits):  # threads can't be stopped, but what they wait for can
            if task is not None:
                task.cancel()
        self._executor.timer(micros_of(_STOP_GRACE)).add_done_callback(self._give_up)

    def _give_up(self, timer: asyncio.Future[None]) -> None:
        """The handler ignores its cancellation: its end is recorded without it."""
        if timer.cancelled() or self._reported or self.task is None or self.task.done():
            return
        _log.warning(
            "the handler of workflow `%s` (run %s) ignores its cancellation; its place is freed, "
            "and what it still does is not recorded",
            self.workflow.id,
            self.run_id,
        )
        self._report_stop()
        self._executor.ended(self)

    # -- reports ------------------------------------------------------------------------------

    def _report_stop(self) -> None:
        if self.stop_reason == "timed_out":
            limit = self.workflow.timeout
            self._report_failure(
                RunTimeoutError(
                    f"the run took longer than its timeout of {limit}", run_id=self.run_id
                )
            )
        elif self.stop_reason == "cancelled":
            self._report("cancelled", None)
        elif self.stop_reason == "released":
            self._report("released", None)
        elif self.stop_reason == "parked":
            self._report("parked", None, wakes_at=self._wakes_at)
        self._reported = True

    def _report_failure(self, error: BaseException, *, final: bool = False) -> None:
        if self._reported:
            return
        self.failure = error
        # Before anything that may fail in its turn.
        self._report("failed", json.dumps(error_record(error)), final=final)
        is_last = final or self.attempt > self.workflow.retries
        was_cancelled = issubclass(type(error), asyncio.CancelledError)
        say = _log.error if is_last else _log.warning
        say(
            "run %s of workflow `%s` failed in attempt %d%s%s",
            self.run_id,
            self.workflow.id,
            self.attempt,
            "" if is_last else f" of {self.workflow.retries + 1}; it is tried again",
            ": its handler was cancelled, or awaited something that was, and nobody had asked "
            "polos to cancel the run"
            if was_cancelled
            else "",
            exc_info=_loggable(error),
        )
        hook = self.workflow.on_failure
        if hook is not None and is_last:
            self._executor.call_hook(
                hook, self._failure(error), f"on_failure of workflow `{self.workflow.id}`"
            )

    def _report_code_change(self, error: CodeChangedError) -> None:
        if self.workflow.on_code_change == "fail" and not error.patches:
            self._report_failure(error, final=True)
            return
        note = f"held for a worker with other code: {error.reason}"
        self._report("held", note)
        _log.warning(
            "run %s of workflow `%s` is %s. It goes on when a worker with other code registers; "
            "`polos doctor` lists such runs, `polos runs cancel` ends one",
            self.run_id,
            self.workflow.id,
            note,
        )

    def _failure(self, error: BaseException) -> RunFailure:
        from polos.hooks import RunFailure

        slot, _, _, timezone = self._slots
        return RunFailure(
            workflow_id=self.workflow.id,
            run_id=self.run_id,
            schedule_id=self.schedule_id,
            key=self.key,
            timestamp=None if slot is None else from_micros(slot).astimezone(ZoneInfo(timezone)),
            attempt=self.attempt,
            error=error,
        )

    def _report(
        self, kind: str, data: str | None, *, wakes_at: int | None = None, final: bool = False
    ) -> None:
        if self._reported:
            return
        self._reported = True
        self.outcome = kind
        core = self._executor.core
        assert core is not None
        core.end_run(
            self.run_id,
            self.token,
            self.workflow.id,
            self.attempt,
            kind,
            self.origin == "invoke",
            data,
            wakes_at,
            final,
        )

    # -- for steps ----------------------------------------------------------------------------

    async def confirm_claim(self) -> None:
        """Before something is executed: make sure that the run is still ours.

        Usually a look at the time of the worker's last sign of life. When the process was stopped
        for longer than its lease, others may have gone on with the run, and only the database
        knows.
        """
        core = self._executor.core
        assert core is not None
        # Not knowing is no reason to execute, nor to fail: it waits for an answer.
        if not core.is_trusted() and not await self._ask(
            "claim_stands", run=self.run_id, token=self.token
        ):
            if self._has_ended():
                raise run_ended(self.run_id, self.attempt, self.outcome)
            self.stop("lease_lost")
            raise lease_lost(self.run_id)

    def check_same_code(self, step: str | None) -> None:
        """A resumed run that comes to a new step, or to its end, has to have reached every step
        that it had done before.
        """
        patches = self.journal.unknown_patches()
        unreached = self.journal.unreached(self.attempt)
        if not patches and not unreached:
            return
        names = ", ".join(f"`{name}`" for name in unreached[:5])
        where = "its end" if step is None else f"the new step `{step}`"
        reason = f"it came to {where} without the steps that it had done before: {names}"
        if patches:
            patch = ", ".join(f"`{name}`" for name in patches[:5])
            reason = f"it was begun with the patch {patch}, which the code here doesn't ask for"
        error = CodeChangedError(
            f"the run was resumed, and {reason}; the code has changed, or its way depends on "
            f"something that is not recorded in a step. Nothing was repeated; start the work "
            f"anew, or bring the old code back and retry the run"
        )
        error.reason, error.patches = reason, tuple(patches)
        raise error

    @property
    def slot(self) -> tuple[int, str] | None:
        """The slot that it runs for, and the name of the schedule's zone."""
        slot, _, _, timezone = self._slots
        return None if slot is None else (slot, timezone)

    def about_to_call(self, step: str | None) -> None:
        """A step's function is called next, or (``None``) the handler."""
        before = self._executor.before_call
        if before is not None:
            before(self, step)

    def executing(self, change: int) -> None:
        """A step begins (1) or ends (-1) to execute its function."""
        self._executing += change

    def now(self) -> int:
        """The time by the database's clock, in microseconds since the epoch."""
        return self._executor.opened.now()

    def is_stopping(self) -> bool:
        """Whether a cancellation that arrives is meant for the run."""
        return self.stop_reason is not None or _cancelled_from_outside()

    def _has_ended(self) -> bool:
        """Whether its handler has returned or raised, so that what still uses `ctx` is late."""
        return self._reported and self.stop_reason is None

    def check_alive(self) -> None:
        """A run that was stopped takes no more steps, in its cleanup either; nor does one that has
        ended.
        """
        if self._has_ended():
            raise run_ended(self.run_id, self.attempt, self.outcome)
        if self.stop_reason == "lease_lost":
            raise lease_lost(self.run_id)
        if self.stop_reason == "parked":
            raise HandlerParked
        if self.stop_reason is not None:
            raise asyncio.CancelledError(
                f"run {self.run_id} is being stopped; it takes no more steps"
            )

    async def record(
        self,
        name: str,
        state: str,
        attempt: int,
        started_at: int,
        *,
        result: str | None = None,
        error: str | None = None,
        wakes_at: int | None = None,
    ) -> None:
        """Write a step; returns when it is durable."""
        executor = self._executor
        durable: asyncio.Future[bool] = self.loop.create_future()
        assert executor.core is not None
        executor.core.record_step(
            executor.bridge.core,
            durable,
            self.run_id,
            self.token,
            name,
            state,
            attempt,
            self.attempt,
            result,
            error,
            wakes_at,
            started_at,
        )
        if not await durable:
            if self._has_ended():
                raise run_ended(self.run_id, self.attempt, self.outcome)
            self.stop("lease_lost")
            raise lease_lost(self.run_id)

    async def sleep_until(self, instant_us: int) -> None:
        """Wait by the database's clock; for long, without a task."""
        if instant_us - self.now() > _PARK_MIN_US and self.can_park():
            self.park(instant_us)
        delay = instant_us - self.now()
        timer = self._executor.timer(delay)
        if timer.done():
            return
        with self.waiting(), self.blocked() if delay > _PARK_MIN_US else nullcontext():
            await timer

    def can_park(self) -> bool:
        """Whether nothing of the run goes on beside what its handler waits for here."""
        if self._executing:
            return False
        task = asyncio.current_task()
        return task is self.task or (self._waits.get(task, False) and len(self._waits) == 1)

    def park(self, wakes_at: int | None) -> NoReturn:
        """Give up the task and the place until ``wakes_at``, or until a child run ends."""
        self._wakes_at = wakes_at
        self.stop_reason = "parked"
        raise HandlerParked

    @contextmanager
    def waiting(self, run_id: str | None = None) -> Iterator[None]:
        """While this is open, the run waits for the clock, or for the end of run ``run_id``."""
        self._sleeping += 1
        if run_id is not None:
            self.awaited.append(run_id)
        self._executor.note_change()
        try:
            yield
        finally:
            self._sleeping -= 1
            if run_id is not None:
                self.awaited.remove(run_id)

    @contextmanager
    def blocked(self) -> Iterator[None]:
        """While this is open, the run keeps nothing that other runs may need: its permit is free
        for another run, and where its handler has a thread, for another thread. It takes both back
        at once when it continues.
        """
        executor = self._executor
        core = executor.core
        assert core is not None
        self._blocked += 1
        if self._blocked == 1:
            core.block(self.run_id, self.token)
            if not self.workflow.is_async:
                executor.handler_threads.grow(1)
        try:
            yield
        finally:
            self._blocked -= 1
            if self._blocked == 0:
                core.unblock(self.run_id, self.token)
                if not self.workflow.is_async:
                    executor.handler_threads.grow(-1)

    @contextmanager
    def waiting_for_run(self, run_id: str) -> Iterator[None]:
        """While this is open, a handler, or a step's function, waits for another run."""
        is_in_step = _current_step.get() is not None
        if is_in_step:
            self.executing(-1)
        try:
            is_over = self.stop_reason is not None or self._reported
            with nullcontext() if is_over else self.waiting(run_id), self.blocked():
                yield
        finally:
            if is_in_step:
                self.executing(1)

    def wait_here(self, coroutine: Coroutine[Any, Any, R]) -> R:
        """The result of ``coroutine``, executed on the worker's loop; blocks the calling thread.

        When the run is stopped the wait ends, with what :meth:`check_alive` raises.
        """
        is_handler = threading.get_ident() == self._handler_thread

        async def on_loop() -> R:
            task = asyncio.current_task()
            self._waits[task] = is_handler
            token = running.set(self)  # the thread may be one without our context
            try:
                if self.stop_reason is not None and not self._reported:
                    self.check_alive()
                return await awaiting(coroutine)
            finally:
                running.reset(token)
                del self._waits[task]
                coroutine.close()

        wait = on_loop()
        try:
            answer = asyncio.run_coroutine_threadsafe(wait, self.loop)
        except RuntimeError:  # the loop is closed
            wait.close()
            coroutine.close()
            raise asyncio.CancelledError("the worker of this run has ended") from None
        # The handler's own thread is looked after by `blocked`, in steps as well.
        is_accounted = pool_of_thread() is self._executor.handler_threads
        with nullcontext() if is_accounted else blocked_thread():
            try:
                return answer.result()
            except concurrent.futures.CancelledError:
                self.check_alive()
                raise asyncio.CancelledError("the wait was cancelled") from None

    def waits_for_time(self) -> bool:
        """Whether it sleeps, and does nothing beside that."""
        return self._sleeping > 0 and self._executing == 0

    async def within(self, limit: timedelta, work: Coroutine[Any, Any, Any], what: str) -> Any:
        """The result of ``work``, or ``TimeoutError`` when it takes longer than ``limit``."""
        task = self.loop.create_task(work)
        timer = self._executor.timer(micros_of(limit))
        try:
            await asyncio.wait({task, timer}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            task.cancel()
            await asyncio.wait({task}, timeout=_STOP_GRACE.total_seconds())
            if task.done() and not task.cancelled() and task.exception() is None:
                return task.result()
            raise TimeoutError(f"{what} took longer than {limit}")
        finally:
            timer.cancel()
            if not task.done():
                task.cancel()

    async def invoke(
        self, workflow: Workflow[Any, Any] | str, payload: Any, key: str
    ) -> RunHandle[Any]:
        """Start a child run; with the same key, the same one."""
        client = self._executor.client
        return await runs.invoke(
            client, workflow, payload, idempotency_key=key, _parent=self.run_id
        )

    async def child_ended(self, child: str) -> dict[str, Any]:
        """The child run when it has ended; waits for it without a task where that is possible."""
        ended: dict[str, Any]
        if self.can_park():
            ended = await self._ask("get_run", id=child)
            if ended["status"] not in ("succeeded", "failed", "cancelled"):
                self.park(None)
            return ended
        with self.waiting(child), self.blocked():
            ended = await self._ask("await_run", id=child)
        return ended

    # -- in an outage -------------------------------------------------------------------------

    @property
    def database(self) -> str:
        """The database of its worker, as its client names it."""
        return self._executor.client.database

    async def _ask(self, op: str, **fields: Any) -> Any:
        """Make a request on behalf of the run; waits while the database is unavailable."""
        token = running.set(self)  # the task may be one without our context
        try:
            return await self._executor.client._ask(op, **fields)
        finally:
            running.reset(token)

    async def through_outages(self, request: Callable[[], Awaitable[R]]) -> R:
        """The answer to ``request``, which is made again as long as the database is unavailable: an
        outage is no reason for a run to fail. Ends early when the run is stopped.
        """
        pause = _ASK_AGAIN_MIN
        while True:
            try:
                return await request()
            except StoreUnavailableError:
                if self._reported:
                    raise
                self.check_alive()
            with self.waiting():
                if self._executor.client._is_virtual():
                    await self._executor.timer(int(pause * 1e6))
                else:
                    await asyncio.sleep(pause)
            self.check_alive()
            pause = min(pause * 2, _ASK_AGAIN_MAX)

    def _give_way(self) -> NoReturn:
        """The database can't be asked, and what asks can't wait: the run is given back, and
        continues, from its first unfinished step, when the database is available.
        """
        if self.can_park():
            self.park(self.now())
        self.stop("released")
        raise HandlerParked

    # -- for the context ----------------------------------------------------------------------

    @property
    def input(self) -> Any:
        """The schedule's data."""
        return None if self._input is None else decode(self._input, name="input")

    def last_result(self) -> Any:
        """See ``ctx.last_result``."""
        if self._previous is None:
            answer = None
            if self.schedule_id is not None:
                answer = self._read(
                    "previous_result", schedule_id=self.schedule_id, before=self.run_id
                )
            self._previous = (previous_result(answer, self.workflow.result_type),)
        return self._previous[0]

    def _read(self, op: str, **fields: Any) -> Any:
        """The answer to a question that is not awaited. A handler's thread waits for it through an
        outage; on the event loop, where nothing may wait, the run gives way.
        """
        if asyncio._get_running_loop() is None:
            return self.wait_here(self._ask(op, **fields))
        self.check_alive()
        try:
            answer = self._executor.client._call_within(json.dumps({op: fields}), _READ_ON_LOOP)
        except StoreUnavailableError:
            answer = None
        if answer is None:
            self._give_way()
        return json.loads(answer)

    def log(self) -> _RunLog:
        """See ``ctx.log``."""
        if self._log is None:
            extra = {"run_id": self.run_id, "workflow": self.workflow.id, "key": self.key}
            self._log = _RunLog(_run_log, extra)
        return self._log


def _cancelled_from_outside() -> bool:
    """Whether somebody has cancelled the current task, rather than its code having raised."""
    task = asyncio.current_task()
    cancelling = getattr(task, "cancelling", None)
    # Before Python 3.11 it can't be told; a shutdown is the likelier, and loses nothing.
    return True if cancelling is None else cancelling() > 0


def _loggable(error: BaseException) -> BaseException | None:
    """The exception for a log record, unless it can't even be printed."""
    try:
        str(error)
        error.__traceback__  # noqa: B018 -- what a log record looks at first
    except BaseException:
        return None
    return error
