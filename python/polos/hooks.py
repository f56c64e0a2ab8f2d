"""The arguments of hooks: ``on_success``, ``on_failure``, and ``on_missed``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from polos._core.real_datetime import datetime

__all__ = ["MissedSlots", "RunFailure", "RunSuccess"]


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
