"""Log missed slots, and call the ``on_missed`` hooks."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from polos._core.instants import from_micros
from polos._core.safe_logging import quiet_logger

if TYPE_CHECKING:
    from polos._runtime.hook_calls import HookCalls
    from polos.hooks import MissedSlots
    from polos.workflow import Workflow

__all__ = ["note_missed"]

_log = quiet_logger("polos.worker")

# Schedule, workflow, key, first slot, last slot, number of slots, reason.
_Missed = tuple[str, str, str, int, int, int, str]


def note_missed(
    missed: list[_Missed], workflows: Mapping[str, Workflow[Any, Any]], hooks: HookCalls
) -> None:
    """Log missed slots, once per workflow and reason, and call the `on_missed` hooks."""
    totals: dict[tuple[str, str], tuple[int, int]] = {}
    for each in missed:
        _, workflow_id, _, _, _, count, reason = each
        schedules, slots = totals.get((workflow_id, reason), (0, 0))
        totals[workflow_id, reason] = schedules + 1, slots + count
        workflow = workflows.get(workflow_id)
        if workflow is not None:
            hooks.fire("on_missed", workflow, partial(_event, each))
    for (workflow_id, reason), (schedules, slots) in totals.items():
        text = "%s of workflow `%s` missed (%s): %s"
        _log.warning(
            text, _counted(slots, "slot"), workflow_id, _counted(schedules, "schedule"), reason
        )


def _event(missed: _Missed) -> MissedSlots:
    from polos.hooks import MissedSlots

    schedule, workflow_id, key, first, last, count, reason = missed
    return MissedSlots(
        workflow_id, schedule, key, from_micros(first), from_micros(last), count, reason
    )


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
