"""The arguments of hooks: ``on_success``, ``on_failure``, ``on_missed``, and others."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from polos._core.real_datetime import datetime

__all__ = ["LateRun", "MissedSlots", "RunFailure", "RunSuccess", "SkippedSlots"]


@dataclass(frozen=True, slots=True)
class RunFailure:
    """A run that has failed and has no retries left. The argument of ``on_failure``."""

    workflow_id: str
    run_id: str
    schedule_id: str | None
    key: str
    timestamp: datetime | None
    """The slot; ``None`` for a run that no schedule started."""

    attempt: int
    error: BaseException = field(compare=False)
    """What the handler raised; :class:`RunTimeoutError` if it exceeded its timeout."""


@dataclass(frozen=True, slots=True)
class RecordedFailure:
    """The error of a :class:`RunFailure` while it is stored as the payload of a run."""

    record: str
    """JSON."""


@dataclass(frozen=True, slots=True)
class RunSuccess:
    """A run that has succeeded. The argument of ``on_success``."""

    workflow_id: str
    run_id: str
    schedule_id: str | None
    key: str
    timestamp: datetime | None
    """The slot; ``None`` for a run that no schedule started."""

    attempt: int
    result: Any = field(compare=False)
    """What the handler returned."""


@dataclass(frozen=True, slots=True)
class MissedSlots:
    """Slots of one schedule that no worker could run. The argument of ``on_missed``."""

    workflow_id: str
    schedule_id: str
    key: str
    timestamp: datetime
    """The first of these slots, in UTC."""

    until: datetime
    """The last of these slots, in UTC."""

    count: int
    reason: str


@dataclass(frozen=True, slots=True)
class SkippedSlots:
    """Slots of one schedule that were skipped. The argument of ``on_skipped``."""

    workflow_id: str
    schedule_id: str
    key: str
    timestamp: datetime
    """The first of these slots, in UTC."""

    until: datetime
    """The last of these slots, in UTC."""

    count: int
    reason: str
    """Why, as the schedule's history has it."""


@dataclass(frozen=True, slots=True)
class LateRun:
    """The run of a slot that has not started in time. The argument of ``on_late``."""

    workflow_id: str
    run_id: str
    schedule_id: str
    key: str
    timestamp: datetime
    """The slot, in UTC."""

    deadline: datetime
    """When the run had to start: its slot, plus jitter, plus ``late_after``; in UTC."""
