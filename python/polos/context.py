"""The contexts that handlers get: facts about the run, and steps."""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping, MutableMapping
from contextvars import ContextVar
from datetime import timedelta
from types import FunctionType, MappingProxyType
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from polos._codec.codec import decode, encode
from polos._codec.exceptions import error_from_record, error_record
from polos._codec.known_classes import register_function, undeclared_types
from polos._core.instants import aware, from_micros, micros_of
from polos._core.real_datetime import datetime
from polos._core.safe_logging import quiet_logger
from polos._runtime.backoff import Backoff, duration
from polos._runtime.instrumentation import around_step, note_child
from polos._validate.formatting import shown
from polos._validate.schedule_options import check_identifier
from polos._validate.signature import location, result_hint_of
from polos._validate.step_functions import check_step_function, warn_of_shadowed_options
from polos.exceptions import (
    DuplicateStepError,
    InvalidArgumentError,
    InvalidStateError,
    LeaseLostError,
    RunCancelledError,
    SerializationError,
    StepError,
    StepSerializationError,
)

if TYPE_CHECKING:
    import uuid

    from polos._runtime.executor import ActiveRun
    from polos.workflow import Workflow

__all__ = ["Steps", "SyncSteps", "SyncWorkflowContext", "WorkflowContext"]

R = TypeVar("R")
P = ParamSpec("P")
PayloadT = TypeVar("PayloadT")

_log = logging.getLogger("polos.run")

_GENERATOR_FLAGS = inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR

# Prefix of the names under which `ctx.patched` is recorded.
_PATCH = "polos:patched:"

_current_step: ContextVar[str | None] = ContextVar("polos_step", default=None)


class _RunLog(logging.LoggerAdapter):  # type: ignore[type-arg]
    """Adds the run to every record."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, Any]:
        kwargs["extra"] = {**(self.extra or {}), **(kwargs.get("extra") or {})}
        return msg, kwargs


class _Context:
    """The properties that both kinds of context share."""

    __slots__ = ("__weakref__", "_active")

    def __init__(self, active: ActiveRun) -> None:
        self._active = active

    @property
    def run_id(self) -> str:
        """The run's id. It stays the same when the run is resumed or retried.

        With a fixed suffix, it is a good idempotency key for work that the handler does outside of
        steps.
        """
        return self._active.run_id

    @property
    def workflow_id(self) -> str:
        """The id of the workflow."""
        return self._active.workflow.id

    @property
    def schedule_id(self) -> str | None:
        """The id of the schedule that started the run, or ``None``."""
        return self._active.schedule_id

    @property
    def key(self) -> str:
        """The schedule's key; ``"global"`` if there is none."""
        return self._active.key

    @property
    def attempt(self) -> int:
        """1 at first, and one more with each retry of the run. A resumed run keeps its attempt."""
        return self._active.attempt

    @property
    def interruptions(self) -> int:
        """How many times in a row the worker died while it executed this run, without a newly
        recorded step; usually 0. See ``max_interruptions`` of :func:`polos.workflow`.
        """
        return self._active.interruptions

    @property
    def input(self) -> Any:
        """The data stored with the schedule."""
        return self._active.input

    @property
    def step_key(self) -> str:
        """Inside a step, a key that is the same in every execution of the step.

        Pass it to services as their idempotency key. Raises ``LookupError`` outside of steps.
        """
        name = _current_step.get()
        if name is None:
            raise LookupError(
                "`ctx.step_key` was read outside of a step; read it inside the function that the "
                "step executes (`def charge(): api.charge(key=ctx.step_key)`) instead of passing "
                "it as an argument of `ctx.step.run`"
            )
        return f"{self._active.run_id}:{name}"

    @property
    def last_result(self) -> Any:
        """The result of the schedule's previous finished run; ``None`` if there is none.

        It is read from the database on first use.
        """
        return self._active.last_result()

    @property
    def log(self) -> logging.LoggerAdapter[logging.Logger]:
        """A logger whose records carry ``run_id``, ``workflow``, and ``key``."""
        return self._active.log()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.run_id}>"


