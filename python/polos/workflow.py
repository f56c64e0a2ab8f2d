"""The ``@workflow`` decorator, what it makes of a function, and the registry of all of them.

Knows nothing of clients, databases or running: what is checked here is checked when the
decorator runs, so that a mistake is an error at import.
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

from polos._arguments import one_of, payload_for
from polos._backoff import Backoff, duration
from polos._classes import main_module_name
from polos._declaration import ScheduleDeclaration, check_identifier, normalise_schedule
from polos._describe import shown, type_name
from polos._handlers import Handler, defining_frame, innermost, location
from polos._known_classes import register_workflow
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

# Who may be given an `Order | None` may be given an `Order`, and needs no payload.
PayloadT = TypeVar("PayloadT", contravariant=True)
ResultT = TypeVar("ResultT", covariant=True)
_P = TypeVar("_P")
_R = TypeVar("_R")

_RETRIES_MAX = 1_000_000


def _accept(spec: dict[str, Any]) -> None:
    pass


check_trigger: Callable[[dict[str, Any]], None] = _accept
"""Checks what only the core understands: called with the normalised schedule when the decorator
runs, raises :class:`InvalidScheduleError`. The package sets it (:func:`set_trigger_check`); it
is a hook so that this module works without a core.
"""


def set_trigger_check(check: Callable[[dict[str, Any]], None]) -> None:
    """Set :data:`check_trigger`.

    A function, because ``polos.workflow`` is the decorator once the package is imported, which
    makes the module's own variables awkward to reach.
    """
    global check_trigger
    check_trigger = check


class Workflow(Generic[PayloadT, ResultT]):
    """A registered handler; calling it calls the plain function.

    ``id`` names it, ``fn`` is the function, ``schedule`` the declared schedule (``True`` if it
    can only be scheduled through the API, ``None`` if not at all). Made by :func:`workflow`.
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
                f"workflow `{fn.id}` is one already; register its function, `{fn.id}.fn`, "
                f"to have it under another id"
            )
        if isinstance(fn, staticmethod):
            fn = fn.__func__
        # First: it copies the function's own attributes, which may have the names of ours.
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
            from polos._payload_rules import check_schedulable  # loads pydantic

            # Not kept: what can't be resolved yet may be later, when it is checked again.
            check_schedulable(self, handler.payload_hint())
        if self.is_async and sys.version_info >= (3, 12):
            inspect.markcoroutinefunction(self)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the plain function: nothing is recorded, nothing is retried."""
        return self.fn(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<Workflow {self.id!r} at {location(self.fn)}>"

    def __reduce__(self) -> str:
        # As a function: by its name, so that pickling a class or closure that mentions it works.
        return str(getattr(self, "__qualname__", self.id))

    @property
    def schedulable(self) -> bool:
        """Whether schedules can be made for it."""
        return self.schedule is not None

    @functools.cached_property
    def payload_type(self) -> Any:
        """The payload's annotation, resolved when it is first asked for, since it may name what
        the module defines later; ``None`` if it is missing or can't be resolved.
        """
        return self._handler.payload_hint()

    @property
    def payload_has_default(self) -> bool:
        """Whether the handler can be called without a payload."""
        return self._handler.payload_has_default()

    @functools.cached_property
    def result_type(self) -> Any:
        """The result's annotation; otherwise as :attr:`payload_type`."""
        return self._handler.result_hint()

    def payload_from(self, data: Any) -> Any:
        """``data`` as the payload that the handler expects.

        Raises :class:`InvalidArgumentError`, naming the workflow and what doesn't fit.
        """
        expected = self.payload_type
        if expected is None or type(data) is expected:
            return data
        return payload_for(expected, data, name=f"payload of workflow `{self.id}`")

    def arguments(self, ctx: Any, payload: Any) -> tuple[Any, ...]:
        """What to call :attr:`fn` with: as much as it takes."""
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
        """Start a run durably, on whichever worker has this workflow.

        :param idempotency_key: a second start with the same key gives the first one's run.

        Raises :class:`InvalidArgumentError` for a payload that the handler doesn't take,
        :class:`SerializationError` for one that can't be stored, :class:`StoreError`.
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

        In a handler ``ctx.step.invoke`` is mostly better: the child belongs to the run then, and is
        the same one when the handler is entered again.

        Raises what :meth:`invoke` raises, and what ``RunHandle.result`` does.
        """
        from polos import runs

        handle = await runs.invoke(client, self, payload)
        return await handle.result(timeout)

    @property
    def takes_schedule_payload(self) -> bool:
        """Whether a :class:`SchedulePayload` is passed on as it is."""
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
    """Register a function as a workflow; the result is a :class:`Workflow`, callable as before.

    Used bare (``@workflow``) or with options. The function takes ``()``, ``(ctx)`` or
    ``(ctx, payload)``; async ones run on the event loop, others in a thread.

    :param id: names the workflow, in the database too; the function's name by default.
    :param schedule: a cron text in UTC; a dict such as ``{"cron": "0 17 * * *", "timezone":
        "America/New_York"}`` or ``{"every": timedelta(seconds=30), "overlap": "skip"}``; ``True``
        to allow schedules through the API only. Without it, the workflow can be run and invoked,
        and not scheduled.
    :param retries: how often a failed run is tried again (0).
    :param backoff: how long it waits first: seconds or ``timedelta``, doubled each time, or a
        :class:`Backoff`.
    :param timeout: how long one attempt may take: seconds or ``timedelta``; no limit by default.
    :param max_interruptions: how often in a row the worker may disappear while it executes a run
        (killed, out of memory, crashed) before the run fails with
        :class:`InterruptedTooOftenError` instead of being resumed; ``None`` for no limit. A newly
        recorded step and a new attempt count from zero again; a worker that is stopped as usual,
        and one that was cut off from the database and lives on, do not count.
    :param on_code_change: what becomes of a run that is resumed with code that no longer takes the
        steps it had recorded: ``"fail"`` (with :class:`CodeChangedError`), or ``"hold"``: it waits,
        with a note, until a worker with other code claims it.
    :param on_failure: called with a :class:`RunFailure` when a run has failed for good, by the
        worker that ran it; not again if that worker dies meanwhile. Sync or async.
    :param on_missed: called with a :class:`MissedSlots` when nobody could run slots of a
        schedule, by the worker that noticed.

    Raises :class:`InvalidArgumentError`, :class:`InvalidScheduleError`, and
    :class:`DuplicateWorkflowError` for an id that another function has. The same function
    again (a reloaded module, a notebook cell run twice) replaces its earlier self.
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
            f"workflow: {shown(fn)} given, expected a function; for an id, `workflow(id={fn!r})`"
        )
    return register if fn is None else register(fn)


# --- checks ----------------------------------------------------------------------------------


def _default_id(fn: Any) -> str:
    name = getattr(fn, "__name__", None)
    if not isinstance(name, str) or name == "<lambda>":
        raise InvalidArgumentError(
            f"workflow: {shown(fn)} has no name to use as id; give it one with `workflow(id=...)`"
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
            f"`{type_name(type(value))}` given, expected a cron text, a dict of options or "
            f"`True`{advice}"
        )
    declaration = ScheduleDeclaration.of(value)
    check_trigger(dict(declaration.spec))
    return declaration


# --- registry --------------------------------------------------------------------------------

_lock = threading.Lock()
_workflows: dict[str, Workflow[Any, Any]] = {}


def registry() -> dict[str, Workflow[Any, Any]]:
    """All workflows that this process has registered, by id (a copy)."""
    with _lock:
        return dict(_workflows)


def registered(id: str) -> Workflow[Any, Any] | None:
    """The workflow that this process has registered under ``id``."""
    return _workflows.get(id)


@contextmanager
def isolated_registry(*, keep: bool = False) -> Iterator[None]:
    """Start with no workflows registered (with ``keep``, with those that are), and forget on
    leaving which were: for tests.

    Affects the whole process, other threads included.
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
                f"`{_name(made.fn)}` at {location(made.fn)}; give one of them another id"
            )
        _workflows[made.id] = made
    register_workflow(made)
    return made


def _name(fn: Any) -> str:
    return str(getattr(innermost(fn), "__qualname__", type(fn).__qualname__))


def _is_same(old: Any, new: Any) -> bool:
    """Whether ``new`` is ``old`` again: reloaded, or imported under another module name.

    Not so: two functions of one name in one file, of which the first would be lost, and two
    closures of one function, which only look alike.
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
    """What tells apart handlers of one code: the identities of all that they captured."""
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
    """Whether one module or function, being executed now, contains both definitions."""
    frame = defining_frame(new_code)
    return frame is not None and any(code is old_code for code in frame.f_code.co_consts)
