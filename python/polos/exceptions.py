"""All exceptions, as one hierarchy under :class:`PolosError`.

Errors about a value are also ``ValueError``, and errors about a lookup are also ``LookupError``,
so that code which does not know polos can handle them. All of them can be pickled and copied:
details are keyword arguments with defaults, kept as plain attributes, and ``args`` holds only the
message. This module imports no other module of the package.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = [
    "BackfillNotFoundError",
    "CalendarNotFoundError",
    "CodeChangedError",
    "DuplicateStepError",
    "DuplicateWorkflowError",
    "HandlerParked",
    "InterruptedTooOftenError",
    "InvalidArgumentError",
    "InvalidCronError",
    "InvalidScheduleError",
    "InvalidStateError",
    "InvalidTimezoneError",
    "LeaseLostError",
    "LimitNotFoundError",
    "MissingExtraError",
    "PayloadTooLargeError",
    "PermanentError",
    "PolosError",
    "RecordedError",
    "RunCancelledError",
    "RunFailedError",
    "RunNotFoundError",
    "RunTimeoutError",
    "ScheduleFrequencyWarning",
    "ScheduleNotFoundError",
    "SerializationError",
    "ShutdownError",
    "StepCrashedError",
    "StepError",
    "StepSerializationError",
    "StoreCorruptError",
    "StoreError",
    "StoreUnavailableError",
    "StoreVersionError",
    "WorkerError",
    "WorkflowNotFoundError",
    "WorkflowNotSchedulableError",
]


class PolosError(Exception):
    """Base class of every error that polos raises on purpose."""


class _LookupFailedError(PolosError, LookupError):
    """Base class of errors for a lookup that found nothing."""


# --- arguments -------------------------------------------------------------------------------


class InvalidArgumentError(PolosError, ValueError):
    """An argument has the wrong type or a value outside what is allowed."""


class InvalidStateError(PolosError, ValueError):
    """The run or schedule is in a state that does not allow the requested change."""


class InvalidScheduleError(PolosError, ValueError):
    """A schedule's trigger or policy is not valid."""


class InvalidCronError(InvalidScheduleError):
    """A cron expression is not valid, or can never fire."""


class InvalidTimezoneError(InvalidScheduleError):
    """A time zone is not an IANA name that this machine knows."""


# --- values that are stored ------------------------------------------------------------------


class SerializationError(PolosError, ValueError):
    """A value cannot be stored as JSON, or stored JSON cannot be converted back to a value."""


class PayloadTooLargeError(SerializationError):
    """A value is larger than the limit. Nothing was written.

    ``size`` is the size of its JSON in bytes (a lower bound if counting stopped early), and
    ``limit`` is the allowed size in bytes.
    """

    def __init__(self, message: str = "", *, size: int = 0, limit: int = 0) -> None:
        super().__init__(message)
        self.size = size
        self.limit = limit


class StepSerializationError(SerializationError):
    """A step's result cannot be stored. ``step`` is the step's name."""

    def __init__(self, message: str = "", *, step: str = "") -> None:
        super().__init__(message)
        self.step = step


# --- workflows, schedules and runs -----------------------------------------------------------


class DuplicateWorkflowError(PolosError, ValueError):
    """Two different functions are registered under one workflow id."""


class WorkflowNotFoundError(_LookupFailedError):
    """No workflow with this id is registered, here or by any worker."""


class WorkflowNotSchedulableError(PolosError, ValueError):
    """The workflow exists, but was registered without ``schedule=``."""


class ScheduleNotFoundError(_LookupFailedError):
    """No schedule with this id exists in the project."""


class RunNotFoundError(_LookupFailedError):
    """No run with this id exists in the project."""


class LimitNotFoundError(_LookupFailedError):
    """No limit with this name exists in the project: no worker has declared it."""


class CalendarNotFoundError(_LookupFailedError):
    """No stored calendar with this name exists in the project."""


class BackfillNotFoundError(_LookupFailedError):
    """No run of a backfill with this id is stored in the project."""


class DuplicateStepError(PolosError, ValueError):
    """A step name was used twice in one run."""


class RecordedError(PolosError):
    """Replaces a recorded exception that cannot be rebuilt in this process.

    ``type`` is the name of the original type, ``message`` its text, and ``traceback`` the recorded
    traceback (text, possibly shortened).
    """

    def __init__(self, text: str = "", *, type: str = "", message: str = "", traceback: str = ""):
        super().__init__(text)
        self.type = type
        self.message = message
        self.traceback = traceback

    @classmethod
    def from_record(cls, record: Mapping[str, Any] | None) -> RecordedError:
        """Build the replacement for a recorded error; any part of ``record`` may be missing."""
        name, message, traceback = _described(record)
        return cls(_joined(name, message), type=name, message=message, traceback=traceback)


class StepError(PolosError):
    """A step failed and has no retries left.

    ``step`` is its name, ``attempts`` the number of tries, and ``cause_type`` and
    ``cause_message`` describe the last failure. ``__cause__`` is the exception itself: the original
    if it was raised in this process, else one rebuilt from its record, or a
    :class:`RecordedError` if that is impossible.
    """

    def __init__(
        self,
        message: str = "",
        *,
        step: str = "",
        attempts: int = 0,
        cause_type: str = "",
        cause_message: str = "",
    ) -> None:
        super().__init__(message)
        self.step = step
        self.attempts = attempts
        self.cause_type = cause_type
        self.cause_message = cause_message

    @classmethod
    def from_record(
        cls,
        step: str,
        attempts: int,
        record: Mapping[str, Any] | None,
        cause: BaseException | None = None,
    ) -> StepError:
        """Build the error of a step whose last failure was recorded as ``record``.

        ``cause`` is the exception itself, if available; without it ``__cause__`` is a
        :class:`RecordedError`. The text is the same in both cases, so a replayed failure reads like
        the first one.
        """
        name, message, _ = _described(record)
        times = "once" if attempts == 1 else f"{attempts} times"
        error = cls(
            f"step `{step}` failed {times}, last with {_joined(name, message)}",
            step=step,
            attempts=attempts,
            cause_type=name,
            cause_message=message,
        )
        error.__cause__ = cause if cause is not None else RecordedError.from_record(record)
        return error


