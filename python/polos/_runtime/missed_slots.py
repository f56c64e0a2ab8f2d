"""Log missed slots. The hooks are called from the record, as all others."""

from __future__ import annotations

from polos._core.safe_logging import quiet_logger

__all__ = ["log_missed"]

_log = quiet_logger("polos.worker")


def log_missed(missed: list[tuple[str, int, str]]) -> None:
    """Log missed slots, each of one schedule: ``(workflow, count, reason)``; once per workflow and
    reason.
    """
    totals: dict[tuple[str, str], tuple[int, int]] = {}
    for workflow_id, count, reason in missed:
        schedules, slots = totals.get((workflow_id, reason), (0, 0))
        totals[workflow_id, reason] = schedules + 1, slots + count
    for (workflow_id, reason), (schedules, slots) in totals.items():
        text = "%s of workflow `%s` missed (%s): %s"
        _log.warning(
            text, _counted(slots, "slot"), workflow_id, _counted(schedules, "schedule"), reason
        )


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
