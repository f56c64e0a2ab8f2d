"""The ``@workflow`` decorator, the :class:`Workflow` that it creates, and the registry.

This module does not depend on clients, databases, or execution. All its checks run with the
decorator, so that a mistake is an error at import.
"""

from __future__ import annotations

import functools
import inspect
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, TypeVar, overload

from polos._codec.class_refs import main_module_name
from polos._codec.known_classes import register_workflow
from polos._runtime.backoff import Backoff, duration
from polos._validate.arguments import one_of, payload_for
from polos._validate.formatting import shown, type_name
from polos._validate.schedule_options import (
    ScheduleDeclaration,
    check_identifier,
    normalise_schedule,
)
from polos._validate.signature import Handler, defining_frame, innermost, location
from polos.exceptions import DuplicateWorkflowError, InvalidArgumentError, InvalidScheduleError

if TYPE_CHECKING:
    from polos.client import PolosClient
    from polos.context import SyncWorkflowContext, WorkflowContext
    from polos.runs import RunHandle

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


class Workflow(Generic[PayloadT, ResultT]):
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
    backoff: Backoff
    timeout: timedelta | None
    max_interruptions: int | None
    on_code_change: Literal["fail", "hold"]
    on_failure: Callable[..., Any] | None
    on_missed: Callable[..., Any] | None

    def __init__(
        self,
        fn: Callable[..., Any],
        *,
        id: str | None = None,
        schedule: bool | str | Mapping[str, Any] | None = None,
        retries: int = 0,
        backoff: float | timedelta | Backoff | None = None,
        timeout: float | timedelta | None = None,
        max_interruptions: int | None = 5,
        on_code_change: Literal["fail", "hold"] = "fail",
        on_failure: Callable[..., Any] | None = None,
        on_missed: Callable[..., Any] | None = None,
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
        self.backoff = Backoff.of(backoff)
        self.timeout = (
            None
            if timeout is None
            else duration(f"workflow `{self.id}`, timeout", timeout, zero=False)
        )
        self.max_interruptions = _max_interruptions(self.id, max_interruptions)
        self.on_code_change = _on_code_change(self.id, on_code_change)
        self.on_failure = _hook(self.id, "on_failure", on_failure)
        self.on_missed = _hook(self.id, "on_missed", on_missed)
        self.schedule = _declared(self.id, schedule)
        if self.schedule is not None and handler.has_own_payload():
            from polos._validate.payloads import check_schedulable  # loads pydantic

            # Not cached: a name that cannot be resolved yet may resolve at a later check.
            check_schedulable(self, handler.payload_hint())
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
    ) -> RunHandle[ResultT]: ...
    @overload
    async def invoke(
        self, client: PolosClient, payload: PayloadT, *, idempotency_key: str | None = None
    ) -> RunHandle[ResultT]: ...
    async def invoke(
        self, client: PolosClient, payload: Any = None, *, idempotency_key: str | None = None
    ) -> RunHandle[ResultT]:
        """Start a run durably, on any worker that has registered this workflow.

        :param idempotency_key: a second call with the same key returns the run of the first.

        Raises :class:`InvalidArgumentError` for a payload that the handler does not take,
        :class:`SerializationError` for one that cannot be stored, or :class:`StoreError`.
        """
        from polos import runs

        return await runs.invoke(client, self, payload, idempotency_key=idempotency_key)

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
        from polos import runs

        handle = await runs.invoke(client, self, payload)
        return await handle.result(timeout)

    @property
    def takes_schedule_payload(self) -> bool:
        """Whether the handler gets a :class:`SchedulePayload` unchanged."""
        from polos.payload import SchedulePayload

        return self.payload_type in (None, Any, SchedulePayload)


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
    backoff: float | timedelta | Backoff | None = None,
    timeout: float | timedelta | None = None,
    max_interruptions: int | None = 5,
    on_code_change: Literal["fail", "hold"] = "fail",
    on_failure: Callable[..., Any] | None = None,
    on_missed: Callable[..., Any] | None = None,
) -> _Decorator: ...
def workflow(
    fn: Any = None,
    /,
    *,
    id: str | None = None,
    schedule: bool | str | Mapping[str, Any] | None = None,
    retries: int = 0,
    backoff: float | timedelta | Backoff | None = None,
    timeout: float | timedelta | None = None,
    max_interruptions: int | None = 5,
    on_code_change: Literal["fail", "hold"] = "fail",
    on_failure: Callable[..., Any] | None = None,
    on_missed: Callable[..., Any] | None = None,
) -> Any:
    """Register a function as a workflow. The result is a :class:`Workflow`, which is callable.

    Use it bare (``@workflow``) or with options. The function takes ``()``, ``(ctx)``, or ``(ctx,
    payload)``. Async functions run on the event loop, sync functions in a thread.

    :param id: names the workflow, also in the database. The default is the function's name.
    :param schedule: a cron expression in UTC; a dict such as ``{"cron": "0 17 * * *", "timezone":
        "America/New_York"}`` or ``{"every": timedelta(seconds=30), "overlap": "skip"}``; or
        ``True`` to allow schedules through the API only. Without it, the workflow can be run and
        invoked, but not scheduled.
    :param retries: how many times a failed run is retried (0).
    :param backoff: the delay before the first retry: seconds or ``timedelta``, doubled for each
        further retry, or a :class:`Backoff`.
    :param timeout: the time limit of one attempt: seconds or ``timedelta``; no limit by default.
    :param max_interruptions: how many times in a row the worker may die while it executes a run
        (killed, out of memory, crashed) before the run fails with
        :class:`InterruptedTooOftenError` instead of being resumed; ``None`` for no limit. A newly
        recorded step and a new attempt reset the count. A worker that is stopped normally does not
        count, nor does one that lost its connection to the database and is still alive.
    :param on_code_change: what happens when a run is resumed with code that no longer reaches the
        steps it has recorded: ``"fail"`` (the run fails with :class:`CodeChangedError`), or
        ``"hold"`` (the run waits, with a note, until a worker with other code claims it).
    :param on_failure: called with a :class:`RunFailure` when a run has failed and has no retries
        left, by the worker that executed it. It is not called again if that worker dies meanwhile.
        Sync or async.
    :param on_missed: called with a :class:`MissedSlots` when slots of a schedule were missed, by
        the worker that noticed it. Sync or async.

    Raises :class:`InvalidArgumentError`, :class:`InvalidScheduleError`, and
    :class:`DuplicateWorkflowError` for an id that another function uses. Registering the same
    function again (a reloaded module, a notebook cell run twice) replaces the earlier one.
    """

    def register(function: Any) -> Workflow[Any, Any]:
        return _register(
            Workflow(
                function,
                id=id,
                schedule=schedule,
                retries=retries,
                backoff=backoff,
                timeout=timeout,
                max_interruptions=max_interruptions,
                on_code_change=on_code_change,
                on_failure=on_failure,
                on_missed=on_missed,
            )
        )

    if isinstance(fn, str):
        raise InvalidArgumentError(
            f"workflow: {shown(fn)} given, expected a function; to set the id, write "
            f"`workflow(id={fn!r})`"
        )
    return register if fn is None else register(fn)


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
    if value is not None and not callable(value):
        raise InvalidArgumentError(
            f"workflow `{workflow_id}`, {name}: {shown(value)} given, expected a function"
        )
    return value