class StepCrashedError(PolosError):
    """The process of a step with ``process=True`` has ended before the step was done.

    ``step`` is the step's name. ``signal`` is the number of the signal that has killed the process,
    or ``None``; then ``exit_code`` is its exit code. ``peak_memory`` is the largest resident memory
    of the process in bytes, or ``None`` if the system has not reported it.
    """

    def __init__(
        self,
        message: str = "",
        *,
        step: str = "",
        signal: int | None = None,
        exit_code: int | None = None,
        peak_memory: int | None = None,
    ) -> None:
        super().__init__(message)
        self.step = step
        self.signal = signal
        self.exit_code = exit_code
        self.peak_memory = peak_memory


class PermanentError(PolosError):
    """A failure that a retry cannot cure. Raise it to end the retries of the step and of the run.

    ``raise polos.PermanentError("the card was declined") from error`` keeps the original exception
    as the cause. A subclass has the same effect.
    """


class RunFailedError(PolosError):
    """A run failed with an exception that cannot be rebuilt in this process.

    ``run_id`` and ``workflow`` name the run. ``error_type``, ``error_message``, and ``traceback``
    (text, possibly shortened) are the record of the exception.
    """

    def __init__(
        self,
        message: str = "",
        *,
        run_id: str = "",
        workflow: str = "",
        error_type: str = "",
        error_message: str = "",
        traceback: str = "",
    ) -> None:
        super().__init__(message)
        self.run_id = run_id
        self.workflow = workflow
        self.error_type = error_type
        self.error_message = error_message
        self.traceback = traceback

    @classmethod
    def from_record(
        cls, record: Mapping[str, Any] | None, *, run_id: str = "", workflow: str = ""
    ) -> RunFailedError:
        """Build the error of a run that failed with ``record``; any part may be missing."""
        name, message, traceback = _described(record)
        what = f"run `{run_id}` of workflow `{workflow}`" if workflow else f"run `{run_id}`"
        return cls(
            f"{what} failed with {_joined(name, message)}",
            run_id=run_id,
            workflow=workflow,
            error_type=name,
            error_message=message,
            traceback=traceback,
        )


class RunCancelledError(PolosError):
    """The awaited run was cancelled. ``run_id`` names it."""

    def __init__(self, message: str = "", *, run_id: str = "") -> None:
        super().__init__(message)
        self.run_id = run_id


class RunTimeoutError(PolosError, TimeoutError):
    """A run, or the wait for one, took longer than its timeout. ``run_id`` names the run."""

    def __init__(self, message: str = "", *, run_id: str = "") -> None:
        super().__init__(message)
        self.run_id = run_id


class CodeChangedError(PolosError):
    """A resumed run no longer reaches steps that it has recorded, because the code has changed.

    See ``on_code_change`` of :func:`polos.workflow`. ``reason`` says what differs. ``patches`` are
    the names of ``ctx.patched`` calls that the run has recorded and the code no longer makes.
    """

    reason: str = ""
    patches: tuple[str, ...] = ()


class InterruptedTooOftenError(PolosError):
    """A run's worker died each time it executed the run: killed, out of memory, or crashed.

    See ``max_interruptions`` of :func:`polos.workflow`. ``run_id`` names the run.
    ``interruptions`` is how many times in a row this happened without a newly recorded step.
    """

    def __init__(self, message: str = "", *, run_id: str = "", interruptions: int = 0) -> None:
        super().__init__(message)
        self.run_id = run_id
        self.interruptions = interruptions


class HandlerParked(BaseException):
    """Unwinds a handler that sleeps for long or waits for a child run.

    The run waits in the database, and polos calls the handler again when it is time. This is
    neither an ``Exception`` nor a cancellation, so that no handler mistakes it for one. ``finally``
    blocks do run.
    """


# --- stores and workers ----------------------------------------------------------------------


class StoreError(PolosError):
    """The database rejected an operation, or the operation failed."""


class StoreUnavailableError(StoreError):
    """The database cannot be reached or opened at the moment. A retry may succeed."""


class StoreCorruptError(StoreError):
    """The database is damaged or does not belong to polos. It was not changed."""


class StoreVersionError(StoreError):
    """The database was written by a newer version of polos than this one."""


class LeaseLostError(PolosError):
    """Another worker has claimed the run. What this worker reported was not recorded."""


class WorkerError(PolosError):
    """A worker cannot start, or was used incorrectly."""


class MissingExtraError(PolosError, ImportError):
    """A part of polos needs packages that are not installed. The message names them."""


class ShutdownError(PolosError):
    """The client or worker is closed or closing and accepts no more work."""


class ScheduleFrequencyWarning(UserWarning):
    """A schedule fires so often that a queue, an event, or ``every=`` is a better tool."""


def _described(record: Mapping[str, Any] | None) -> tuple[str, str, str]:
    # Records come from a database: a missing or malformed part must not hide the rest.
    parts = []
    for name in ("type", "message", "traceback"):
        value = record.get(name) if isinstance(record, Mapping) else None
        parts.append(value if isinstance(value, str) else "")
    return parts[0].removeprefix("builtins:").replace(":", ".") or "an error", parts[1], parts[2]


def _joined(name: str, message: str) -> str:
    return f"{name}: {message}" if message else name
