"""``ctx.step`` of sync handlers."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from polos._core.real_datetime import datetime
from polos._runtime.backoff import Backoff
from polos._validate.retry_on import RetryOn

if TYPE_CHECKING:
    import uuid

    from polos._runtime.steps import Steps
    from polos.workflow import Workflow

__all__ = ["SyncSteps"]

R = TypeVar("R")
P = ParamSpec("P")
PayloadT = TypeVar("PayloadT")


class SyncSteps:
    """``ctx.step`` of a sync handler: :class:`Steps` that block the handler's thread."""

    def __init__(self, steps: Steps) -> None:
        self._steps = steps

    def _wait(self, coroutine: Coroutine[Any, Any, R]) -> R:
        return self._steps._run.waits.wait_here(coroutine)

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
        process: bool,
        memory: int | str | None = None,
        retries: int = 0,
        backoff: float | timedelta | Backoff | None = None,
        timeout: float | timedelta | None = None,
        retry_on: RetryOn = Exception,
        **kwargs: Any,
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
        retry_on: RetryOn = Exception,
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
        process: bool,
        memory: int | str | None = None,
        retries: int = 0,
        backoff: float | timedelta | Backoff | None = None,
        timeout: float | timedelta | None = None,
        retry_on: RetryOn = Exception,
        **kwargs: Any,
    ) -> R: ...
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
        retry_on: RetryOn = Exception,
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
        self,
        workflow: Workflow[None, R],
        payload: None = None,
        *,
        name: str | None = None,
        key: str | None = None,
        priority: int | None = None,
    ) -> R: ...
    @overload
    def invoke(
        self,
        workflow: Workflow[PayloadT, R],
        payload: PayloadT,
        *,
        name: str | None = None,
        key: str | None = None,
        priority: int | None = None,
    ) -> R: ...
    @overload
    def invoke(
        self,
        workflow: str,
        payload: Any = None,
        *,
        name: str | None = None,
        key: str | None = None,
        priority: int | None = None,
    ) -> Any: ...
    def invoke(
        self,
        workflow: Workflow[Any, Any] | str,
        payload: Any = None,
        *more: Any,
        name: str | None = None,
        key: str | None = None,
        priority: int | None = None,
    ) -> Any:
        """See :meth:`Steps.invoke`."""
        return self._wait(
            self._steps.invoke(workflow, payload, *more, name=name, key=key, priority=priority)
        )

    @overload
    def wait_event(self, name: str, *, timeout: None = None, type: type[R]) -> R: ...
    @overload
    def wait_event(
        self, name: str, *, timeout: float | timedelta | None, type: type[R]
    ) -> R | None: ...
    @overload
    def wait_event(
        self, name: str, *, timeout: float | timedelta | None = None, type: Any = None
    ) -> Any: ...
    def wait_event(
        self, name: str, *, timeout: float | timedelta | None = None, type: Any = None
    ) -> Any:
        """See :meth:`Steps.wait_event`."""
        return self._wait(self._steps.wait_event(name, timeout=timeout, type=type))

    def now(self, name: str) -> datetime:
        """See :meth:`Steps.now`."""
        return self._wait(self._steps.now(name))

    def uuid(self, name: str) -> uuid.UUID:
        """See :meth:`Steps.uuid`."""
        return self._wait(self._steps.uuid(name))

    def random(self, name: str) -> float:
        """See :meth:`Steps.random`."""
        return self._wait(self._steps.random(name))
