"""Observers of handlers and steps, for traces and metrics.

By default there are none, and then each execution only checks an empty tuple.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from polos._core.safe_logging import quiet_logger

if TYPE_CHECKING:
    from polos._runtime.active_run import ActiveRun

__all__ = ["Observer", "around_run", "around_step", "note_child", "observe", "unobserve"]


class Observer(Protocol):
    """An object whose context managers are entered around each execution."""

    def run(self, active: ActiveRun) -> AbstractContextManager[None]:
        """Return a context manager for a handler; at its exit, ``active.outcome`` is set."""

    def step(self, active: ActiveRun, name: str, attempt: int) -> AbstractContextManager[None]:
        """Return a context manager for one execution of a step's function. It must let exceptions
        pass.
        """

    def invoked(self, active: ActiveRun, name: str, child: str) -> None:
        """Note that step ``name`` has started the run ``child``."""


_log = quiet_logger("polos.worker")

_observers: tuple[Observer, ...] = ()
_no_observers: AbstractContextManager[None] = nullcontext()


def observe(observer: Observer) -> None:
    """Add an observer."""
    global _observers
    _observers = (*_observers, observer)


def unobserve(observer: Observer) -> None:
    """Remove an observer."""
    global _observers
    _observers = tuple(other for other in _observers if other is not observer)


def around_run(active: ActiveRun) -> AbstractContextManager[None]:
    """Return the context manager for one execution of a handler."""
    if not _observers:
        return _no_observers
    return _all([partial(observer.run, active) for observer in _observers])


def around_step(active: ActiveRun, name: str, attempt: int) -> AbstractContextManager[None]:
    """Return the context manager for one execution of a step's function."""
    if not _observers:
        return _no_observers
    return _all([partial(observer.step, active, name, attempt) for observer in _observers])


def note_child(active: ActiveRun, name: str, child: str) -> None:
    """Tell observers that a step has started a child run."""
    for observer in _observers:
        try:
            observer.invoked(active, name, child)
        except Exception:
            _log.exception("an observer of runs failed")


@contextmanager
def _all(make: list[Callable[[], AbstractContextManager[None]]]) -> Iterator[None]:
    with ExitStack() as stack:
        for context in make:
            stack.enter_context(_ErrorsLogged(context))
        yield


class _ErrorsLogged:
    """Enters and leaves the context manager that ``make`` returns; its own errors are logged and
    have no other effect.
    """

    def __init__(self, make: Callable[[], AbstractContextManager[None]]) -> None:
        self._make = make
        self._context: AbstractContextManager[None] | None = None

    def __enter__(self) -> None:
        try:
            context = self._make()
            context.__enter__()
            self._context = context
        except Exception:
            _log.exception("an observer of runs failed")

    def __exit__(self, *raised: Any) -> None:
        if self._context is None:
            return
        try:
            self._context.__exit__(*raised)
        except BaseException as error:
            if error is not raised[1]:
                _log.exception("an observer of runs failed")
