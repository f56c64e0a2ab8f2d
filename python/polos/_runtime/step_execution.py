"""Execute one step: call its function, record the outcome, and retry."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Callable
from datetime import timedelta
from types import FunctionType
from typing import TYPE_CHECKING, Any

from polos._codec.codec import encode
from polos._codec.exceptions import error_record
from polos._core.instants import micros_of
from polos._runtime.backoff import Backoff, duration
from polos._runtime.current_run import current_step
from polos._runtime.instrumentation import around_step
from polos._runtime.retry_decision import why_not_retried
from polos._runtime.step_results import warn_of_undeclared_types
from polos._validate.formatting import shown
from polos._validate.retry_on import RetryOn, checked_retry_on
from polos.exceptions import (
    InvalidArgumentError,
    SerializationError,
    StepError,
    StepSerializationError,
)

if TYPE_CHECKING:
    from polos._runtime.active_run import ActiveRun

__all__ = ["StepExecution", "StepOptions", "random_fraction", "step_options"]


class StepOptions:
    """The options of a step, checked."""

    __slots__ = ("backoff", "retries", "retry_on", "timeout")

    def __init__(
        self, retries: int, backoff: Backoff, timeout: timedelta | None, retry_on: RetryOn
    ) -> None:
        self.retries = retries
        self.backoff = backoff
        self.timeout = timeout
        self.retry_on = retry_on


# Shared by all steps without options.
_no_options = StepOptions(0, Backoff.of(None), None, Exception)


def step_options(name: str, retries: Any, backoff: Any, timeout: Any, retry_on: Any) -> StepOptions:
    """Return the options of step ``name``. Raises :class:`InvalidArgumentError`."""
    if (
        retries == 0
        and retries is not False
        and backoff is None
        and timeout is None
        and retry_on is Exception
    ):
        return _no_options
    if isinstance(retries, bool) or not isinstance(retries, int) or retries < 0:
        raise InvalidArgumentError(
            f"step `{name}`, retries: {shown(retries)} given, expected a whole number of 0 or more"
        )
    limit = None if timeout is None else duration(f"step `{name}`, timeout", timeout, zero=False)
    checked = checked_retry_on(f"step `{name}`, retry_on", retry_on)
    return StepOptions(retries, Backoff.of(backoff), limit, checked)


class StepExecution:
    """A step that is not finished."""

    __slots__ = (
        "_active", "_args", "_fn", "_has_raised_cancelled", "_kwargs", "_name", "_options",
    )  # fmt: skip

    def __init__(
        self,
        active: ActiveRun,
        name: str,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: StepOptions,
    ) -> None:
        self._active = active
        self._name = name
        self._fn = fn
        self._args = args
        self._kwargs = kwargs
        self._options = options
        self._has_raised_cancelled = False

    async def until_done(self, attempt: int) -> Any:
        """Execute the step, from attempt number ``attempt`` on, until it is done or has failed.

        Returns its result. Raises :class:`StepError` or :class:`StepSerializationError`.
        """
        active, name = self._active, self._name
        while True:
            if active.claim_is_unconfirmed():
                await active.requests.confirm_claim()
            started_at = active.now()
            self._has_raised_cancelled = False
            error: BaseException
            try:
                with around_step(active, name, attempt):
                    value = await self._execute()
            except asyncio.CancelledError as cancelled:
                if active.is_stopping() and not self._has_raised_cancelled:
                    raise
                error = cancelled
            except GeneratorExit:
                raise
            except BaseException as raised:
                error = raised
            else:
                await self._record_result(value, attempt, started_at)
                return value
            active.check_alive()
            await self._retry_or_fail(error, attempt, started_at)
            attempt += 1

    async def _retry_or_fail(self, error: BaseException, attempt: int, started_at: int) -> None:
        """Record a failed attempt, and return when the step is to be executed again.

        Raises :class:`StepError` if it is not.
        """
        await self._retry_or_fail_with(error, error_record(error), attempt, started_at)

    async def _retry_or_fail_with(
        self, error: BaseException, failure: dict[str, Any], attempt: int, started_at: int
    ) -> None:
        """Do what :meth:`_retry_or_fail` does; ``failure`` is the record of ``error``."""
        active, name, options = self._active, self._name, self._options
        is_last = attempt > options.retries
        if not is_last:
            reason = why_not_retried(error, options.retry_on)
            if reason is not None:
                is_last = True
                failure["not_retried"] = reason
        text = json.dumps(failure)
        if is_last:
            await active.requests.record(name, "failed", attempt, started_at, error=text)
            raise StepError.from_record(name, attempt, failure, error) from error
        wakes_at = active.now() + micros_of(options.backoff.delay(attempt, random_fraction()))
        await active.requests.record(
            name, "retrying", attempt, started_at, error=text, wakes_at=wakes_at
        )
        await active.waits.sleep_until(wakes_at)

    async def _execute(self) -> Any:
        active, name, limit = self._active, self._name, self._options.timeout
        token, waits = current_step.set(name), active.waits
        waits.executing(1)
        try:
            active.about_to_call(name)
            if limit is not None:
                return await waits.within(limit, self._call(), f"step `{name}`")
            return await self._call()
        finally:
            waits.executing(-1)
            current_step.reset(token)

    async def _call(self) -> Any:
        fn = self._fn
        # The first condition only saves time: it decides most steps.
        is_plain_async = type(fn) is FunctionType and fn.__code__.co_flags & inspect.CO_COROUTINE
        if is_plain_async or inspect.iscoroutinefunction(fn):
            return await fn(*self._args, **self._kwargs)
        if inspect.iscoroutinefunction(getattr(fn, "__call__", None)):  # noqa: B004
            return await fn(*self._args, **self._kwargs)
        answer = self._active.executor.step_threads.submit(fn, *self._args, **self._kwargs)
        try:
            value = await answer
        except asyncio.CancelledError:
            # The function raised it, unless somebody cancelled this task and so the future. Before
            # Python 3.11, nothing else shows that nobody did.
            self._has_raised_cancelled = not answer.cancelled()
            raise
        # A partial or lambda around an async function looks sync and returns a coroutine.
        return await value if asyncio.iscoroutine(value) else value

    async def _record_result(self, value: Any, attempt: int, started_at: int) -> None:
        record, name = self._active.requests.record, self._name
        try:
            text = encode(value, name="result").decode()
        except SerializationError as error:
            clear = StepSerializationError(f"step `{name}`: {error}", step=name)
            failure = json.dumps(error_record(clear))
            await record(name, "failed", attempt, started_at, error=failure)
            raise clear from error
        if "$polos" in text:
            warn_of_undeclared_types(name, self._fn, text)
        await record(name, "done", attempt, started_at, result=text)


def random_fraction() -> float:
    """Return a random number in ``[0, 1)``."""
    import random  # loads OpenSSL

    return random.random()