def _declared(workflow_id: str, value: Any) -> ScheduleDeclaration | Literal[True] | None:
    if value is None or value is False:
        return None
    if value is True:
        return True
    if isinstance(value, str):
        value = {"cron": value}
    if not isinstance(value, Mapping):
        advice = '; for an interval, `{"every": ...}`' if isinstance(value, timedelta) else ""
        raise InvalidScheduleError(
            f"workflow `{workflow_id}`, schedule: {shown(value)} of type "
            f"`{type_name(type(value))}` given, expected a cron expression, a dict of options, or "
            f"`True`{advice}"
        )
    declaration = ScheduleDeclaration.of(value)
    check_trigger(dict(declaration.spec))
    return declaration


# --- registry --------------------------------------------------------------------------------

_lock = threading.Lock()
_workflows: dict[str, Workflow[Any, Any]] = {}


def registry() -> dict[str, Workflow[Any, Any]]:
    """Return all workflows that this process has registered, by id (a copy)."""
    with _lock:
        return dict(_workflows)


def registered(id: str) -> Workflow[Any, Any] | None:
    """Return the workflow that this process has registered under ``id``, or ``None``."""
    return _workflows.get(id)


@contextmanager
def isolated_registry(*, keep: bool = False) -> Iterator[None]:
    """Use an empty registry inside the block, for tests, and restore the old one afterward.

    With ``keep``, start with a copy of the current registry. This affects the whole process,
    including other threads.
    """
    global _workflows
    with _lock:
        outer, _workflows = _workflows, dict(_workflows) if keep else {}
    try:
        yield
    finally:
        with _lock:
            _workflows = outer


