"""The ``@workflow`` decorator, and the :class:`Workflow` that it creates.

This module does not depend on clients, databases, or execution. All its checks run with the
decorator, so that a mistake is an error at import.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Coroutine, Iterable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, TypeVar, overload

from polos._runtime.backoff import Backoff, duration
from polos._runtime.registry import (
    RegisteredWorkflow,
    isolated_registry,
    register,
    registered,
    registry,
)
from polos._validate.arguments import one_of
from polos._validate.formatting import shown, type_name
from polos._validate.limits import Limit, checked_priority, limit_for
from polos._validate.retry_on import RetryOn, checked_retry_on
from polos._validate.schedule_options import (
    ScheduleDeclaration,
    check_identifier,
    normalise_schedule,
)
from polos._validate.signature import Handler, location
from polos.exceptions import InvalidArgumentError, InvalidScheduleError

if TYPE_CHECKING:
    from polos._core.real_datetime import datetime
    from polos.client import PolosClient
    from polos.context import SyncWorkflowContext, WorkflowContext
    from polos.runs import RunHandle
    from polos.starts import Debounce, Invocation

__all__ = [
    "Backoff",
    "Workflow",
    "check_trigger",
    "isolated_registry",
    "normalise_schedule",
    "registered",
    "registry",
    "set_trigger_check",
    "workflow",
]

# Contravariant: a handler that takes `Order | None` also accepts `Order`, or no payload.
PayloadT = TypeVar("PayloadT", contravariant=True)
ResultT = TypeVar("ResultT", covariant=True)
_P = TypeVar("_P")
_R = TypeVar("_R")

_RETRIES_MAX = 1_000_000


def _accept(spec: dict[str, Any]) -> None:
    pass


check_trigger: Callable[[dict[str, Any]], None] = _accept
"""Checks what only the core understands. Called with the normalized schedule when the decorator
runs; raises :class:`InvalidScheduleError`. The package sets it (:func:`set_trigger_check`). It is a
hook so that this module works without the core.
"""


def set_trigger_check(check: Callable[[dict[str, Any]], None]) -> None:
    """Set :data:`check_trigger`.

    This is a function because ``polos.workflow`` is the decorator once the package is imported, so
    the module's own variables are hard to reach.
    """
    global check_trigger
    check_trigger = check


class Workflow(RegisteredWorkflow, Generic[PayloadT, ResultT]):
    """A registered workflow. Calling it calls the plain function.

    ``id`` is its name, ``fn`` the function, and ``schedule`` the declared schedule (``True`` if it
    can be scheduled only through the API, ``None`` if not at all). Created by :func:`workflow`.
    """

    id: str
    fn: Callable[..., Any]
    schedule: ScheduleDeclaration | Literal[True] | None
    arity: int
    is_async: bool
    retries: int
    retry_on: RetryOn | None
    backoff: Backoff
    timeout: timedelta | None
    concurrency: Limit | None
    priority: int
    max_interruptions: int | None
    on_code_change: Literal["fail", "hold"]
    on_success: Callable[..., Any] | None
    on_failure: Callable[..., Any] | None
    on_missed: Callable[..., Any] | None
    on_skipped: Callable[..., Any] | None
    on_late: Callable[..., Any] | None
    late_after: timedelta | None

    def __init__(
        self,
        fn: Callable[..., Any],
        *,
        id: str | None = None,
        schedule: bool | str | Mapping[str, Any] | None = None,
        retries: int = 0,
        retry_on: RetryOn | None = None,
        backoff: float | timedelta | Backoff | None = None,
        timeout: float | timedelta | None = None,
        concurrency: int | Limit | None = None,
        priority: int = 0,
        max_interruptions: int | None = 5,
        on_code_change: Literal["fail", "hold"] = "fail",
        on_success: Callable[..., Any] | None = None,
        on_failure: Callable[..., Any] | None = None,
        on_missed: Callable[..., Any] | None = None,
        on_skipped: Callable[..., Any] | None = None,
        on_late: Callable[..., Any] | None = None,
        late_after: float | timedelta | None = None,
    ) -> None:
        if isinstance(fn, Workflow):
            raise InvalidArgumentError(
                f"`{fn.id}` is already a workflow; to register it under another id, decorate its "
                f"function, `{fn.id}.fn`"
            )
        if isinstance(fn, staticmethod):
            fn = fn.__func__
        # First, because it copies the function's attributes, whose names may equal ours.
        functools.update_wrapper(self, fn)
        self.id = check_identifier("workflow id", _default_id(fn) if id is None else id)
        handler = Handler(fn, self.id)
        self._handler = handler
        self.fn = fn
        self.arity = handler.arity
        self.is_async = handler.is_async
        self.retries = _retries(self.id, retries)
        self.retry_on = (
            None
            if retry_on is None
            else checked_retry_on(f"workflow `{self.id}`, retry_on", retry_on)
        )
        self.backoff = Backoff.of(backoff)
        self.timeout = (
            None
            if timeout is None
            else duration(f"workflow `{self.id}`, timeout", timeout, zero=False)
        )
        self.concurrency = limit_for(self.id, concurrency)
        self.priority = checked_priority(f"workflow `{self.id}`, priority", priority)
        self.max_interruptions = _max_interruptions(self.id, max_interruptions)
        self.on_code_change = _on_code_change(self.id, on_code_change)
        self.on_success = _hook(self.id, "on_success", on_success)
        self.on_failure = _hook(self.id, "on_failure", on_failure)
        self.on_missed = _hook(self.id, "on_missed", on_missed)
        self.on_skipped = _hook(self.id, "on_skipped", on_skipped)
        self.on_late = _hook(self.id, "on_late", on_late)
        self.late_after = _late_after(self.id, late_after, on_late)
        self.schedule = self._declared(schedule)
        if self.is_async and sys.version_info >= (3, 12):
            inspect.markcoroutinefunction(self)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the plain function. Nothing is recorded or retried."""
        return self.fn(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<Workflow {self.id!r} at {location(self.fn)}>"

    def __reduce__(self) -> str:
        # Pickle by name, as functions do, so that classes and closures that refer to it work.
        return str(getattr(self, "__qualname__", self.id))

    @property
    def schedulable(self) -> bool:
        """Whether schedules can be created for it."""
        return self.schedule is not None

    @functools.cached_property
    def payload_type(self) -> Any:
        """The payload's annotation, or ``None`` if it is missing or cannot be resolved.

        It is resolved on first use, because it may name what the module defines later.
        """
        return self._handler.payload_hint()

    @property
    def payload_has_default(self) -> bool:
        """Whether the handler can be called without a payload."""
        return self._handler.payload_has_default()

    @functools.cached_property
    def needs_payload(self) -> bool:
        """Whether the handler takes a payload and can't be called with ``None``."""
        if self.arity < 2 or self.payload_has_default:
            return False
        from polos._validate.payloads import takes_none  # loads pydantic

        return not takes_none(self.payload_type)

    @functools.cached_property
    def result_type(self) -> Any:
        """The result's annotation; otherwise like :attr:`payload_type`."""
        return self._handler.result_hint()

    def payload_from(self, data: Any) -> Any:
        """Convert ``data`` to the payload type that the handler expects.

        Raises :class:`InvalidArgumentError` with the workflow and the reason.
        """
        expected = self.payload_type
        if expected is None or type(data) is expected:
            return data
        from polos._validate.conversion import payload_for  # loads pydantic

        return payload_for(expected, data, name=f"payload of workflow `{self.id}`")

    def arguments(self, ctx: Any, payload: Any) -> tuple[Any, ...]:
        """Return the arguments for :attr:`fn`: as many as it takes."""
        if self.arity == 2:
            return ctx, payload
        return (ctx,) if self.arity else ()

    @overload
    async def invoke(
        self: Workflow[None, ResultT],
        client: PolosClient,
        payload: None = None,
        *,
        idempotency_key: str | None = None,
        key: str | None = None,
        delay: float | timedelta | None = None,
        at: datetime | None = None,
        debounce: Debounce | None = None,
        priority: int | None = None,
    ) -> RunHandle[ResultT]: ...
    @overload
    async def invoke(
        self,
        client: PolosClient,
        payload: PayloadT,
        *,
        idempotency_key: str | None = None,
        key: str | None = None,
        delay: float | timedelta | None = None,
        at: datetime | None = None,
        debounce: Debounce | None = None,
        priority: int | None = None,
    ) -> RunHandle[ResultT]: ...
    async def invoke(
        self,
        client: PolosClient,
        payload: Any = None,
        *,
        idempotency_key: str | None = None,
        key: str | None = None,
        delay: float | timedelta | None = None,
        at: datetime | None = None,
        debounce: Debounce | None = None,
        priority: int | None = None,
    ) -> RunHandle[ResultT]:
        """Start a run durably, on any worker that has registered this workflow.

        :param idempotency_key: a second call with the same key returns the run of the first.
        :param key: the key of the run, ``ctx.key``, for filters and logs; by default ``global``.
        :param delay: how long to wait before the start, in seconds or as ``timedelta``.
        :param at: when to start, as an aware ``datetime``, instead of ``delay``. A time in the past
            is now.
        :param debounce: replace the payload of the run that waits with the same
            :class:`Debounce` key, and move its start, instead of starting another run.
        :param priority: from 0 to 9, as in the decorator; by default that of the workflow.

        Raises :class:`InvalidArgumentError` for a payload that the handler does not take or an
        option that is not valid, :class:`SerializationError` for a payload that cannot be stored,
        or :class:`StoreError`.
        """
        # Not `from polos import runs`: an import from a package takes much longer.
        from polos.runs import invoke

        return await invoke(
            client,
            self,
            payload,
            idempotency_key=idempotency_key,
            key=key,
            delay=delay,
            at=at,
            debounce=debounce,
            priority=priority,
        )

    @overload
    async def invoke_in(
        self: Workflow[None, ResultT],
        connection: Any,
        client: PolosClient,
        payload: None = None,
        *,
        idempotency_key: str | None = None,
        key: str | None = None,
        delay: float | timedelta | None = None,
        at: datetime | None = None,
        debounce: None = None,
        priority: int | None = None,
    ) -> RunHandle[ResultT]: ...
    @overload
    async def invoke_in(
        self,
        connection: Any,
        client: PolosClient,
        payload: PayloadT,
        *,
        idempotency_key: str | None = None,
        key: str | None = None,
        delay: float | timedelta | None = None,
        at: datetime | None = None,
        debounce: None = None,
        priority: int | None = None,
    ) -> RunHandle[ResultT]: ...
    async def invoke_in(
        self,
        connection: Any,
        client: PolosClient,
        payload: Any = None,
        *,
        idempotency_key: str | None = None,
        key: str | None = None,
        delay: float | timedelta | None = None,
        at: datetime | None = None,
        debounce: None = None,
        priority: int | None = None,
    ) -> RunHandle[ResultT]:
        """Start a run in a transaction of the application: it exists when that has committed.

        After a rollback there is no run, and before the commit no worker sees it. The database must
        be PostgreSQL, and ``connection`` must lead to the database of ``client``.

        The handle can be used after the commit; before that, its run is not found. Times
        (``delay``) count from this call.

        :param connection: an async connection with an open transaction: ``AsyncConnection`` of
            psycopg 3, ``Connection`` of asyncpg, or ``AsyncConnection`` or ``AsyncSession`` of
            SQLAlchemy. For connections that are not async, among them those of Django, call
            ``runs.sync.invoke_in``.
        :param idempotency_key: as in :meth:`invoke`. The call waits while another transaction with
            the same key is open.
        :param debounce: not possible here; call :meth:`invoke` after the commit.

        The other parameters are those of :meth:`invoke`. Raises what :meth:`invoke` raises. Raises
        :class:`InvalidArgumentError` too if the connection is of an unknown kind or leads to
        another database, and :class:`InvalidStateError` if it has no open transaction (autocommit),
        or one that can't write.
        """
        from polos import runs

        return await runs.invoke_in(
            connection,
            client,
            self,
            payload,
            idempotency_key=idempotency_key,
            key=key,
            delay=delay,
            at=at,
            debounce=debounce,
            priority=priority,
        )

    async def invoke_many(
        self, client: PolosClient, payloads: Iterable[PayloadT | Invocation[PayloadT]]
    ) -> list[RunHandle[ResultT]]:
        """Start many runs in one transaction: all or none.

        The handles have the same order, in which workers also claim runs of one time and priority.

        :param payloads: the payload of each run, or an :class:`Invocation` for a run with a key, a
            delay, or an idempotency key of its own.

        Raises what :meth:`invoke` raises, with the position of the payload.
        """
        from polos import runs

        return await runs.invoke_many(client, self, payloads)

    @overload
    async def run(
        self: Workflow[None, ResultT],
        client: PolosClient,
        payload: None = None,
        *,
        timeout: float | timedelta | None = None,
    ) -> ResultT: ...
    @overload
    async def run(
        self, client: PolosClient, payload: PayloadT, *, timeout: float | timedelta | None = None
    ) -> ResultT: ...
    async def run(
        self,
        client: PolosClient,
        payload: Any = None,
        *,
        timeout: float | timedelta | None = None,
    ) -> ResultT:
        """Start a run durably and wait for its result.

        In a handler, prefer ``ctx.step.invoke``: the child then belongs to the run and is the same
        one when the run resumes.

        :param timeout: seconds or ``timedelta``.

        Raises what :meth:`invoke` and ``RunHandle.result`` raise.
        """
        from polos.runs import invoke

        if timeout is not None:
            duration("timeout", timeout)  # before the run is started
        handle = await invoke(client, self, payload)
        return await handle.result(timeout)

    @functools.cached_property
    def takes_slot(self) -> bool:
        """Whether a scheduled run passes its slot (a :class:`SchedulePayload`) as the payload.

        Otherwise the payload has a type of its own and is the schedule's ``input``.
        """
        from polos._validate.payloads import takes_slot  # loads pydantic

        return (
            self.arity < 2 or not self._handler.has_own_payload() or takes_slot(self.payload_type)
        )

    def input_from(self, value: Any) -> Any:
        """Convert the ``input`` of a schedule to the payload type that the handler expects.

        Raises :class:`InvalidScheduleError` for one that does not fit, or is missing.
        """
        if self.takes_slot:
            return value
        from polos._validate.payloads import scheduled_input

        return scheduled_input(self, self.payload_type, value)

    def _declared(self, value: Any) -> ScheduleDeclaration | Literal[True] | None:
        options = _schedule_options(self.id, value)
        if not isinstance(options, Mapping):
            return options
        if self._handler.has_own_payload():
            from polos._validate.payloads import scheduled_input

            # Not cached: a name that cannot be resolved yet may resolve when a worker starts,
            # which checks the input again.
            hint = self._handler.payload_hint()
            data = scheduled_input(self, hint, options.get("input"))
            options = {**options, "input": data}
        declaration = ScheduleDeclaration.of(options)
        check_trigger(dict(declaration.spec))
        return declaration


class _Decorator(Protocol):
    @overload
    def __call__(self, fn: Callable[[], Coroutine[Any, Any, _R]], /) -> Workflow[None, _R]: ...
    @overload
    def __call__(
        self, fn: Callable[[WorkflowContext], Coroutine[Any, Any, _R]], /
    ) -> Workflow[None, _R]: ...
    @overload
    def __call__(
        self, fn: Callable[[WorkflowContext, _P], Coroutine[Any, Any, _R]], /
    ) -> Workflow[_P, _R]: ...
    @overload
    def __call__(self, fn: Callable[[], _R], /) -> Workflow[None, _R]: ...
    @overload
    def __call__(self, fn: Callable[[SyncWorkflowContext], _R], /) -> Workflow[None, _R]: ...
    @overload
    def __call__(self, fn: Callable[[SyncWorkflowContext, _P], _R], /) -> Workflow[_P, _R]: ...


@overload
def workflow(fn: Callable[[], Coroutine[Any, Any, _R]], /) -> Workflow[None, _R]: ...
@overload
def workflow(fn: Callable[[WorkflowContext], Coroutine[Any, Any, _R]], /) -> Workflow[None, _R]: ...
@overload
def workflow(
    fn: Callable[[WorkflowContext, _P], Coroutine[Any, Any, _R]], /
) -> Workflow[_P, _R]: ...
@overload
def workflow(fn: Callable[[], _R], /) -> Workflow[None, _R]: ...
@overload
def workflow(fn: Callable[[SyncWorkflowContext], _R], /) -> Workflow[None, _R]: ...
@overload
def workflow(fn: Callable[[SyncWorkflowContext, _P], _R], /) -> Workflow[_P, _R]: ...
@overload
def workflow(
    *,
    id: str | None = None,
    schedule: bool | str | Mapping[str, Any] | None = None,
    retries: int = 0,
    retry_on: RetryOn | None = None,
    backoff: float | timedelta | Backoff | None = None,
    timeout: float | timedelta | None = None,
    concurrency: int | Limit | None = None,
    priority: int = 0,
    max_interruptions: int | None = 5,
    on_code_change: Literal["fail", "hold"] = "fail",
    on_success: Callable[..., Any] | None = None,
    on_failure: Callable[..., Any] | None = None,
    on_missed: Callable[..., Any] | None = None,
    on_skipped: Callable[..., Any] | None = None,
    on_late: Callable[..., Any] | None = None,
    late_after: float | timedelta | None = None,
) -> _Decorator: ...
def workflow(
    fn: Any = None,
    /,
    *,
    id: str | None = None,
    schedule: bool | str | Mapping[str, Any] | None = None,
    retries: int = 0,
    retry_on: RetryOn | None = None,
    backoff: float | timedelta | Backoff | None = None,
    timeout: float | timedelta | None = None,
    concurrency: int | Limit | None = None,
    priority: int = 0,
    max_interruptions: int | None = 5,
    on_code_change: Literal["fail", "hold"] = "fail",
    on_success: Callable[..., Any] | None = None,
    on_failure: Callable[..., Any] | None = None,
    on_missed: Callable[..., Any] | None = None,
    on_skipped: Callable[..., Any] | None = None,
    on_late: Callable[..., Any] | None = None,
    late_after: float | timedelta | None = None,
) -> Any:
    """Register a function as a workflow. The result is a :class:`Workflow`, which is callable.

    Use it bare (``@workflow``) or with options. The function takes ``()``, ``(ctx)``, or ``(ctx,
    payload)``. Async functions run on the event loop, sync functions in a thread.

    :param id: names the workflow, also in the database. The default is the function's name.
    :param schedule: a cron expression in UTC; a dict of what :func:`polos.schedules.create` takes,
        such as ``{"cron": ["0 9 * * 1-5", "0 11 * * 6"], "timezone": "Europe/Paris"}`` or
        ``{"every": timedelta(seconds=30), "overlap": "skip"}``; or ``True`` to allow schedules
        through the API only. Without it, the workflow can be run and invoked, but not scheduled.
    :param retries: how many times a failed run is retried (0).
    :param retry_on: which failures to retry: an exception class, a tuple of them, or a function
        that takes the exception and returns whether to retry; every failure by default. A
        :class:`StepError` is judged by its cause, an exception group by all of its members, and a
        run that exceeded its ``timeout`` is a ``TimeoutError``. A function is called on the event
        loop, and only with an ``Exception``. A :class:`PermanentError` is never retried.
    :param backoff: the delay before the first retry: seconds or ``timedelta``, doubled for each
        further retry, or a :class:`Backoff`.
    :param timeout: the time limit of one attempt: seconds or ``timedelta``; no limit by default.
    :param concurrency: how many of its runs may be in progress at once, on all workers together: a
        number, or a :class:`polos.Limit`, which several workflows can share. Runs without room stay
        queued. No limit by default.
    :param priority: from 0 (the default) to 9. Of the runs that wait, those with a higher priority
        start first; each level is worth a minute of waiting, so that no run waits forever.
    :param max_interruptions: how many times in a row the worker may die while it executes a run
        (killed, out of memory, crashed) before the run fails with
        :class:`InterruptedTooOftenError` instead of being resumed; ``None`` for no limit. A newly
        recorded step and a new attempt reset the count. A worker that is stopped normally does not
        count, nor does one that lost its connection to the database and is still alive.
    :param on_code_change: what happens when a run is resumed with code that no longer reaches the
        steps it has recorded: ``"fail"`` (the run fails with :class:`CodeChangedError`), or
        ``"hold"`` (the run waits, with a note, until a worker with other code claims it).
    :param on_success: called with a :class:`RunSuccess` when a run has succeeded and that is
        recorded, by the worker that executed it; another one does so if that worker dies meanwhile.
        Sync or async.
    :param on_failure: called with a :class:`RunFailure` when a run has failed, has no retries
        left, and that is recorded, by the worker that executed it; another one does so if that
        worker dies meanwhile. Sync or async.
    :param on_missed: called with a :class:`MissedSlots` when slots of a schedule were missed. A
        live worker that has the workflow calls it; another one does so if that worker dies
        meanwhile. Sync or async.
    :param on_skipped: called with a :class:`SkippedSlots` when slots of a schedule were skipped:
        by ``overlap``, on a skip date, by an operator, or by a handler. A live worker that has the
        workflow calls it; another one does so if that worker dies meanwhile. Sync or async.
    :param on_late: called with a :class:`LateRun` when the run of a slot has not started
        ``late_after`` after its time. Once for each slot, by a live worker that has the workflow;
        again only if that worker dies meanwhile. Sync or async.
    :param late_after: how long after its slot a run may start before it is late: seconds or
        ``timedelta``. Without ``on_late``, a late run is logged, and told to the worker's hooks.

    Raises :class:`InvalidArgumentError`, :class:`InvalidScheduleError`, and
    :class:`DuplicateWorkflowError` for an id that another function uses. Registering the same
    function again (a reloaded module, a notebook cell run twice) replaces the earlier one.
    """

    def decorate(function: Any) -> Workflow[Any, Any]:
        return register(
            Workflow(
                function,
                id=id,
                schedule=schedule,
                retries=retries,
                retry_on=retry_on,
                backoff=backoff,
                timeout=timeout,
                concurrency=concurrency,
                priority=priority,
                max_interruptions=max_interruptions,
                on_code_change=on_code_change,
                on_success=on_success,
                on_failure=on_failure,
                on_missed=on_missed,
                on_skipped=on_skipped,
                on_late=on_late,
                late_after=late_after,
            )
        )

    if isinstance(fn, str):
        raise InvalidArgumentError(
            f"workflow: {shown(fn)} given, expected a function; to set the id, write "
            f"`workflow(id={fn!r})`"
        )
    return decorate if fn is None else decorate(fn)


# --- checks ----------------------------------------------------------------------------------


def _default_id(fn: Any) -> str:
    name = getattr(fn, "__name__", None)
    if not isinstance(name, str) or name == "<lambda>":
        raise InvalidArgumentError(
            f"workflow: {shown(fn)} has no name to use as its id; pass one with `workflow(id=...)`"
        )
    return name


def _retries(workflow_id: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _RETRIES_MAX:
        raise InvalidArgumentError(
            f"workflow `{workflow_id}`, retries: {shown(value)} given, expected a whole number "
            f"of 0 or more"
        )
    return int(value)


def _max_interruptions(workflow_id: str, value: Any) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _RETRIES_MAX:
        raise InvalidArgumentError(
            f"workflow `{workflow_id}`, max_interruptions: {shown(value)} given, expected a whole "
            f"number of 1 or more, or `None` for no limit"
        )
    return int(value)


def _on_code_change(workflow_id: str, value: Any) -> Literal["fail", "hold"]:
    name = f"workflow `{workflow_id}`, on_code_change"
    return "hold" if one_of(name, value, ("fail", "hold")) == "hold" else "fail"


def _hook(workflow_id: str, name: str, value: Any) -> Any:
    if value is not None:
        from polos._validate.hooks import check_hook

        check_hook(f"workflow `{workflow_id}`, {name}", value, Workflow)
    return value


def _late_after(workflow_id: str, value: Any, on_late: Any) -> timedelta | None:
    if value is not None:
        return duration(f"workflow `{workflow_id}`, late_after", value, zero=False)
    if on_late is not None:
        raise InvalidArgumentError(
            f"workflow `{workflow_id}`, on_late: a function given without `late_after`; say when a "
            f"run is late: `late_after=timedelta(minutes=5)`"
        )
    return None


def _schedule_options(workflow_id: str, value: Any) -> Mapping[str, Any] | Literal[True] | None:
    if value is None or value is False:
        return None
    if value is True:
        return True
    if isinstance(value, str):
        return {"cron": value}
    if not isinstance(value, Mapping):
        advice = '; for an interval, `{"every": ...}`' if isinstance(value, timedelta) else ""
        raise InvalidScheduleError(
            f"workflow `{workflow_id}`, schedule: {shown(value)} of type "
            f"`{type_name(type(value))}` given, expected a cron expression, a dict of options, or "
            f"`True`{advice}"
        )
    return value
