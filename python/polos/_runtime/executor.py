"""Execute a worker's runs on an event loop, from claim to completion.

The core decides what runs and when. This module executes it, reports the outcome, and contains no
policy.
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
from polos._codec.codec import decode, encode
from polos._codec.exceptions import error_record
from polos._core.blocking import awaiting
from polos._core.bridge import LoopBridge
from polos._core.instants import from_micros, micros_of
from polos._core.real_datetime import date
from polos._core.safe_logging import quiet_logger
from polos._polos import spec_slots
from polos._runtime.current_run import current_run, running
from polos._runtime.instrumentation import around_run
from polos._runtime.loop_shutdown import LoopWatch
from polos._runtime.threads import ThreadPool, blocked_thread, pool_of_thread
from polos._runtime.watchdog import Watchdog
from polos._validate.schedule_options import ScheduleDeclaration, core_spec
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

# Maximum number of consecutive slots that an application's calendar may exclude before `upcoming`
# names one of them.
_EXCLUDED_MAX = 4_000

# A handler that sleeps for longer releases its task and its permit, and is called again when it is
# time. For shorter sleeps, that would cost more than it saves.
_PARK_MIN_US = 5_000_000

# Delay before a run repeats a request to an unavailable database, in seconds: first and longest.
_ASK_AGAIN_MIN = 0.05
_ASK_AGAIN_MAX = 1.0

# How many seconds `ctx.last_result`, which cannot be awaited, may block the event loop.
_READ_ON_LOOP = 1.0

# The record of a failure if there is no memory to describe it.
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

# How long a cancelled handler may take before its outcome is reported without it.
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
        # Import most of pydantic now, so that the first run is not slow.
        from polos import hooks  # noqa: F401
        from polos._codec import decoder as _decoding  # noqa: F401
        from polos._codec import encoder as _encoding  # noqa: F401
        from polos.payload import SchedulePayload

        self.new_payload = SchedulePayload._from_micros
        self.client = client
        self.workflows = workflows
        # Separate pools, because a sync handler waits in its thread for its steps: in one pool,
        # handlers that fill it would wait forever.
        self.handler_threads = ThreadPool(thread_count, "polos-handler")
        self.step_threads = ThreadPool(thread_count, "polos-step")
        self.loop = loop
        self.bridge = LoopBridge(loop, self._handle)
        self.core: WorkerCore | None = None
        self.registered = loop.create_future()
        self.over = loop.create_future()
        self.lost: str | None = None  # why the worker stopped on its own
        self.active: dict[tuple[str, int], ActiveRun] = {}
        self._started_count = 0  # how many of the current batch have been started
        self.on_idle: Callable[[], None] = lambda: None
        self._hooks: set[asyncio.Task[None]] = set()
        self._timers: dict[int, asyncio.Future[None]] = {}
        self._timer_ids = itertools.count(1)
        self.change_count = 0
        # How many times the clock or the core has resumed a handler.
        self.nudge_count = 0
        # Called before a handler (step `None`) or a step's function. An exception from it counts as
        # an exception of the handler or step.
        self.before_call: Callable[[ActiveRun, str | None], None] | None = None
        self._change: asyncio.Future[None] | None = None
        self.opened = client._opened()
        self.watchdog = Watchdog(loop, self._describe)
        self.loop_watch = LoopWatch(loop)
        self.is_deregistering = False  # whether to ignore runs that arrive

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
            _log.debug("registered as %s", text)
            if not self.registered.done():
                self.registered.set_result(text)
            return
        if kind == "lost":
            self.lost = text
            kind = "error"
        getattr(_log, kind)(text)

    def _missed(self, missed: list[tuple[str, str, str, int, int, int, str]]) -> None:
        """Log missed slots, once per workflow and reason, and call the `on_missed` hooks."""
        totals: dict[tuple[str, str], tuple[int, int]] = {}
        for schedule, workflow_id, key, first, last, count, reason in missed:
            schedules, slots = totals.get((workflow_id, reason), (0, 0))
            totals[workflow_id, reason] = schedules + 1, slots + count
            workflow = self.workflows.get(workflow_id)
            if workflow is not None and workflow.on_missed is not None:
                from polos.hooks import MissedSlots

                event = MissedSlots(
                    workflow_id, schedule, key, from_micros(first), from_micros(last), count, reason
                )
                self.call_hook(workflow.on_missed, event, f"on_missed of workflow `{workflow_id}`")
        for (workflow_id, reason), (schedules, slots) in totals.items():
            text = "%s of workflow `%s` missed (%s): %s"
            _log.warning(
                text, _counted(slots, "slot"), workflow_id, _counted(schedules, "schedule"), reason
            )

    def call_hook(self, hook: Callable[..., Any], event: Any, what: str) -> None:
        """Call the application's ``hook`` in a separate task; its errors are logged."""
        task = self.loop.create_task(self._call_hook(hook, event, what))
        self._hooks.add(task)
        task.add_done_callback(self._hooks.discard)

    async def finish_hooks(self, timeout: timedelta) -> None:
        """Wait for hooks that are in progress."""
        if self._hooks:
            await asyncio.wait(self._hooks, timeout=timeout.total_seconds())

    async def _call_hook(self, hook: Callable[..., Any], event: Any, what: str) -> None:
        try:
            if inspect.iscoroutinefunction(hook):
                await hook(event)
            else:
                made = await self.step_threads.run(hook, event)
                if asyncio.iscoroutine(made):
                    await made
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            _log.error("%s failed", what, exc_info=_loggable(error))

    def _start_all(self, runs: list[tuple[Any, ...]]) -> None:
        """Start runs, each once. If memory is short this ends early, and continues where it stopped
        when it is called again.
        """
        while self._started_count < len(runs):
            following = self._started_count + 1  # computed first: nothing may fail after the start
            try:
                self._start(runs[self._started_count])
            except MemoryError:
                raise
            except Exception:
                # A failure of one run must not affect the others.
                _log.exception("run %s could not be started", runs[self._started_count][0])
            self._started_count = following
        self._started_count = 0

    def _start(self, claimed: tuple[Any, ...]) -> None:
        if self.is_deregistering:
            # The core sent it before it knew. Deregistering frees the claim, and may have done so.
            return
        workflow = self.workflows[claimed[2]]
        active = ActiveRun(self, workflow, claimed)
        key, execution = (active.run_id, active.token), active.execute()
        try:
            self.active[key] = active
            active.task = self.loop.create_task(execution)
        except BaseException:
            self.active.pop(key, None)
            execution.close()
            raise
        # The task is under way: nothing after this may undo it. Without the callback only a run
        # that is stopped before it begins goes unnoticed. (`suppress` would need memory, too.)
        try:  # noqa: SIM105
            active.task.add_done_callback(active._check_has_begun)
        except MemoryError:
            pass

    def ended(self, active: ActiveRun) -> None:
        """Note that a run no longer executes here."""
        if self.active.pop((active.run_id, active.token), None) is not None and not self.active:
            self.watchdog.busy(False)
            self.on_idle()
        self.note_change()

    def timer(self, delay_us: int) -> asyncio.Future[None]:
        """Return a future that is done after ``delay_us`` microseconds of the database's clock."""
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
        """Whether anything waits for the clock, or may be ended by it."""
        return bool(self._timers) or any(a.workflow.timeout for a in self.active.values())

    def note_change(self) -> None:
        """Note that a run has completed or has started to wait."""
        self.change_count += 1
        if self._change is not None and not self._change.done():
            self._change.set_result(None)

    async def changed(self, timeout: float) -> None:
        """Wait for the next change, at most ``timeout`` seconds."""
        self._change = self.loop.create_future()
        await asyncio.wait({self._change}, timeout=timeout)
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
    """A run in progress."""

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
        self._blocked = 0  # how many waits need its permit to be free
        # Tasks in which threads of the run wait; whether it is the handler's own thread.
        self._waits: dict[asyncio.Task[Any] | None, bool] = {}
        self._handler_thread: int | None = None
        self._wakes_at: int | None = None
        self._reported = False
        self.outcome: str | None = None  # the reported outcome of this execution
        self.failure: BaseException | None = None
        self.awaited: list[str] = []  # runs that it waits for
        self.patches: dict[str, bool] = {}  # the answers of this execution
        self._log: _RunLog | None = None
        self._previous: tuple[Any] | None = None

    # -- the run ------------------------------------------------------------------------------

    async def execute(self) -> None:
        """Call the handler and report its outcome. Raises nothing."""
        self._has_begun = True
        # Not in an inner coroutine: a GeneratorExit would arrive there without its text.
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
                            # A released run would be started again at once, without end.
                            self._report_failure(cancelled)
                            return
                        # The loop is shutting down: another worker continues the run.
                        self.stop_reason = "released"
                except CodeChangedError as error:
                    # A retry with the same code would fail in the same way.
                    if self.stop_reason is None:
                        self._report_code_change(error)
                        return
                except SerializationError as error:
                    # A retry would fail in the same way.
                    if self.stop_reason is None:
                        self._report_failure(error, final=True)
                        return
                except BaseException as error:
                    if self.stop_reason is None:
                        # Not `isinstance`, which reads the exception's own `__class__`.
                        is_exit = issubclass(type(error), GeneratorExit)
                        is_abandoned = is_exit and self.loop.is_closed()
                        if not is_abandoned and not self._executor.client._is_closed:
                            self._report_failure(error)
                            return
                        # The client or the loop was closed while the handler ran. The handler
                        # cannot know why its step was rejected.
                        self.stop_reason = "released"
                self._report_stop()
            except MemoryError:
                # There was no memory to build the report.
                self._report("failed", _NO_MEMORY)
            finally:
                self._executor.ended(self)

    def _check_has_begun(self, task: asyncio.Task[None]) -> None:
        """Report a task that was cancelled before its first instruction, which :meth:`execute` has
        not noticed.
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
        """Whether the application's calendar excludes the slot; if so, report that."""
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
        """Whether the run's workers died so often that it is not executed again; if so, it fails.

        If the last interruption affected only this run, no other run can be the cause. A run that
        never executes alone may be interrupted several times as often.
        """
        limit = self.workflow.max_interruptions
        if limit is None or self.interruptions < limit:
            return False
        if not self._was_alone and self.interruptions < limit * _SHARED_FACTOR:
            return False
        self._report_failure(
            InterruptedTooOftenError(
                f"the worker died {self.interruptions} times in a row while it executed the run, "
                f"and no step was recorded meanwhile: killed, out of memory, or crashed (the "
                f"system's log may say which). The run was not executed again, so that it kills "
                f"no more workers (max_interruptions={limit}); find the cause, and then retry "
                f"it: polos runs retry {self.run_id}",
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
        """Return the next slot. A schedule that ends with this slot has none; then the slot itself
        is returned.
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
        """Return the handler's payload."""
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
        """Stop the run for a reason of the core. A second reason has no effect."""
        if self.stop_reason is not None:
            return
        self.stop_reason = reason
        if self.task is not None:
            self.task.cancel()
        for task in list(self._waits):  # threads cannot be stopped, but their waits can
            if task is not None:
                task.cancel()
        self._executor.timer(micros_of(_STOP_GRACE)).add_done_callback(self._give_up)

    def _give_up(self, timer: asyncio.Future[None]) -> None:
        """Report the outcome without the handler, which ignores its cancellation."""
        if timer.cancelled() or self._reported or self.task is None or self.task.done():
            return
        _log.warning(
            "the handler of workflow `%s` (run %s) ignores its cancellation; its permit is "
            "released, and what it still does is not recorded",
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
        # Must come first, before anything else that can fail.
        self._report("failed", json.dumps(error_record(error)), final=final)
        is_last = final or self.attempt > self.workflow.retries
        was_cancelled = issubclass(type(error), asyncio.CancelledError)
        say = _log.error if is_last else _log.warning
        say(
            "run %s of workflow `%s` failed in attempt %d%s%s",
            self.run_id,
            self.workflow.id,
            self.attempt,
            "" if is_last else f" of {self.workflow.retries + 1}; it will be retried",
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
            "run %s of workflow `%s` is %s. It continues when a worker with other code registers. "
            "`polos doctor` lists such runs, and `polos runs cancel` cancels one",
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
        core.complete_run(
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
        """Make sure, before anything is executed, that this worker still holds the claim.

        Usually this only checks the time of the worker's last heartbeat. If the process was stopped
        for longer than its lease, another worker may have taken over the run, and only the database
        knows.
        """
        core = self._executor.core
        assert core is not None
        # Without an answer the run waits; it neither executes nor fails.
        if not core.is_trusted() and not await self._ask(
            "claim_stands", run=self.run_id, token=self.token
        ):
            if self._has_ended():
                raise run_ended(self.run_id, self.attempt, self.outcome)
            self.stop("lease_lost")
            raise lease_lost(self.run_id)

    def check_same_code(self, step: str | None) -> None:
        """Check that a resumed run has reached every step that it had done, before a new step or
        its end.

        Raises :class:`CodeChangedError` otherwise.
        """
        patches = self.journal.unknown_patches()
        unreached = self.journal.unreached(self.attempt)
        if not patches and not unreached:
            return
        names = ", ".join(f"`{name}`" for name in unreached[:5])
        where = "its end" if step is None else f"the new step `{step}`"
        reason = f"it reached {where} without the steps that it had done before: {names}"
        if patches:
            patch = ", ".join(f"`{name}`" for name in patches[:5])
            reason = f"it started with the patch {patch}, which this code does not request"
        error = CodeChangedError(
            f"the run was resumed, and {reason}; the code has changed, or it branches on "
            f"something that is not recorded in a step. Nothing was repeated; start a new run, "
            f"or deploy the old code again and retry the run"
        )
        error.reason, error.patches = reason, tuple(patches)
        raise error

    @property
    def slot(self) -> tuple[int, str] | None:
        """The slot of the run and the name of the schedule's zone, or ``None``."""
        slot, _, _, timezone = self._slots
        return None if slot is None else (slot, timezone)

    def about_to_call(self, step: str | None) -> None:
        """Note that a step's function, or (``None``) the handler, is called next."""
        before = self._executor.before_call
        if before is not None:
            before(self, step)

    def executing(self, change: int) -> None:
        """Note that a step starts (1) or stops (-1) executing its function."""
        self._executing += change

    def now(self) -> int:
        """Return the time of the database's clock, in microseconds since the epoch."""
        return self._executor.opened.now()

    def is_stopping(self) -> bool:
        """Whether a cancellation that arrives now is meant for the run."""
        return self.stop_reason is not None or _cancelled_from_outside()

    def _has_ended(self) -> bool:
        """Whether the handler has returned or raised, so that later uses of `ctx` are errors."""
        return self._reported and self.stop_reason is None

    def check_alive(self) -> None:
        """Raise if the run was stopped or has ended: it executes no more steps, not even in its
        cleanup.
        """
        if self._has_ended():
            raise run_ended(self.run_id, self.attempt, self.outcome)
        if self.stop_reason == "lease_lost":
            raise lease_lost(self.run_id)
        if self.stop_reason == "parked":
            raise HandlerParked
        if self.stop_reason is not None:
            raise asyncio.CancelledError(
                f"run {self.run_id} is being stopped and executes no more steps"
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
        """Write a step; return when it is durable."""
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
        """Wait by the database's clock; a long wait holds no task."""
        if instant_us - self.now() > _PARK_MIN_US and self.can_park():
            self.park(instant_us)
        delay = instant_us - self.now()
        timer = self._executor.timer(delay)
        if timer.done():
            return
        with self.waiting(), self.blocked() if delay > _PARK_MIN_US else nullcontext():
            await timer

    def can_park(self) -> bool:
        """Whether nothing else of the run is in progress, so that the handler can be unwound."""
        if self._executing:
            return False
        task = asyncio.current_task()
        return task is self.task or (self._waits.get(task, False) and len(self._waits) == 1)

    def park(self, wakes_at: int | None) -> NoReturn:
        """Release the task and the permit until ``wakes_at``, or until a child run completes."""
        self._wakes_at = wakes_at
        self.stop_reason = "parked"
        raise HandlerParked

    @contextmanager
    def waiting(self, run_id: str | None = None) -> Iterator[None]:
        """Note that the run waits inside the block, for the clock or for run ``run_id``."""
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
        """Release what other runs may need inside the block.

        The permit is free for another run, and if the handler has a thread, its pool may start
        another one. Both are taken back at once when the run continues.
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
        """Note that a handler, or a step's function, waits for another run inside the block."""
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
        """Execute ``coroutine`` on the worker's loop, block the calling thread, and return the
        result.

        If the run is stopped, the wait ends with what :meth:`check_alive` raises.
        """
        is_handler = threading.get_ident() == self._handler_thread

        async def on_loop() -> R:
            task = asyncio.current_task()
            self._waits[task] = is_handler
            token = running.set(self)  # the thread may lack our context
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
        # `blocked` handles the handler's own thread, in steps as well.
        is_accounted = pool_of_thread() is self._executor.handler_threads
        with nullcontext() if is_accounted else blocked_thread():
            try:
                return answer.result()
            except concurrent.futures.CancelledError:
                self.check_alive()
                raise asyncio.CancelledError("the wait was cancelled") from None

    def waits_for_time(self) -> bool:
        """Whether the run sleeps and does nothing else."""
        return self._sleeping > 0 and self._executing == 0

    async def within(self, limit: timedelta, work: Coroutine[Any, Any, Any], what: str) -> Any:
        """Return the result of ``work``; raise ``TimeoutError`` after ``limit``."""
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
        """Start a child run; the same key returns the same run."""
        client = self._executor.client
        return await runs.invoke(
            client, workflow, payload, idempotency_key=key, _parent=self.run_id
        )

    async def child_ended(self, child: str) -> dict[str, Any]:
        """Wait until the child run has completed, if possible without a task, and return it."""
        ended: dict[str, Any]
        if self.can_park():
            ended = await self._ask("get_run", id=child)
            if ended["status"] not in ("succeeded", "failed", "cancelled"):
                self.park(None)
            return ended
        with self.waiting(child), self.blocked():
            ended = await self._ask("await_run", id=child)
        return ended

    async def stop_if_cancelled(self) -> None:
        """Stop this run if somebody has asked for its cancellation.

        A run is cancelled together with its children, and may learn of theirs first. Without this,
        it would fail because of the child.
        """
        if await self._ask("cancel_requested", id=self.run_id):
            self.stop("cancelled")
            await asyncio.sleep(0)  # its task is cancelled here

    # -- outages ------------------------------------------------------------------------------

    @property
    def database(self) -> str:
        """The database of the run's worker, as its client names it."""
        return self._executor.client.database

    async def _ask(self, op: str, **fields: Any) -> Any:
        """Send a request for the run; wait while the database is unavailable."""
        token = running.set(self)  # the task may lack our context
        try:
            return await self._executor.client._ask(op, **fields)
        finally:
            running.reset(token)

    async def through_outages(self, request: Callable[[], Awaitable[R]]) -> R:
        """Return the answer to ``request``, and repeat it while the database is unavailable.

        An outage must not fail a run. This ends early if the run is stopped.
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

    def _release(self) -> NoReturn:
        """Release the run, because the database is unavailable and the caller cannot wait.

        The run continues from its first unfinished step when the database is available.
        """
        if self.can_park():
            self.park(self.now())
        self.stop("released")
        raise HandlerParked

    # -- the context's API --------------------------------------------------------------------

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
        """Return the answer to a request that is not awaited.

        A handler's thread waits for it through an outage. On the event loop, where nothing may
        wait, the run is released.
        """
        if asyncio._get_running_loop() is None:
            return self.wait_here(self._ask(op, **fields))
        self.check_alive()
        try:
            answer = self._executor.client._call_within(json.dumps({op: fields}), _READ_ON_LOOP)
        except StoreUnavailableError:
            answer = None
        if answer is None:
            self._release()
        return json.loads(answer)

    def log(self) -> _RunLog:
        """See ``ctx.log``."""
        if self._log is None:
            extra = {"run_id": self.run_id, "workflow": self.workflow.id, "key": self.key}
            self._log = _RunLog(_run_log, extra)
        return self._log


def _cancelled_from_outside() -> bool:
    """Whether other code has cancelled the current task, rather than its own code having raised."""
    task = asyncio.current_task()
    cancelling = getattr(task, "cancelling", None)
    # Unknown before Python 3.11; a shutdown is more likely, and loses nothing.
    return True if cancelling is None else cancelling() > 0


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _loggable(error: BaseException) -> BaseException | None:
    """Return the exception for a log record, or ``None`` if it cannot be printed."""
    try:
        str(error)
        error.__traceback__  # noqa: B018 -- what a log record looks at first
    except BaseException:
        return None
    return error
