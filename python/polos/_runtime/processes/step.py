"""Execute a step in a process of its own: ``ctx.step.run(..., process=True)``."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from polos._codec.codec import decode, encode
from polos._codec.exceptions import error_from_record, error_record
from polos._codec.known_classes import undeclared_types
from polos._core.instants import micros_of
from polos._runtime.current_run import current_step
from polos._runtime.processes.channel import Frame
from polos._runtime.processes.functions import hints_of_arguments, reference
from polos._runtime.processes.pool import Job
from polos._runtime.step_execution import StepExecution, StepOptions
from polos._validate.signature import location, result_hint_of
from polos.exceptions import (
    InvalidArgumentError,
    RecordedError,
    SerializationError,
    StepCrashedError,
    StepSerializationError,
)

if TYPE_CHECKING:
    from polos._runtime.active_run import ActiveRun

__all__ = ["ProcessStepExecution"]

# Exceptions that are not an `Exception`, and that a step's function may raise on purpose.
_EXITS: dict[str, type[BaseException]] = {
    "builtins:SystemExit": SystemExit,
    "builtins:KeyboardInterrupt": KeyboardInterrupt,
    "asyncio.exceptions:CancelledError": asyncio.CancelledError,
}


class _FailedThereError(Exception):
    """The function has raised ``error``; ``record`` has its traceback, which ``error`` lacks."""

    def __init__(self, error: BaseException, record: dict[str, Any]) -> None:
        super().__init__()
        self.error = error
        self.record = record


class _RefusedError(Exception):
    """The process cannot execute the call, and a retry would change nothing."""


class _UnstorableError(Exception):
    """The function has returned something that cannot be stored."""


class _Result:
    __slots__ = ("text", "value")

    def __init__(self, value: Any, text: str) -> None:
        self.value = value
        self.text = text


class ProcessStepExecution(StepExecution):
    """A step that is executed in a process and is not finished.

    Raises :class:`InvalidArgumentError` and :class:`SerializationError` for a function or arguments
    that no other process can use.
    """

    __slots__ = ("_memory", "_request")

    def __init__(
        self,
        active: ActiveRun,
        name: str,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: StepOptions,
        memory: int | None,
    ) -> None:
        if not hasattr(os, "killpg") or not sys.executable:
            raise InvalidArgumentError(
                f"step `{name}`: process=True given, which needs a Unix, and an interpreter that "
                f"is a program of its own (`sys.executable`)"
            )
        super().__init__(active, name, fn, args, kwargs, options)
        self._memory = memory
        self._request = _request(name, fn, args, kwargs, memory)

    async def until_done(self, attempt: int) -> Any:
        """See :meth:`StepExecution.until_done`."""
        result: _Result = await super().until_done(attempt)
        return result.value

    async def _execute(self) -> _Result:
        active, name = self._active, self._name
        token = current_step.set(name)
        active.waits.executing(1)
        try:
            active.about_to_call(name)
            answer = await self._answer()
        finally:
            active.waits.executing(-1)
            current_step.reset(token)
        return self._read(answer)

    async def _answer(self) -> Frame:
        """Execute the call and return the answer of the process.

        Whatever happens, the process executes nothing of the step when this has returned.
        """
        active, limit = self._active, self._options.timeout
        job = Job(active.loop, self._memory)
        active.executor.processes.submit(job)
        try:
            await asyncio.wait({job.ready})
            job.ready.result()
            # It may have waited for long.
            await active.requests.confirm_claim()
            job.start(self._request, None if limit is None else limit.total_seconds())
            await self._until(job.outcome, limit)
            return job.outcome.result()
        except GeneratorExit:
            job.give_up()
            raise
        except BaseException:
            await job.end()
            raise

    async def _until(self, outcome: asyncio.Future[Frame], limit: timedelta | None) -> None:
        if limit is None:
            await asyncio.wait({outcome})
            return
        timer = self._active.executor.timers.start(micros_of(limit))
        try:
            waited: set[asyncio.Future[Any]] = {outcome, timer}
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        finally:
            timer.cancel()
        if not outcome.done():
            raise TimeoutError(
                f"step `{self._name}` took longer than {limit}; its process was ended"
            )

    def _read(self, answer: Frame) -> _Result:
        """Return the result, or raise what the process has reported."""
        kind = answer.header["kind"]
        if kind == "returned":
            text = bytes(answer.parts[0]).decode()
            hint = result_hint_of(self._fn)
            try:
                value = decode(text, hint, function=self._fn, is_strict=True)
            except SerializationError as error:
                raise _UnstorableError(
                    f"the result of its process cannot be restored: {error}; name the type in the "
                    f"return annotation of the step's function ({location(self._fn)})"
                ) from error
            return _Result(value, text)
        if kind == "refused":
            raise _RefusedError(answer.header["message"])
        if kind == "unstorable":
            raise _UnstorableError(answer.header["message"])
        record = json.loads(answer.parts[0])
        raise _FailedThereError(_error_of(record, is_exit=kind == "exited"), record)

    async def _record_result(self, value: _Result, attempt: int, started_at: int) -> None:
        await self._active.requests.record(
            self._name, "done", attempt, started_at, result=value.text
        )

    async def _retry_or_fail(self, error: BaseException, attempt: int, started_at: int) -> None:
        if isinstance(error, _RefusedError):
            raise InvalidArgumentError(f"step `{self._name}`: {error}") from error.__cause__
        if isinstance(error, _UnstorableError):
            clear = StepSerializationError(f"step `{self._name}`: {error}", step=self._name)
            text = json.dumps(error_record(clear))
            await self._active.requests.record(
                self._name, "failed", attempt, started_at, error=text
            )
            raise clear from error.__cause__
        if isinstance(error, _FailedThereError):
            await self._retry_or_fail_with(error.error, error.record, attempt, started_at)
            return
        if isinstance(error, StepCrashedError):
            error.step = self._name
        await super()._retry_or_fail(error, attempt, started_at)


def _request(
    name: str,
    fn: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    memory: int | None,
) -> Frame:
    ref = reference(name, fn)
    hints, hints_by_name = hints_of_arguments(fn, len(args), list(kwargs))
    parts = [
        _encoded(name, f"argument {index + 1}", value, hint, fn)
        for index, (value, hint) in enumerate(zip(args, hints, strict=True))
    ]
    parts += [_encoded(name, key, value, hints_by_name[key], fn) for key, value in kwargs.items()]
    return Frame(
        {
            "kind": "call",
            "module": ref.module,
            "name": ref.name,
            "file": ref.file,
            "is_script": ref.is_script,
            "keywords": list(kwargs),
            "memory": memory,
        },
        parts,
    )


def _encoded(step: str, what: str, value: Any, hint: Any, fn: Callable[..., Any]) -> bytes:
    try:
        text = encode(value, name=what)
    except SerializationError as error:
        raise StepSerializationError(
            f"step `{step}`: {error}; the arguments of a step with `process=True` are stored like "
            f"results",
            step=step,
        ) from error
    if b"$polos" in text:
        for unknown in undeclared_types(text.decode(), hint, fn):
            raise InvalidArgumentError(
                f"step `{step}`: {what} holds a `{unknown}`, which the process of the step cannot "
                f"rebuild: name the type in the annotation of the parameter ({location(fn)}), or "
                f"call `polos.register_types` in the module of the function"
            )
    return text


def _error_of(record: dict[str, Any], *, is_exit: bool) -> BaseException:
    error: BaseException | None
    if is_exit:
        kind = _EXITS.get(record["type"])
        error = None if kind is None else kind(record["message"])
    else:
        error = error_from_record(record)
    if error is None:
        error = RecordedError.from_record(record)
    if record["traceback"]:
        notes = list(getattr(error, "__notes__", ()))
        text = f"in the process of the step:\n{record['traceback'].rstrip()}"
        error.__notes__ = [*notes, text]  # type: ignore[attr-defined]
    return error
