"""polos: a durable scheduler that you import.

Decorate an async function with a cron expression, and polos runs it on time: once per slot, through
crashes, deploys, sleeping laptops, and clock changes.
"""

from typing import TYPE_CHECKING, Any

from polos import _setup as _setup  # first: it tells the core where time-zone data is
from polos import runs, schedules
from polos._codec.known_classes import register_types
from polos._polos import __version__
from polos._runtime.backoff import Backoff
from polos._validate.limits import Limit
from polos.client import PolosClient
from polos.exceptions import (
    BackfillNotFoundError,
    CalendarNotFoundError,
    CodeChangedError,
    DuplicateStepError,
    DuplicateWorkflowError,
    HandlerParked,
    InterruptedTooOftenError,
    InvalidArgumentError,
    InvalidCronError,
    InvalidScheduleError,
    InvalidStateError,
    InvalidTimezoneError,
    LeaseLostError,
    LimitNotFoundError,
    MissingExtraError,
    PayloadTooLargeError,
    PermanentError,
    PolosError,
    RecordedError,
    RunCancelledError,
    RunFailedError,
    RunNotFoundError,
    RunTimeoutError,
    ScheduleFrequencyWarning,
    ScheduleNotFoundError,
    SerializationError,
    ShutdownError,
    StepCrashedError,
    StepError,
    StepSerializationError,
    StoreCorruptError,
    StoreError,
    StoreUnavailableError,
    StoreVersionError,
    WorkerError,
    WorkflowNotFoundError,
    WorkflowNotSchedulableError,
)
from polos.runs import RunHandle
from polos.workflow import Workflow, workflow

__all__ = [
    "BackfillInfo",
    "BackfillNotFoundError",
    "Backoff",
    "Calendar",
    "CalendarNotFoundError",
    "CodeChangedError",
    "Debounce",
    "DuplicateStepError",
    "DuplicateWorkflowError",
    "ErrorInfo",
    "HandlerParked",
    "InterruptedTooOftenError",
    "InvalidArgumentError",
    "InvalidCronError",
    "InvalidScheduleError",
    "InvalidStateError",
    "InvalidTimezoneError",
    "Invocation",
    "LateRun",
    "LeaseLostError",
    "LedgerEntry",
    "Limit",
    "LimitInfo",
    "LimitNotFoundError",
    "MissedSlots",
    "MissingExtraError",
    "Overview",
    "PayloadTooLargeError",
    "PermanentError",
    "PolosClient",
    "PolosError",
    "Progress",
    "RecordedError",
    "Run",
    "RunCancelledError",
    "RunFailedError",
    "RunFailure",
    "RunHandle",
    "RunNotFoundError",
    "RunSuccess",
    "RunTimeoutError",
    "Schedule",
    "ScheduleFrequencyWarning",
    "ScheduleNotFoundError",
    "SchedulePayload",
    "SerializationError",
    "ShutdownError",
    "SkippedSlots",
    "SlotCounts",
    "StepCrashedError",
    "StepError",
    "StepInfo",
    "StepSerializationError",
    "StoreCorruptError",
    "StoreError",
    "StoreUnavailableError",
    "StoreVersionError",
    "StoredValue",
    "SyncWorkflowContext",
    "Worker",
    "WorkerError",
    "WorkerHealth",
    "WorkerInfo",
    "Workflow",
    "WorkflowContext",
    "WorkflowNotFoundError",
    "WorkflowNotSchedulableError",
    "__version__",
    "backfills",
    "calendars",
    "lifespan",
    "limits",
    "overview",
    "ping",
    "register_types",
    "run",
    "runs",
    "schedules",
    "ui",
    "workers",
    "workflow",
]

if TYPE_CHECKING:
    from polos import backfills, calendars, limits, workers
    from polos._codec.unknown_classes import StoredValue
    from polos._overview import overview
    from polos._ui import ui
    from polos.context import SyncWorkflowContext, WorkflowContext
    from polos.hooks import LateRun, MissedSlots, RunFailure, RunSuccess, SkippedSlots
    from polos.models import (
        BackfillInfo,
        Calendar,
        ErrorInfo,
        LedgerEntry,
        LimitInfo,
        Overview,
        Progress,
        Run,
        Schedule,
        SlotCounts,
        StepInfo,
        WorkerHealth,
        WorkerInfo,
    )
    from polos.payload import SchedulePayload
    from polos.pings import ping
    from polos.starts import Debounce, Invocation
    from polos.worker import Worker, lifespan, run
else:
    # More than half of the import's time would be that of modules which many programs never need:
    # those of a worker, and above all pydantic, which loads most of itself for the first model.
    _LATER = {
        "Debounce": "starts",
        "Invocation": "starts",
        "StoredValue": "_codec.unknown_classes",
        "SyncWorkflowContext": "context",
        "Worker": "worker",
        "WorkflowContext": "context",
        "lifespan": "worker",
        "overview": "_overview",
        "run": "worker",
        "ui": "_ui",
        "LateRun": "hooks",
        "MissedSlots": "hooks",
        "SkippedSlots": "hooks",
        "RunFailure": "hooks",
        "RunSuccess": "hooks",
        "SchedulePayload": "payload",
        "ping": "pings",
        **dict.fromkeys(
            (
                "BackfillInfo",
                "Calendar",
                "ErrorInfo",
                "LedgerEntry",
                "LimitInfo",
                "Overview",
                "Progress",
                "Run",
                "Schedule",
                "SlotCounts",
                "StepInfo",
                "WorkerHealth",
                "WorkerInfo",
            ),
            "models",
        ),
    }

    _LATER_MODULES = {"backfills", "calendars", "limits", "workers", *_LATER.values()}

    def __getattr__(name: str) -> Any:
        from importlib import import_module

        if name in _LATER:
            return getattr(import_module(f"polos.{_LATER[name]}"), name)
        if name in _LATER_MODULES:
            return import_module(f"polos.{name}")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