def _register(made: Workflow[Any, Any]) -> Workflow[Any, Any]:
    with _lock:
        known = _workflows.get(made.id)
        if known is not None and not _is_same(known.fn, made.fn):
            raise DuplicateWorkflowError(
                f"workflow id `{made.id}` is used by two functions: "
                f"`{_name(known.fn)}` at {location(known.fn)} and "
                f"`{_name(made.fn)}` at {location(made.fn)}; change one of the ids"
            )
        _workflows[made.id] = made
    register_workflow(made)
    return made


def _name(fn: Any) -> str:
    return str(getattr(innermost(fn), "__qualname__", type(fn).__qualname__))


def _is_same(old: Any, new: Any) -> bool:
    """Whether ``new`` is the same function as ``old``, reloaded or imported under another name.

    Two functions with the same name in one file are not the same, because the first would be lost.
    Neither are two closures of one function.
    """
    if old is new:
        return True
    old_fn, new_fn = innermost(old), innermost(new)
    old_code, new_code = getattr(old_fn, "__code__", None), getattr(new_fn, "__code__", None)
    if old_code is None or new_code is None:
        return False
    if _name(old) != _name(new):
        return False
    if old_code.co_filename != new_code.co_filename and _module(old_fn) != _module(new_fn):
        return False
    if getattr(old_fn, "__globals__", None) is not getattr(new_fn, "__globals__", None):
        return True
    if old_code is new_code:
        return _holds(old) == _holds(new)
    return not _defined_together(old_code, new_code)


def _module(fn: Any) -> str:
    module = getattr(fn, "__module__", None) or ""
    return main_module_name() if module in ("__main__", "__mp_main__") else module


def _holds(fn: Any) -> list[int]:
    """Return what distinguishes handlers with the same code: ids of all captured objects."""
    if isinstance(fn, functools.partial):
        return [*_holds(fn.func), *map(id, fn.args), *map(id, fn.keywords.values())]
    if isinstance(fn, MethodType):
        return [id(fn.__self__), *_holds(fn.__func__)]
    if hasattr(fn, "__wrapped__"):
        return _holds(fn.__wrapped__)
    if not isinstance(fn, FunctionType):
        return [id(fn)]
    values = [*(fn.__defaults__ or ()), *(fn.__kwdefaults__ or {}).values()]
    for cell in fn.__closure__ or ():
        try:
            values.append(cell.cell_contents)
        except ValueError:  # not assigned yet
            values.append(cell)
    return [id(value) for value in values]


def _defined_together(old_code: Any, new_code: Any) -> bool:
    """Whether one module or function that is executing now contains both definitions."""
    frame = defining_frame(new_code)
    return frame is not None and any(code is old_code for code in frame.f_code.co_consts)
