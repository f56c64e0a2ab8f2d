"""What can go wrong, as one hierarchy under :class:`PolosError`.

Errors about a value are also ``ValueError``, errors about a lookup are also ``LookupError``,
so that code which has never heard of Polos handles them as it handles everything else.
All of them can be pickled and copied: details are keyword arguments with defaults, kept as
plain attributes, and ``args`` is the message alone. This module knows no other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = [
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
    "MissingExtraError",
    "PayloadTooLargeError",
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
    """Base of every error that Polos raises on purpose."""


class _LookupFailedError(PolosError, LookupError):
    """A lookup found nothing."""


# --- arguments -------------------------------------------------------------------------------


class InvalidArgumentError(PolosError, ValueError):
    """An argument has the wrong type or a value outside what is allowed."""


class InvalidStateError(PolosError, ValueError):
    """What was asked for can't be done to a run or schedule that is where this one is."""


class InvalidScheduleError(PolosError, ValueError):
    """A schedule's trigger or policy can't be used as given."""


class InvalidCronError(InvalidScheduleError):
    """A cron expression can't be read, or can never fire."""


class InvalidTimezoneError(InvalidScheduleError):
    """A time zone isn't an IANA name that this machine knows."""


# --- values that are stored ------------------------------------------------------------------


class SerializationError(PolosError, ValueError):
    """A value can't be stored as JSON, or stored JSON can't be turned back into a value."""


class PayloadTooLargeError(SerializationError):
    """A value is larger than the limit; nothing of it was written.

    ``size`` is the size of its JSON in bytes (at least that, where counting stopped early),
    ``limit`` what is allowed.
    """

    def __init__(self, message: str = "", *, size: int = 0, limit: int = 0) -> None:
        super().__init__(message)
        self.size = size
        self.limit = limit


class StepSerializationError(SerializationError):
    """What a step returned can't be stored; ``step`` is the step's name."""

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


class DuplicateStepError(PolosError, ValueError):
    """A step name was used twice in one run."""


class RecordedError(PolosError):
    """Stands for an exception that was recorded and can't be rebuilt in this process.

    ``type`` is the original type's name, ``message`` its text, ``traceback`` the recorded
    traceback (text, possibly shortened).
    """

    def __init__(self, text: str = "", *, type: str = "", message: str = "", traceback: str = ""):
        super().__init__(text)
        self.type = type
        self.message = message
        self.traceback = traceback

    @classmethod
    def from_record(cls, record: Mapping[str, Any] | None) -> RecordedError:
        """The stand-in for a recorded error; any part of ``record`` may be missing."""
        name, message, traceback = _described(record)
        return cls(_joined(name, message), type=name, message=message, traceback=traceback)


class StepError(PolosError):
    """A step failed for the last time.

    ``step`` is its name, ``attempts`` how often it was tried, ``cause_type`` and
    ``cause_message`` what it failed with. The exception itself is ``__cause__``: the original
    when it was raised in this process, else one rebuilt from its record (a
    :class:`RecordedError` where that is impossible).
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
        """The error of a step whose last failure was recorded as ``record``.

        ``cause`` is the exception itself, if there is one; without it ``__cause__`` is a
        :class:`RecordedError`. The text is the same either way, so a replayed failure reads
        as the first did.
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


class RunFailedError(PolosError):
    """A run failed with an exception that can't be rebuilt in this process.

    ``run_id`` and ``workflow`` name the run; ``error_type``, ``error_message`` and
    ``traceback`` (text, possibly shortened) are what was recorded.
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
        """The error of a run that failed with ``record``; any part of it may be missing."""
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
    """The run whose result was awaited was cancelled; ``run_id`` names it."""

    def __init__(self, message: str = "", *, run_id: str = "") -> None:
        super().__init__(message)
        self.run_id = run_id


class RunTimeoutError(PolosError, TimeoutError):
    """A run, or waiting for one, took longer than its timeout; ``run_id`` names it."""

    def __init__(self, message: str = "", *, run_id: str = "") -> None:
        super().__init__(message)
        self.run_id = run_id


class CodeChangedError(PolosError):
    """A resumed run no longer takes the steps that it had recorded.

    See ``on_code_change`` of :func:`polos.workflow`. ``reason`` says what differs; ``patches`` are
    the names of ``ctx.patched`` that the run has recorded and the code no longer asks for.
    """

    reason: str = ""
    patches: tuple[str, ...] = ()


class InterruptedTooOftenError(PolosError):
    """A run's worker disappeared each time it executed the run: killed, out of memory, crashed.

    See ``max_interruptions`` of :func:`polos.workflow`. ``run_id`` names the run,
    ``interruptions`` is how often in a row that happened without a newly recorded step.
    """

    def __init__(self, message: str = "", *, run_id: str = "", interruptions: int = 0) -> None:
        super().__init__(message)
        self.run_id = run_id
        self.interruptions = interruptions


class HandlerParked(BaseException):
    """Unwinds a handler that sleeps for long or waits for a child run: its run waits in the
    database, and the handler is entered again when it is time. Not an ``Exception`` and not a
    cancellation, so that no handler takes it for one; ``finally`` blocks do run.
    """


# --- stores and workers ----------------------------------------------------------------------


class StoreError(PolosError):
    """The database refused or failed an operation."""


class StoreUnavailableError(StoreError):
    """The database can't be reached or opened at the moment; trying again may succeed."""


class StoreCorruptError(StoreError):
    """The database is damaged, or isn't one of ours; it was left as it is."""


class StoreVersionError(StoreError):
    """The database was written by a newer version of Polos than this one."""


class LeaseLostError(PolosError):
    """Another worker owns the run by now; what this one reported was not recorded."""


class WorkerError(PolosError):
    """A worker can't start, or was used in a way that it doesn't allow."""


class MissingExtraError(PolosError, ImportError):
    """A part of polos needs packages that are not installed; the text says which to install."""


class ShutdownError(PolosError):
    """The client or worker is closed, or closing, and takes no more work."""


class ScheduleFrequencyWarning(UserWarning):
    """A schedule fires so often that a queue, an event or ``every=`` would serve better."""


def _described(record: Mapping[str, Any] | None) -> tuple[str, str, str]:
    # Records come from a database: a missing or odd part must not hide the rest.
    parts = []
    for name in ("type", "message", "traceback"):
        value = record.get(name) if isinstance(record, Mapping) else None
        parts.append(value if isinstance(value, str) else "")
    return parts[0].removeprefix("builtins:").replace(":", ".") or "an error", parts[1], parts[2]


def _joined(name: str, message: str) -> str:
    return f"{name}: {message}" if message else name