class WorkflowContext(_Context):
    """The ``ctx`` of an async handler."""

    __slots__ = ("step",)

    def __init__(self, active: ActiveRun) -> None:
        super().__init__(active)
        self.step = Steps(active)

    async def patched(self, name: str) -> bool:
        """Whether the run takes the new branch at a place where the code has changed.

        ``True`` for a run that reaches this place for the first time now, ``False`` for a run that
        had already recorded later steps when it was resumed. The answer is recorded once and never
        changes. Keep the call until no unfinished run has recorded it.

        :param name: identifies the change inside the workflow. Call it once per execution.
        """
        return await _patched(self._active, name)


class SyncWorkflowContext(_Context):
    """The ``ctx`` of a sync handler. Its steps block instead of being awaited."""

    __slots__ = ("step",)

    def __init__(self, active: ActiveRun) -> None:
        super().__init__(active)
        self.step = SyncSteps(Steps(active))

    def patched(self, name: str) -> bool:
        """See :meth:`WorkflowContext.patched`."""
        return asyncio.run_coroutine_threadsafe(
            _patched(self._active, name), self._active.loop
        ).result()


async def _patched(active: ActiveRun, name: str) -> bool:
    active.check_alive()
    step = _PATCH + check_identifier("patch", name)
    record = active.journal.recorded(step)
    if record is not None:
        return record.result == "true"
    # A second call in this execution returns the first answer.
    is_new = active.patches.setdefault(step, not active.journal.has_unreached())
    text = "true" if is_new else "false"
    await active.record(step, "done", 1, active.now(), result=text)
    return is_new


class StepJournal:
    """The records of a run's earlier executions, and the names that this execution has used."""

    __slots__ = ("_recorded", "_used")

    def __init__(self, entries: list[tuple[Any, ...]] | None) -> None:
        self._recorded: Mapping[str, Recorded] = (
            {entry[0]: Recorded(*entry) for entry in entries} if entries else _NO_RECORDS
        )
        self._used: set[str] = set()

    def recorded(self, name: str) -> Recorded | None:
        """Return the record of ``name`` and mark the name as used."""
        self._used.add(name)
        return self._recorded.get(name)

    def has_unreached(self) -> bool:
        """Whether earlier executions recorded steps that this one has not reached."""
        return any(
            name not in self._used and not name.startswith(_PATCH) for name in self._recorded
        )

    def unknown_patches(self) -> list[str]:
        """Return patches that the run started with and that this execution has not requested.

        An execution that has reached a step recorded after the patch takes the new branch anyway,
        so such a patch does not count.
        """
        unknown: list[str] = []
        for name, record in self._recorded.items():
            if name.startswith(_PATCH):
                if name not in self._used and record.result == "true":
                    unknown.append(name.removeprefix(_PATCH))
            elif name in self._used:
                unknown.clear()
        return unknown

    def is_empty(self) -> bool:
        """Whether earlier executions recorded nothing."""
        return not self._recorded

    def take(self, name: str) -> Recorded | None:
        """Return the record of ``name``. Raises :class:`DuplicateStepError` for a used name."""
        if name in self._used:
            raise DuplicateStepError(
                f"the step name `{name}` is used twice in this run; names identify steps when "
                f'the run resumes, so number them in a loop: f"{name}-{{i}}"'
            )
        self._used.add(name)
        return self._recorded.get(name)

    def unreached(self, run_attempt: int) -> list[str]:
        """Return steps that are done in this attempt and that this execution has not used."""
        if not self._recorded:
            return []
        return [
            name
            for name, record in self._recorded.items()
            if record.state == "done"
            and record.run_attempt == run_attempt
            and name not in self._used
            and not name.startswith(_PATCH)
        ]


