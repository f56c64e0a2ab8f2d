"""What hooks of an application are told: ``on_failure`` and ``on_missed`` of a workflow."""

from __future__ import annotations

from dataclasses import dataclass, field

from polos._real_datetime import datetime

__all__ = ["MissedSlots", "RunFailure"]


@dataclass(frozen=True, slots=True)
class RunFailure:
    """A run that has failed for good: no retry is left. Given to ``on_failure``."""

    workflow_id: str
    run_id: str
    schedule_id: str | None
    key: str
    timestamp: datetime | None
    """The slot that it ran for; ``None`` for a run that was started by hand."""

    attempt: int
    error: BaseException = field(compare=False)
    """What the handler raised; :class:`RunTimeoutError` when it took too long."""


@dataclass(frozen=True, slots=True)
class MissedSlots:
    """Slots of one schedule that nobody could run. Given to ``on_missed``."""

    workflow_id: str
    schedule_id: str
    key: str
    timestamp: datetime
    """The first of them, in UTC."""

    until: datetime
    """The last of them."""

    count: int
    reason: str
