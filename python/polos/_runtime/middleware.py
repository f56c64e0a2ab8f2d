"""Code of the application around every entry of a handler."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any

from polos._validate.formatting import shown
from polos._validate.signature import is_async_function
from polos.exceptions import InvalidArgumentError, InvalidStateError

if TYPE_CHECKING:
    from polos.context import SyncWorkflowContext, WorkflowContext

__all__ = ["Middleware", "MiddlewareChain"]

Middleware = Callable[[Callable[[], Any], Any], Any]
"""``async def middleware(call_next, ctx)``, or the same without ``async``."""

_EXPECTED = "expected functions `async def middleware(call_next, ctx)` or `def` for sync handlers"


class MiddlewareChain:
    """The middleware of a worker, outermost first.

    Raises :class:`InvalidArgumentError` for what cannot be called with ``(call_next, ctx)``.
    """

    def __init__(self, given: Any) -> None:
        if isinstance(given, (str, bytes)) or not isinstance(given, Iterable):
            raise InvalidArgumentError(f"middleware: {shown(given)} given, expected a list")
        self._async: list[Callable[..., Awaitable[Any]]] = []
        self._sync: list[Callable[..., Any]] = []
        self.given = tuple(given)
        for middleware in self.given:
            _check(middleware)
            (self._async if is_async_function(middleware) else self._sync).append(middleware)
        self.has_async = bool(self._async)

    async def call(self, enter: Callable[[], Awaitable[Any]], ctx: WorkflowContext) -> Any:
        """Call ``enter`` inside the async middleware, on the loop."""
        for middleware in reversed(self._async):
            enter = _Next(middleware, enter, ctx)
        return await enter()

    def call_in_thread(self, enter: Callable[[], Any], ctx: SyncWorkflowContext) -> Any:
        """Call ``enter`` inside the sync middleware, in the thread of a sync handler."""
        for middleware in reversed(self._sync):
            enter = _Next(middleware, enter, ctx)
        return enter()


class _Next:
    """A middleware and what it surrounds. This is the ``call_next`` of the one before it."""

    def __init__(self, middleware: Middleware, enter: Callable[[], Any], ctx: Any) -> None:
        self._middleware = middleware
        self._enter = enter
        self._ctx = ctx
        self._is_called = False

    def __call__(self) -> Any:
        return self._middleware(self._call_next, self._ctx)

    def _call_next(self) -> Any:
        if self._is_called:
            name = getattr(self._middleware, "__name__", type(self._middleware).__name__)
            raise InvalidStateError(
                f"middleware `{name}` called `call_next` twice in one entry of run "
                f"`{self._ctx.run_id}`; a handler is entered once, and `retries` of the workflow "
                f"repeats it"
            )
        self._is_called = True
        return self._enter()


def _check(middleware: Any) -> None:
    if isinstance(middleware, type) or not callable(middleware):
        raise InvalidArgumentError(f"middleware: {shown(middleware)} given, {_EXPECTED}")
    try:
        inspect.signature(middleware).bind(None, None)
    except TypeError as error:
        raise InvalidArgumentError(
            f"middleware: {shown(middleware)} cannot be called with `(call_next, ctx)`: {error}; "
            f"{_EXPECTED}"
        ) from None
    except ValueError:  # written in C, without a signature
        pass