class Recorded:
    """A recorded step."""

    __slots__ = ("attempt", "error", "name", "result", "run_attempt", "state", "wakes_at")

    def __init__(
        self,
        name: str,
        state: str,
        attempt: int,
        run_attempt: int,
        result: str | None,
        error: str | None,
        wakes_at: int | None,
    ) -> None:
        self.name = name
        self.state = state
        self.attempt = attempt
        self.run_attempt = run_attempt
        self.result = result
        self.error = error
        self.wakes_at = wakes_at


# Shared by all runs that execute for the first time.
_NO_RECORDS: Mapping[str, Recorded] = MappingProxyType({})


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
        retries: int,
        backoff: float | timedelta | Backoff | None = None,
        timeout: float | timedelta | None = None,
        retry_on: type[BaseException] | tuple[type[BaseException], ...] = Exception,
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
        retries: int,
        backoff: float | timedelta | Backoff | None = None,
        timeout: float | timedelta | None = None,
        retry_on: type[BaseException] | tuple[type[BaseException], ...] = Exception,
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
        retry_on: type[BaseException] | tuple[type[BaseException], ...] = Exception,
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
        :param retry_on: the exceptions to retry.

        Raises :class:`StepError` when the last execution failed (the exception is its
        ``__cause__``), :class:`StepSerializationError` for a result that cannot be stored, and
        :class:`DuplicateStepError` for a name that is already used.
        """
        active = self._run
        if type(name) is not str or not name:
            check_identifier("step name", name)
        if type(fn) is not FunctionType or fn.__code__.co_flags & _GENERATOR_FLAGS:
            check_step_function(name, fn)
        if retries != 0 or timeout is not None or backoff is not None or retry_on is not Exception:
            given = {
                "retries": retries != 0,
                "backoff": backoff is not None,
                "timeout": timeout is not None,
                "retry_on": retry_on is not Exception,
            }
            warn_of_shadowed_options(name, fn, [option for option in given if given[option]])
        record = self._take(name)
        attempt = 1
        if record is not None:
            if record.state == "done":
                return _replayed(name, record, fn)
            if record.run_attempt == active.attempt:
                if record.state == "failed":
                    raise _recorded_failure(name, record)
                if record.state == "retrying":
                    attempt = record.attempt + 1
                    await active.sleep_until(record.wakes_at or 0)
        check_identifier("step name", name)
        policy = _policy(name, retries, backoff)
        limit = (
            None if timeout is None else duration(f"step `{name}`, timeout", timeout, zero=False)
        )
        while True:
            await active.confirm_claim()
            started_at = active.now()
            error: BaseException
            try:
                with around_step(active, name, attempt):
                    value = await self._execute(name, fn, args, kwargs, limit)
            except asyncio.CancelledError as cancelled:
                if active.is_stopping():
                    raise
                error = cancelled
            except GeneratorExit:
                raise
            except BaseException as raised:
                error = raised
            else:
                await self._record_result(name, fn, value, attempt, started_at)
                return value
            active.check_alive()
            text = json.dumps(error_record(error))
            if attempt <= policy.retries and issubclass(type(error), retry_on):
                wait = policy.backoff.delay(attempt, _random())
                wakes_at = active.now() + micros_of(wait)
                await active.record(
                    name, "retrying", attempt, started_at, error=text, wakes_at=wakes_at
                )
                await active.sleep_until(wakes_at)
                attempt += 1
                continue
            await active.record(name, "failed", attempt, started_at, error=text)
            raise StepError.from_record(name, attempt, json.loads(text), error) from error

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
        self, workflow: Workflow[None, R], payload: None = None, *, name: str | None = None
    ) -> R: ...
    @overload
    async def invoke(
        self, workflow: Workflow[PayloadT, R], payload: PayloadT, *, name: str | None = None
    ) -> R: ...
    @overload
    async def invoke(
        self, workflow: str, payload: Any = None, *, name: str | None = None
    ) -> Any: ...
    async def invoke(
        self,
        workflow: Workflow[Any, Any] | str,
        payload: Any = None,
        *more: Any,
        name: str | None = None,
    ) -> Any:
        """Run another workflow as a child of this run, and wait for its result durably.

        The child is a separate run, on any worker, with its own steps and retries. Meanwhile this
        run waits in the database and holds no task (as in :meth:`sleep`). Cancelling this run
        cancels the child.

        :param workflow: a workflow, or the id of one that another process has registered.
        :param name: identifies the step; the default is the workflow's id.

        Raises :class:`StepError` if the child has failed or was cancelled (its error is the
        ``__cause__``), and what ``Workflow.invoke`` raises.
        """
        from polos.workflow import Workflow

        active = self._run
        if more or isinstance(payload, Workflow):
            raise InvalidArgumentError(
                f"ctx.step.invoke: {shown(workflow)} given first, expected a workflow, then its "
                "payload; pass the step's name as `name=`: `ctx.step.invoke(wf, payload, "
                "name=...)`"
            )
        if not isinstance(workflow, (str, Workflow)):
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
                return _child_result(name, record.result or "null", result_type)
            if record.state == "failed" and record.run_attempt == active.attempt:
                raise _recorded_failure(name, record)
            if record.state == "sleeping" and record.result is not None:
                child = decode(record.result)
        started_at = active.now()
        if child is None:
            # The idempotency key gives the same child if this is repeated before it is recorded.
            handle = await active.invoke(
                workflow, payload, f"{active.run_id}:{name}:{active.attempt}"
            )
            child = handle.id
            note_child(active, name, child)
            await active.record(name, "sleeping", 1, started_at, result=encode(child).decode())
        ended = await active.child_ended(child)
        if ended["status"] == "succeeded":
            text = ended["result"] or "null"
            await active.record(name, "done", 1, started_at, result=text)
            return _child_result(name, text, result_type)
        error = ended["error"]
        if ended["status"] == "cancelled":
            await active.stop_if_cancelled()
            error = error_record(RunCancelledError(f"run `{child}` was cancelled", run_id=child))
        await active.record(name, "failed", 1, started_at, error=json.dumps(error))
        raise StepError.from_record(name, 1, error, error_from_record(error))

    async def now(self, name: str) -> datetime:
        """Return the time (UTC) at which this step was first reached."""
        return from_micros(await self._value(name, self._run.now))

    async def uuid(self, name: str) -> uuid.UUID:
        """Return a random UUID, the same whenever the run resumes."""
        from uuid import uuid4

        return await self._value(name, uuid4)

    async def random(self, name: str) -> float:
        """Return a random number in ``[0, 1)``, the same whenever the run resumes."""
        return await self._value(name, _random)

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
        if record is None and active.can_park():
            # No other step of the run is in progress, so all done steps came before this one.
            active.check_same_code(name)
        return record

    async def _execute(
        self,
        name: str,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        limit: timedelta | None,
    ) -> Any:
        token = _current_step.set(name)
        self._run.executing(1)
        try:
            self._run.about_to_call(name)
            if limit is not None:
                return await self._run.within(limit, self._call(fn, args, kwargs), f"step `{name}`")
            return await self._call(fn, args, kwargs)
        finally:
            self._run.executing(-1)
            _current_step.reset(token)

    async def _call(
        self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if inspect.iscoroutinefunction(fn):
            return await fn(*args, **kwargs)
        if inspect.iscoroutinefunction(getattr(fn, "__call__", None)):  # noqa: B004
            return await fn(*args, **kwargs)
        value = await self._run.threads.run(fn, *args, **kwargs)
        # A partial or lambda around an async function looks sync and returns a coroutine.
        return await value if asyncio.iscoroutine(value) else value

    async def _record_result(
        self, name: str, fn: Callable[..., Any], value: Any, attempt: int, started_at: int
    ) -> None:
        try:
            text = encode(value, name="result").decode()
        except SerializationError as error:
            clear = StepSerializationError(f"step `{name}`: {error}", step=name)
            text = json.dumps(error_record(clear))
            await self._run.record(name, "failed", attempt, started_at, error=text)
            raise clear from error
        if "$polos" in text:
            _warn_of_undeclared_types(name, fn, text)
        await self._run.record(name, "done", attempt, started_at, result=text)

    async def _value(self, name: str, make: Callable[[], R]) -> R:
        """Return a value that is recorded on first use and takes no time to compute."""
        active = self._run
        check_identifier("step name", name)
        record = self._take(name)
        if record is not None and record.state == "done":
            value: R = decode(record.result or "null")
            return value
        value = make()
        await active.record(name, "done", 1, active.now(), result=encode(value).decode())
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
            await active.record(name, "sleeping", 1, started_at, wakes_at=wakes_at)
        await active.sleep_until(wakes_at)
        await active.record(name, "done", 1, started_at, result="null")


class SyncSteps:
    """``ctx.step`` of a sync handler: :class:`Steps` that block the handler's thread."""

    def __init__(self, steps: Steps) -> None:
        self._steps = steps

    def _wait(self, coroutine: Coroutine[Any, Any, R]) -> R:
        return self._steps._run.wait_here(coroutine)

    @overload
    def run(
        self,
        name: str,
        fn: Callable[P, Coroutine[Any, Any, R]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> R: ...
    @overload
    def run(  # type: ignore[overload-cannot-match]
        self,
        name: str,
        fn: Callable[..., Coroutine[Any, Any, R]],
        /,
        *args: Any,
        retries: int,
        backoff: float | timedelta | Backoff | None = None,
        timeout: float | timedelta | None = None,
        retry_on: type[BaseException] | tuple[type[BaseException], ...] = Exception,
        **kwargs: Any,
    ) -> R: ...
    @overload
    def run(  # type: ignore[overload-cannot-match]
        self,
        name: str,
        fn: Callable[..., Coroutine[Any, Any, R]],
        /,
        *args: Any,
        timeout: float | timedelta | None,
        **kwargs: Any,
    ) -> R: ...
    @overload
    def run(self, name: str, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
    @overload
    def run(  # type: ignore[overload-cannot-match]
        self,
        name: str,
        fn: Callable[..., R],
        /,
        *args: Any,
        retries: int,
        backoff: float | timedelta | Backoff | None = None,
        timeout: float | timedelta | None = None,
        retry_on: type[BaseException] | tuple[type[BaseException], ...] = Exception,
        **kwargs: Any,
    ) -> R: ...
    @overload
    def run(  # type: ignore[overload-cannot-match]
        self,
        name: str,
        fn: Callable[..., R],
        /,
        *args: Any,
        timeout: float | timedelta | None,
        **kwargs: Any,
    ) -> R: ...
    def run(self, name: str, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """See :meth:`Steps.run`."""
        return self._wait(self._steps.run(name, fn, *args, **kwargs))

    def sleep(self, name: str, delay: float | timedelta) -> None:
        """See :meth:`Steps.sleep`."""
        self._wait(self._steps.sleep(name, delay))

    def sleep_until(self, name: str, until: datetime) -> None:
        """See :meth:`Steps.sleep_until`."""
        self._wait(self._steps.sleep_until(name, until))

    @overload
    def invoke(
        self, workflow: Workflow[None, R], payload: None = None, *, name: str | None = None
    ) -> R: ...
    @overload
    def invoke(
        self, workflow: Workflow[PayloadT, R], payload: PayloadT, *, name: str | None = None
    ) -> R: ...
    @overload
    def invoke(self, workflow: str, payload: Any = None, *, name: str | None = None) -> Any: ...
    def invoke(
        self,
        workflow: Workflow[Any, Any] | str,
        payload: Any = None,
        *more: Any,
        name: str | None = None,
    ) -> Any:
        """See :meth:`Steps.invoke`."""
        return self._wait(self._steps.invoke(workflow, payload, *more, name=name))

    def now(self, name: str) -> datetime:
        """See :meth:`Steps.now`."""
        return self._wait(self._steps.now(name))

    def uuid(self, name: str) -> uuid.UUID:
        """See :meth:`Steps.uuid`."""
        return self._wait(self._steps.uuid(name))

    def random(self, name: str) -> float:
        """See :meth:`Steps.random`."""
        return self._wait(self._steps.random(name))


class _Policy:
    __slots__ = ("backoff", "retries")

    def __init__(self, retries: int, backoff: Backoff) -> None:
        self.retries = retries
        self.backoff = backoff


_no_retries = _Policy(0, Backoff.of(None))


def _policy(name: str, retries: Any, backoff: Any) -> _Policy:
    if retries == 0 and backoff is None and retries is not False:
        return _no_retries
    if isinstance(retries, bool) or not isinstance(retries, int) or retries < 0:
        raise InvalidArgumentError(
            f"step `{name}`, retries: {shown(retries)} given, expected a whole number of 0 or more"
        )
    return _Policy(retries, Backoff.of(backoff))


def _replayed(name: str, record: Recorded, fn: Callable[..., Any]) -> Any:
    text = record.result or "null"
    if "$polos" not in text:
        return decode(text)
    register_function(fn)
    return _restored(name, text, result_hint_of(fn), fn)


def _child_result(name: str, text: str, result_type: Any) -> Any:
    return _restored(name, text, result_type, None)


def _restored(name: str, text: str, hint: Any, fn: Callable[..., Any] | None) -> Any:
    """Restore a recorded result with its original type, or raise.

    A similar type will not do: the handler's code expects the same type in every execution.
    """
    try:
        return decode(text, hint, function=fn, is_strict=True)
    except SerializationError as error:
        raise StepSerializationError(
            f"step `{name}` was recorded, but its result cannot be restored: {error}", step=name
        ) from error


_warned_of_types: set[tuple[str, str]] = set()


def _warn_of_undeclared_types(name: str, fn: Callable[..., Any], text: str) -> None:
    """Warn once that a result cannot be restored after a restart, while that is easy to fix."""
    for type_name in undeclared_types(text, result_hint_of(fn), fn):
        place = (location(fn), type_name)
        if place in _warned_of_types or len(_warned_of_types) > 1_000:
            continue
        _warned_of_types.add(place)
        quiet_logger("polos.run").warning(
            "step `%s` returned a `%s`, which another process cannot restore when it resumes the "
            "run: name the type in the return annotation of the step's function (%s), or call "
            "`polos.register_types`",
            name,
            type_name,
            place[0],
        )


def _recorded_failure(name: str, record: Recorded) -> BaseException:
    details = json.loads(record.error or "{}")
    original = error_from_record(details)
    if isinstance(original, StepSerializationError):
        return original
    return StepError.from_record(name, record.attempt, details, original)


def lease_lost(run_id: str) -> LeaseLostError:
    """Return the error for a handler whose claim is no longer valid."""
    return LeaseLostError(
        f"run `{run_id}` is now claimed by another worker; nothing that this handler does is "
        f"recorded any more"
    )


def run_ended(run_id: str, attempt: int, outcome: str | None) -> InvalidStateError:
    """Return the error for code that uses ``ctx`` after the handler's end."""
    return InvalidStateError(
        f"run `{run_id}` has ended (attempt {attempt} {outcome}): its handler has returned or "
        f"raised, so no step is executed or recorded any more; await every task and thread that "
        f"uses `ctx` before the handler returns"
    )


def previous_result(answer: dict[str, Any] | None, result_type: Any) -> Any:
    """Return the result from an answer about the previous run."""
    if answer is None:
        return None
    from polos.models import Run

    return Run._from_core(answer, result_type).result


def _random() -> float:
    import random  # loads OpenSSL

    return random.random()
