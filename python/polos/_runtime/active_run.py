"""A run that executes on this worker: what is known about it, and the call of its handler."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from polos._codec.codec import decode, encode
from polos._core import requests
from polos._core.instants import micros_of
from polos._core.safe_logging import quiet_logger
from polos._runtime.current_run import running
from polos._runtime.entry import Entry
from polos._runtime.hook_runs import restored
from polos._runtime.instrumentation import around_run
from polos._runtime.journal import StepJournal
from polos._runtime.reporter import Reporter
from polos._runtime.run_errors import lease_lost, run_ended
from polos._runtime.run_log import RunLog
from polos._runtime.run_requests import RunRequests
from polos._runtime.run_slot import RunSlot, excluded_day
from polos._runtime.waits import STOP_GRACE, Waits
from polos.context import SyncWorkflowContext, WorkflowContext
from polos.exceptions import (
    CodeChangedError,
    HandlerParked,
    InvalidArgumentError,
    PermanentError,
    SerializationError,
)

if TYPE_CHECKING:
    from polos._polos import ClaimedRun
    from polos._runtime.executor import Executor
    from polos._runtime.middleware import MiddlewareChain
    from polos._runtime.progress import ProgressReports
    from polos.payload import SchedulePayload
    from polos.workflow import Workflow

__all__ = ["ActiveRun"]

_log = quiet_logger("polos.worker")

# How many times `max_interruptions` a run may be interrupted beside other runs, any of which may
# have been the cause.
_SHARED_FACTOR = 4

# Held while one of a run's threads, of which there may be several, makes what they share.
_making_waits = threading.Lock()


class ActiveRun:
    """A run in progress."""

    __slots__ = (
        "__weakref__",
        "_log",
        "_patches",
        "_previous",
        "_waits",
        "attempt",
        "claimed",
        "confirmed_at",
        "entered_at",
        "executor",
        "failure",
        "has_begun",
        "is_reported",
        "journal",
        "loop",
        "origin",
        "outcome",
        "progress",
        "run_id",
        "stop_reason",
        "task",
        "token",
        "workflow",
    )

    run_id: str
    token: int
    origin: str
    attempt: int

    def __init__(
        self, executor: Executor, workflow: Workflow[Any, Any], claimed: ClaimedRun
    ) -> None:
        self.claimed = claimed
        self.run_id = claimed.run_id
        self.token = claimed.token
        self.origin = claimed.origin
        self.attempt = claimed.attempt
        self.executor = executor
        self.loop = executor.loop
        self.workflow = workflow
        self.journal = StepJournal(claimed.journal)
        self._waits: Waits | None = None
        self.task: asyncio.Task[None] | None = None
        self.stop_reason: str | None = None
        # Both by the core's steady clock, in microseconds.
        self.confirmed_at = claimed.confirmed_at
        self.entered_at: int | None = None
        self.has_begun = False  # whether its task has executed anything
        self.is_reported = False  # whether the outcome of this execution is decided
        self.outcome: str | None = None
        self.failure: BaseException | None = None
        self._patches: dict[str, bool] | None = None
        self.progress: ProgressReports | None = None  # once it reports any
        self._log: RunLog | None = None
        self._previous: tuple[Any] | None = None

    # Not needed by every run.

    @property
    def key(self) -> str:
        """The key of the schedule, or of the run."""
        return self.claimed.key

    @property
    def schedule_id(self) -> str | None:
        """The schedule of the run."""
        return self.claimed.schedule_id

    @property
    def interruptions(self) -> int:
        """How many workers have died in a row while they executed the run."""
        return self.claimed.interruptions

    @property
    def waits(self) -> Waits:
        """What it executes and what it waits for."""
        if self._waits is None:
            with _making_waits:
                if self._waits is None:
                    self._waits = Waits(self)
        return self._waits

    @property
    def patches(self) -> dict[str, bool]:
        """The answers of this execution to `ctx.patched`."""
        if self._patches is None:
            self._patches = {}
        return self._patches

    # Made when they are used. An attribute would refer back to the run, and only the garbage
    # collector would free the run then.

    @property
    def requests(self) -> RunRequests:
        """What the run asks its worker's database."""
        return RunRequests(self)

    @property
    def reporter(self) -> Reporter:
        """What reports its outcome."""
        return Reporter(self)

    @property
    def entry(self) -> Entry:
        """Whether its handler may be entered for the first time."""
        return Entry(self)

    @property
    def slots(self) -> RunSlot:
        """The slot that it belongs to, and those next to it."""
        claimed = self.claimed
        return RunSlot(claimed.slot, claimed.last_slot, claimed.upcoming, claimed.timezone)

    # -- execution ----------------------------------------------------------------------------

    async def execute(self) -> None:
        """Call the handler and report its outcome. Raises nothing."""
        self.has_begun = True
        # Not in an inner coroutine: a GeneratorExit would arrive there without its text.
        with around_run(self):
            try:
                # The first conditions only save time.
                declared = self.workflow.schedule
                if declared and declared is not True and self._is_skipped():
                    return
                if self.claimed.interruptions and self._is_interrupted_too_often():
                    return
                try:
                    value = await self._call()
                    if self.stop_reason is None:
                        self.journal.check_same_code(self.attempt, None)
                        text = None if value is None else encode(value, name="result").decode()
                        Reporter(self).succeeded(text, value)
                        return
                except BaseException as error:
                    if self.stop_reason is None and not self._is_for_another_worker(error):
                        self._report_exception(error)
                        return
                self.reporter.stopped()
            except MemoryError:
                # There was no memory to build the report.
                self.reporter.ran_out_of_memory()
            finally:
                self.executor.ended(self)

    def _is_for_another_worker(self, error: BaseException) -> bool:
        """Whether the handler raised only because the loop or the client was closed under it. If
        so, the run is to be released, and another worker continues it.
        """
        # Not `isinstance`, which reads the exception's own `__class__`.
        kind = type(error)
        if issubclass(kind, asyncio.CancelledError):
            # Only if the loop is shutting down. Otherwise, a released run would be started again at
            # once, without end.
            is_released = self.executor.loop_watch.is_closing()
        elif issubclass(kind, (CodeChangedError, SerializationError)):
            is_released = False
        else:
            # The handler cannot know why its step was rejected.
            is_abandoned = issubclass(kind, GeneratorExit) and self.loop.is_closed()
            is_released = is_abandoned or self.executor.client._is_closed
        if is_released:
            self.stop_reason = "released"
        return is_released

    def _report_exception(self, error: BaseException) -> None:
        kind = type(error)
        if issubclass(kind, CodeChangedError):
            assert isinstance(error, CodeChangedError)
            self.reporter.code_changed(error)
        else:
            # A retry of what cannot be stored would fail in the same way.
            self.reporter.failed(error, final=issubclass(kind, SerializationError))

    def check_has_begun(self) -> None:
        """Report the run if its task was cancelled before its first instruction, which
        :meth:`execute` has not noticed.
        """
        if self.has_begun or self.task is None or not self.task.done():
            return
        if self.stop_reason is None:
            if self.executor.loop_watch.is_closing():
                self.stop_reason = "released"
            else:
                self.reporter.failed(asyncio.CancelledError())
        self.reporter.stopped()
        self.executor.ended(self)

    def _is_skipped(self) -> bool:
        """Whether the application's calendar excludes the slot; if so, report that."""
        try:
            day = excluded_day(self)
        except Exception as error:
            self.reporter.failed(error)
            return True
        if day is None:
            return False
        self.reporter.skipped(f"{day} is excluded by the application's calendar")
        return True

    def _is_interrupted_too_often(self) -> bool:
        """Whether the run's workers died so often that it is not executed again; if so, it fails.

        If the last interruption affected only this run, no other run can be the cause. A run that
        never executes alone may be interrupted several times as often.
        """
        limit = self.workflow.max_interruptions
        if limit is None or self.interruptions < limit:
            return False
        if not self.claimed.interrupted_alone and self.interruptions < limit * _SHARED_FACTOR:
            return False
        self.reporter.interrupted_too_often()
        return True

    def _call(self) -> Coroutine[Any, Any, Any]:
        running.set(self)  # of this task, and of what it starts
        executor = self.executor
        if executor.before_call is not None:
            executor.before_call(self, None)
        middleware = executor.middleware
        if middleware.given:
            return self._enter_through(middleware)
        return self._enter()

    async def _enter_through(self, middleware: MiddlewareChain) -> Any:
        # Of a run that is refused, the middleware learns nothing.
        if self.entry_is_unconfirmed() and not await self.entry.is_allowed():
            return None
        if middleware.has_async:
            return await middleware.call(self._enter, WorkflowContext(self))
        return await self._enter()

    def entry_is_unconfirmed(self) -> bool:
        """Whether only the database knows if the handler may be called now."""
        if not self.claimed.is_first_of_slot:
            return False
        return not self.executor.core.is_confirmed(self.run_id, self.token, self.confirmed_at)

    async def _enter(self) -> Any:
        workflow = self.workflow
        arity = workflow.arity
        payload = None
        if arity == 2:
            payload = self.payload()
        elif self.claimed.payload is not None:
            self._refuse_payload()
        # Late, because middleware may have taken long. A run that is refused has been reported.
        if self.entry_is_unconfirmed() and not await self.entry.is_allowed():
            return None
        if workflow.is_async:
            self.entered_at = self.executor.core.note_entry(self.claimed)
            if arity == 2:
                return await workflow.fn(WorkflowContext(self), payload)
            return await (workflow.fn(WorkflowContext(self)) if arity else workflow.fn())
        ctx = SyncWorkflowContext(self)
        handler = partial(workflow.fn, *workflow.arguments(ctx, payload))
        enter = partial(self._enter_in_thread, handler)
        value = await self.executor.handler_threads.run(self._in_thread, (enter, ctx))
        # A partial around an async function looks sync and returns a coroutine.
        return await value if asyncio.iscoroutine(value) else value

    def _in_thread(self, entry: tuple[Callable[[], Any], SyncWorkflowContext]) -> Any:
        self.waits.note_handler_thread()
        # It may have waited long for the thread.
        if not self.entry.is_allowed_in_thread():
            return None
        return self.executor.middleware.call_in_thread(*entry)

    def _enter_in_thread(self, handler: Callable[[], Any]) -> Any:
        # Middleware may have taken long.
        if not self.entry.is_allowed_in_thread():
            return None
        self.entered_at = self.executor.core.note_entry(self.claimed)
        return handler()

    def payload(self) -> Any:
        """Return the handler's payload: its own, the slot, or the schedule's input."""
        workflow = self.workflow
        if self.slot is None:
            payload = self.claimed.payload
            if payload is None:
                if workflow.needs_payload:
                    self._refuse_payload()
                return None
            data = restored(decode(payload, workflow.payload_type, name="payload"))
            try:
                return data if data is None else workflow.payload_from(data)
            except InvalidArgumentError as error:
                raise self._misfit(error) from error
        if workflow.takes_slot:
            return workflow.payload_from(self.slot_payload())
        try:
            data = None
            if self.claimed.input is not None:
                data = decode(self.claimed.input, workflow.payload_type, name="input")
            return workflow.input_from(data)
        except Exception as error:
            # Every retry would get the same input.
            raise PermanentError(
                f"the input of schedule `{self.schedule_id}` is not a payload for its workflow: "
                f"{error}; change it with `schedules.update(client, id, input=...)`"
            ) from error

    def _refuse_payload(self) -> NoReturn:
        """Raise for a payload that the handler doesn't take, or a missing one. Who starts a run by
        its workflow's id can't know that.
        """
        from polos._validate.payloads import check_given  # loads pydantic

        payload = self.claimed.payload
        try:
            check_given(self.workflow, None if payload is None else json.loads(payload))
        except InvalidArgumentError as error:
            raise self._misfit(error) from error
        raise AssertionError("the payload fits")

    def _misfit(self, error: InvalidArgumentError) -> PermanentError:
        # Every retry would get the same payload.
        return PermanentError(
            f"the run was started with a payload that its workflow doesn't take: {error}; start "
            f"another run with one that fits"
        )

    def slot_payload(self) -> SchedulePayload | None:
        """Return the slot of a scheduled run; ``None`` if it has none."""
        slots = self.slots
        if slots.value is None:
            return None
        return self.executor.new_payload(
            slots.value,
            slots.last,
            slots.timezone,
            self.schedule_id or "",
            self.key,
            slots.next_slot(self),
        )

    # -- the end ------------------------------------------------------------------------------

    def stop(self, reason: str) -> None:
        """Stop the run for a reason of the core. A second reason has no effect."""
        if self.stop_reason is not None:
            return
        self.stop_reason = reason
        if self.task is not None:
            self.task.cancel()
            if not self.has_begun:
                self.loop.call_soon(self.check_has_begun)
        self.waits.cancel()
        self.executor.timers.start(micros_of(STOP_GRACE)).add_done_callback(self._give_up)

    def _give_up(self, timer: asyncio.Future[None]) -> None:
        """Report the outcome without the handler, which ignores its cancellation."""
        if not timer.cancelled():
            self.give_up()

    def give_up(self) -> None:
        """Report the outcome of a stopped run now, if its handler is still at work."""
        if self.is_reported or self.task is None or self.task.done():
            return
        _log.warning(
            "the handler of workflow `%s` (run %s) ignores its cancellation; its permit is "
            "released, and what it still does is not recorded",
            self.workflow.id,
            self.run_id,
        )
        self.reporter.stopped()
        self.executor.ended(self)

    def is_stopping(self) -> bool:
        """Whether a cancellation that arrives now is meant for the run."""
        return self.stop_reason is not None or _cancelled_from_outside()

    def has_ended(self) -> bool:
        """Whether the handler has returned or raised, so that later uses of `ctx` are errors."""
        return self.is_reported and self.stop_reason is None

    def check_alive(self) -> None:
        """Raise if the run was stopped or has ended: it executes no more steps, not even in its
        cleanup.
        """
        if self.stop_reason is None and not self.is_reported:
            return
        if self.has_ended():
            raise run_ended(self.run_id, self.attempt, self.outcome)
        if self.stop_reason == "lease_lost":
            raise lease_lost(self.run_id)
        if self.stop_reason == "parked":
            raise HandlerParked
        if self.stop_reason is not None:
            raise asyncio.CancelledError(
                f"run {self.run_id} is being stopped and executes no more steps"
            )

    # -- for steps, contexts, and observers ---------------------------------------------------

    def claim_is_unconfirmed(self) -> bool:
        """Whether only the database knows if this worker still holds the claim: the process was
        stopped for longer than its lease, and another worker may have taken over the run.

        Asked before anything is executed. It only compares times.
        """
        return not self.executor.core.is_trusted()

    def about_to_call(self, step: str | None) -> None:
        """Note that a step's function, or (``None``) the handler, is called next."""
        before = self.executor.before_call
        if before is not None:
            before(self, step)

    def now(self) -> int:
        """Return the time of the database's clock, in microseconds since the epoch."""
        return self.executor.opened.now()

    @property
    def database(self) -> str:
        """The database of the run's worker, as its client names it."""
        return self.executor.client.database

    @property
    def slot(self) -> int | None:
        """The slot of the run, or ``None``."""
        return self.claimed.slot

    @property
    def input(self) -> Any:
        """The schedule's data."""
        data = self.claimed.input
        return None if data is None else decode(data, name="input")

    def last_result(self) -> Any:
        """See ``ctx.last_result``."""
        if self._previous is None:
            found = None
            if self.schedule_id is not None:
                request = requests.previous_result(self.schedule_id, self.run_id)
                found = self.requests.read(request)
            self._previous = (_result_of(found, self.workflow.result_type),)
        return self._previous[0]

    def log(self) -> RunLog:
        """See ``ctx.log``."""
        if self._log is None:
            self._log = RunLog(self.run_id, self.workflow.id, self.key)
        return self._log


def _result_of(found: requests.Answer | None, result_type: Any) -> Any:
    if found is None:
        return None
    from polos.models import Run

    return Run._from_core(found, result_type).result


def _cancelled_from_outside() -> bool:
    """Whether other code has cancelled the current task, rather than its own code having raised."""
    task = asyncio.current_task()
    cancelling = getattr(task, "cancelling", None)
    # Unknown before Python 3.11; a shutdown is more likely, and loses nothing.
    return True if cancelling is None else cancelling() > 0
