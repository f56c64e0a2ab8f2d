"""``ctx.step`` of async handlers: durable steps."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Awaitable, Callable, Coroutine
from datetime import timedelta
from types import FunctionType
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from polos._codec.codec import decode, encode
from polos._codec.exceptions import error_from_record, error_record
from polos._core.instants import aware, from_micros, micros_of
from polos._core.real_datetime import datetime
from polos._runtime.backoff import Backoff, duration
from polos._runtime.event_wait import wait_for_event
from polos._runtime.instrumentation import note_child
from polos._runtime.journal import Recorded
from polos._runtime.registry import RegisteredWorkflow
from polos._runtime.step_execution import StepExecution, random_fraction, step_options
from polos._runtime.step_results import child_result, recorded_failure, replayed
from polos._validate.formatting import shown
from polos._validate.retry_on import RetryOn
from polos._validate.schedule_options import check_identifier
from polos._validate.step_functions import (
    check_step_function,
    checked_process_options,
    warn_of_shadowed_options,
)
from polos.exceptions import InvalidArgumentError, RunCancelledError, StepError

if TYPE_CHECKING:
    import uuid

    from polos._runtime.active_run import ActiveRun
    from polos.workflow import Workflow

__all__ = ["Steps"]

R = TypeVar("R")
P = ParamSpec("P")
PayloadT = TypeVar("PayloadT")

_GENERATOR_FLAGS = inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR


class Steps:
    """``ctx.step``: durable steps of a run. A finished step is never executed again."""

    __slots__ = ("_run",)

    def __init__(self, active: ActiveRun) -> None:
        self._run = active

    # These overloads are for type checkers. docs/decisions/0010-types.md says why arguments beside
    # options are not checked.
    @overload
    async def run(
        self,
        name: str,
        fn: Callable[P, Coroutine[Any, Any, R]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> R: ...
    @overload
    async def run(  # type: ignore[overload-cannot-match]
        self,
        name: str,
        fn: Callable[..., Coroutine[Any, Any, R]],
        /,
        *args: Any,
        process: bool,
        memory: int | str | None = None,
        retries: int = 0,
        backoff: float | timedelta | Backoff | None = None,
        timeout: float | timedelta | None = None,
        retry_on: RetryOn = Exception,
        **kwargs: Any,
    ) -> R: ...
    @overload
    async def run(  # type: ignore[overload-cannot-match]
        self,
        name: str,
        fn: Callable[..., Coroutine[Any, Any, R]],
        /,
        *args: Any,
        retries: int,
        backoff: float | timedelta | Backoff | None = None,
        timeout: float | timedelta | None = None,
        retry_on: RetryOn = Exception,
        **kwargs: Any,
    ) -> R: ...
    @overload
    async def run(  # type: ignore[overload-cannot-match]
        self,
        name: str,
        fn: Callable[..., Coroutine[Any, Any, R]],
        /,
        *args: Any,
        timeout: float | timedelta | None,
        **kwargs: Any,
    ) -> R: ...
    @overload
    async def run(
        self, name: str, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> R: ...
    @overload
    async def run(  # type: ignore[overload-cannot-match]
        self,
        name: str,
        fn: Callable[..., R],
        /,
        *args: Any,
        process: bool,
        memory: int | str | None = None,
        retries: int = 0,
        backoff: float | timedelta | Backoff | None = None,
        timeout: float | timedelta | None = None,
        retry_on: RetryOn = Exception,
        **kwargs: Any,
    ) -> R: ...
    @overload
    async def run(  # type: ignore[overload-cannot-match]
        self,
        name: str,
        fn: Callable[..., R],
        /,
        *args: Any,
        retries: int,
        backoff: float | timedelta | Backoff | None = None,
        timeout: float | timedelta | None = None,
        retry_on: RetryOn = Exception,
        **kwargs: Any,
    ) -> R: ...
    @overload
    async def run(  # type: ignore[overload-cannot-match]
        self,
        name: str,
        fn: Callable[..., R],
        /,
        *args: Any,
        timeout: float | timedelta | None,
        **kwargs: Any,
    ) -> R: ...
    async def run(  # type: ignore[misc]
        self,
        name: str,
        fn: Callable[..., Any],
        /,
        *args: Any,
        retries: int = 0,
        backoff: float | timedelta | Backoff | None = None,
        timeout: float | timedelta | None = None,
        retry_on: RetryOn = Exception,
        process: bool = False,
        memory: int | str | None = None,
        **kwargs: Any,
    ) -> Any:
        """Execute ``fn(*args, **kwargs)`` as a durable step and return its result.

        The result is on disk before this returns. When the run resumes after a crash, the step
        returns the recorded result, with the same type, and does not call ``fn``. A step that was
        in progress when the process died is executed again, so its external effects should be
        idempotent (use ``ctx.step_key``).

        A handler that resumes must reach the same steps: take what it branches on from its payload
        and from steps. Otherwise, or if the code has changed, the run fails with
        :class:`CodeChangedError`.

        :param name: identifies the step inside its run.
        :param fn: async, or sync (runs in a thread, with the context variables of the handler).
        :param retries: how many times to retry the step. The wait survives a restart.
        :param backoff: the delay before the first retry, doubled for each further one: seconds,
            ``timedelta``, or :class:`Backoff`; 1 second by default.
        :param timeout: the time limit of one execution: seconds or ``timedelta``.
        :param retry_on: which failures to retry: an exception class, a tuple of them, or a function
            that takes the exception and returns whether to retry; every ``Exception`` by default.
            It is called on the event loop, and only with an ``Exception``. A
            :class:`PermanentError` is never retried. The decision is recorded, and applies after a
            crash even if the code has changed.
        :param process: execute ``fn`` in a process of its own, which crashes without the worker and
            can be killed. ``fn`` must be importable, at the top level of a module. Its arguments
            are stored like results. ``ctx`` and context variables are not available there.
        :param memory: with ``process=True``, how much memory the process may use: ``"512M"``,
            ``"1.5G"``, or a number of bytes.

        Raises :class:`StepError` when the last execution failed (the exception is its
        ``__cause__``; a :class:`StepCrashedError` if the process of the step has ended),
        :class:`StepSerializationError` for a result or argument that cannot be stored, and
        :class:`DuplicateStepError` for a name that is already used.
        """
        if type(name) is not str or not name:
            check_identifier("step name", name)
        if type(fn) is not FunctionType or fn.__code__.co_flags & _GENERATOR_FLAGS:
            check_step_function(name, fn)
        if process is not False or memory is not None:
            memory = checked_process_options(name, process, memory)
            given = {"process": True, "memory": memory is not None}
            warn_of_shadowed_options(name, fn, [option for option in given if given[option]])
        if retries != 0 or timeout is not None or backoff is not None or retry_on is not Exception:
            given = {
                "retries": retries != 0,
                "backoff": backoff is not None,
                "timeout": timeout is not None,
                "retry_on": retry_on is not Exception,
            }
            warn_of_shadowed_options(name, fn, [option for option in given if given[option]])
        active = self._run
        record = self._take(name)
        attempt = 1
        if record is not None:
            if record.state == "done":
                return replayed(name, record, fn)
            if record.run_attempt == active.attempt:
                if record.state == "failed":
                    raise recorded_failure(name, record)
                if record.state == "retrying":
                    attempt = record.attempt + 1
                    await active.waits.sleep_until(record.wakes_at or 0)
        check_identifier("step name", name)
        options = step_options(name, retries, backoff, timeout, retry_on)
        if process:
            from polos._runtime.processes.step import ProcessStepExecution

            step: StepExecution = ProcessStepExecution(
                active, name, fn, args, kwargs, options, memory
            )
        else:
            step = StepExecution(active, name, fn, args, kwargs, options)
        return await step.until_done(attempt)

    async def sleep(self, name: str, delay: float | timedelta) -> None:
        """Sleep durably.

        The end is fixed when the step is first reached, and time also passes while the process is
        down.

        A sleep of more than 5 seconds holds no task: polos unwinds the handler (with
        :class:`HandlerParked`, which is not an ``Exception``), keeps the run in the database, and
        calls the handler again when it is time; finished steps return their recorded results. The
        same is true for sync handlers. Do not put asyncio timeouts around it: they would start
        again with the handler.

        Beside other work of the run, as in ``gather`` or in another thread, it waits in place. The
        run then lends its permit (``Worker(concurrency=...)``) and its thread to other runs
        meanwhile, and takes them back at once when it continues.

        :param delay: seconds or ``timedelta``; 0 or less does not wait.

        Raises :class:`InvalidArgumentError` for more than 100 years.
        """
        is_past = isinstance(delay, timedelta) and delay < timedelta(0)
        length = timedelta(0) if is_past else duration(f"step `{name}`, delay", delay)
        await self._sleep(name, self._run.now() + micros_of(length))

    async def sleep_until(self, name: str, until: datetime) -> None:
        """Sleep durably until an aware ``datetime``. One that has passed does not wait."""
        await self._sleep(name, aware(f"step `{name}`", until))

    @overload
    async def invoke(
        self,
        workflow: Workflow[None, R],
        payload: None = None,
        *,
        name: str | None = None,
        key: str | None = None,
        priority: int | None = None,
    ) -> R: ...
    @overload
    async def invoke(
        self,
        workflow: Workflow[PayloadT, R],
        payload: PayloadT,
        *,
        name: str | None = None,
        key: str | None = None,
        priority: int | None = None,
    ) -> R: ...
    @overload
    async def invoke(
        self,
        workflow: str,
        payload: Any = None,
        *,
        name: str | None = None,
        key: str | None = None,
        priority: int | None = None,
    ) -> Any: ...
    async def invoke(
        self,
        workflow: Workflow[Any, Any] | str,
        payload: Any = None,
        *more: Any,
        name: str | None = None,
        key: str | None = None,
        priority: int | None = None,
    ) -> Any:
        """Run another workflow as a child of this run, and wait for its result durably.

        The child is a separate run, on any worker, with its own steps and retries. Meanwhile this
        run waits in the database and holds no task (as in :meth:`sleep`). Cancelling this run
        cancels the child.

        :param workflow: a workflow, or the id of one that another process has registered.
        :param name: identifies the step; the default is the workflow's id.
        :param key: the key of the child, ``ctx.key``, which limits count (``per_key``); by default
            ``global``.
        :param priority: from 0 to 9; by default that of the child's workflow.

        Raises :class:`StepError` if the child has failed or was cancelled (its error is the
        ``__cause__``), and what ``Workflow.invoke`` raises.
        """
        active = self._run
        if more or isinstance(payload, RegisteredWorkflow):
            raise InvalidArgumentError(
                f"ctx.step.invoke: {shown(workflow)} given first, expected a workflow, then its "
                "payload; pass the step's name as `name=`: `ctx.step.invoke(wf, payload, "
                "name=...)`"
            )
        if not isinstance(workflow, (str, RegisteredWorkflow)):
            raise InvalidArgumentError(
                f"ctx.step.invoke: {shown(workflow)} given, expected a function decorated with "
                f"`@workflow`, or the id of one"
            )
        workflow_id = workflow if isinstance(workflow, str) else workflow.id
        name = check_identifier("step name", workflow_id if name is None else name)
        result_type = None if isinstance(workflow, str) else workflow.result_type
        record = self._take(name)
        child: str | None = None
        if record is not None:
            if record.state == "done":
                return child_result(name, record.result or "null", result_type)
            if record.state == "failed" and record.run_attempt == active.attempt:
                raise recorded_failure(name, record)
            if record.state == "sleeping" and record.result is not None:
                child = decode(record.result)
        started_at = active.now()
        if child is None:
            # The idempotency key gives the same child if this is repeated before it is recorded.
            handle = await active.requests.invoke(
                workflow,
                payload,
                f"{active.run_id}:{name}:{active.attempt}",
                key=key,
                priority=priority,
            )
            child = handle.id
            note_child(active, name, child)
            await active.requests.record(
                name, "sleeping", 1, started_at, result=encode(child).decode()
            )
        ended = await active.requests.child_ended(child)
        if ended["status"] == "succeeded":
            text = ended["result"] or "null"
            await active.requests.record(name, "done", 1, started_at, result=text)
            return child_result(name, text, result_type)
        error = ended["error"]
        if ended["status"] == "cancelled":
            await active.requests.stop_if_cancelled()
            error = error_record(RunCancelledError(f"run `{child}` was cancelled", run_id=child))
        await active.requests.record(name, "failed", 1, started_at, error=json.dumps(error))
        raise StepError.from_record(name, 1, error, error_from_record(error))

    @overload
    async def wait_event(self, name: str, *, timeout: None = None, type: type[R]) -> R: ...
    @overload
    async def wait_event(
        self, name: str, *, timeout: float | timedelta | None, type: type[R]
    ) -> R | None: ...
    @overload
    async def wait_event(
        self, name: str, *, timeout: float | timedelta | None = None, type: Any = None
    ) -> Any: ...
    async def wait_event(
        self, name: str, *, timeout: float | timedelta | None = None, type: Any = None
    ) -> Any:
        """Wait durably for an event that :func:`polos.runs.send` sends, and return its payload;
        ``None`` if ``timeout`` passes first.

        Each name has one event, the first that is sent; it is kept if it is sent before the run
        waits for it. The deadline is fixed when the step is first reached, and time also passes
        while no worker runs. Meanwhile this run waits in the database and holds no task (as in
        :meth:`sleep`).

        :param name: identifies the event and the step. Number them to wait several times.
        :param timeout: seconds or ``timedelta``; 0 only looks whether the event is there. Without
            it, the run waits until the event comes.
        :param type: what to return, such as a pydantic model. Plain data (from a form, the command
            line, a webhook) is validated. Without it, the payload is returned as it was sent.

        Raises :class:`StepSerializationError` for a payload that does not fit ``type``,
        :class:`InvalidArgumentError` for a negative timeout or one of more than 100 years, and
        :class:`DuplicateStepError` for a name that is already used.
        """
        check_identifier("event name", name)
        return await wait_for_event(self._run, name, self._take(name), timeout, type)

    async def now(self, name: str) -> datetime:
        """Return the time (UTC) at which this step was first reached."""
        return from_micros(await self._value(name, self._run.now))

    async def uuid(self, name: str) -> uuid.UUID:
        """Return a random UUID, the same whenever the run resumes."""
        from uuid import uuid4

        return await self._value(name, uuid4)

    async def random(self, name: str) -> float:
        """Return a random number in ``[0, 1)``, the same whenever the run resumes."""
        return await self._value(name, random_fraction)

    async def gather(self, *steps: Awaitable[Any]) -> list[Any]:
        """Run several steps concurrently and return their results in order.

        Raises the first failure after all of them have finished, so that none is interrupted.
        """
        results = await asyncio.gather(*steps, return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return list(results)

    # -- how ----------------------------------------------------------------------------------

    def _take(self, name: str) -> Recorded | None:
        """Return the record of ``name``, which this execution has now reached."""
        active = self._run
        active.check_alive()
        record = active.journal.take(name)
        if record is None and not active.journal.is_empty() and active.waits.can_park():
            # No other step of the run is in progress, so all done steps came before this one.
            active.journal.check_same_code(active.attempt, name)
        return record

    async def _value(self, name: str, make: Callable[[], R]) -> R:
        """Return a value that is recorded on first use and takes no time to compute."""
        active = self._run
        check_identifier("step name", name)
        record = self._take(name)
        if record is not None and record.state == "done":
            value: R = decode(record.result or "null")
            return value
        value = make()
        await active.requests.record(name, "done", 1, active.now(), result=encode(value).decode())
        return value

    async def _sleep(self, name: str, wakes_at: int) -> None:
        active = self._run
        check_identifier("step name", name)
        record = self._take(name)
        if record is not None:
            if record.state == "done":
                return
            if record.state == "sleeping" and record.wakes_at is not None:
                wakes_at = record.wakes_at
        started_at = active.now()
        if record is None and wakes_at > started_at:
            await active.requests.record(name, "sleeping", 1, started_at, wakes_at=wakes_at)
        await active.waits.sleep_until(wakes_at)
        await active.requests.record(name, "done", 1, started_at, result="null")
