"""Make recorded hook calls.

The core hands each of them to one live worker, and to another one if that worker dies before it
reports that it has made the call.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from polos._core.instants import from_micros
from polos._core.safe_logging import quiet_logger
from polos._runtime.hook_runs import failure_error
from polos._runtime.run_slot import RunSlot

if TYPE_CHECKING:
    from polos._runtime.hook_calls import HookCalls, HookName
    from polos.hooks import LateRun, MissedSlots, RunFailure, RunSuccess, SkippedSlots
    from polos.workflow import Workflow

__all__ = ["follow", "make_calls"]

_log = quiet_logger("polos.worker")

_NAMES: dict[str, HookName] = {
    "skipped": "on_skipped",
    "missed": "on_missed",
    "late": "on_late",
    "succeeded": "on_success",
    "failed": "on_failure",
}


def make_calls(
    calls: list[dict[str, Any]],
    workflows: Mapping[str, Workflow[Any, Any]],
    hooks: HookCalls,
    made: Callable[[str], None],
) -> None:
    """Call the hooks of each call, and ``made(id)`` when all of them have returned or failed."""
    for call in calls:
        if call["event"] == "late":
            _log.warning(
                "run %s of workflow `%s` (key `%s`) was to start by %s and had not started: all "
                "workers were busy or down, a limit has no room, or an earlier run is unfinished",
                call["run_id"],
                call["workflow"],
                call["key"],
                from_micros(call["due_at"]),
            )
        workflow = workflows.get(call["workflow"])
        tasks: list[asyncio.Task[None]] = []
        # A run that is gone has no outcome to tell.
        if workflow is not None and (call["run"] is not None or call["event"] not in _OUTCOMES):
            event = partial(_EVENTS[call["event"]], call, workflow)
            of_hook = call["run"] is not None and call["run"]["origin"] == "hook"
            name = _NAMES[call["event"]]
            tasks = hooks.fire(name, workflow, event, call=call["id"], of_hook=of_hook)
        follow(call["id"], tasks, made)


def follow(id: str, tasks: list[asyncio.Task[None]], made: Callable[[str], None]) -> None:
    """Call ``made(id)`` when all tasks have ended. One that was cancelled never has."""
    _Progress(id, tasks, made)


class _Progress:
    """Reports a call as made when all of its tasks have ended.

    A task that the end of its loop has cancelled has not told anybody: another worker makes the
    call again.
    """

    def __init__(
        self, id: str, tasks: list[asyncio.Task[None]], made: Callable[[str], None]
    ) -> None:
        self._id = id
        self._left = len(tasks)
        self._made = made
        if not tasks:
            made(id)
        for task in tasks:
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._left -= not task.cancelled()
        if self._left == 0:
            self._made(self._id)


def _skipped(call: dict[str, Any], _: Workflow[Any, Any]) -> SkippedSlots:
    from polos.hooks import SkippedSlots

    return SkippedSlots(**_slots(call))


def _missed(call: dict[str, Any], _: Workflow[Any, Any]) -> MissedSlots:
    from polos.hooks import MissedSlots

    return MissedSlots(**_slots(call))


def _slots(call: dict[str, Any]) -> dict[str, Any]:
    return {
        "workflow_id": call["workflow"],
        "schedule_id": call["schedule_id"],
        "key": call["key"],
        "timestamp": from_micros(call["first"]),
        "until": from_micros(call["last"]),
        "count": call["count"],
        "reason": call["reason"],
    }


def _late(call: dict[str, Any], _: Workflow[Any, Any]) -> LateRun:
    from polos.hooks import LateRun

    return LateRun(
        workflow_id=call["workflow"],
        run_id=call["run_id"],
        schedule_id=call["schedule_id"],
        key=call["key"],
        timestamp=from_micros(call["first"]),
        deadline=from_micros(call["due_at"]),
    )


def _success(call: dict[str, Any], workflow: Workflow[Any, Any]) -> RunSuccess:
    from polos.hooks import RunSuccess
    from polos.models import _value

    result = _value(call["run"]["result"], workflow.result_type, "result")
    return RunSuccess(**_facts(call), result=result)


def _failure(call: dict[str, Any], _: Workflow[Any, Any]) -> RunFailure:
    from polos.hooks import RunFailure

    try:
        record = json.loads(call["reason"])
    except ValueError:
        record = None
    error = failure_error(record, call["run_id"], call["workflow"])
    return RunFailure(**_facts(call), error=error)


def _facts(call: dict[str, Any]) -> dict[str, Any]:
    """Return what a hook is told about a run that another worker has executed."""
    run = call["run"]
    return {
        "workflow_id": call["workflow"],
        "run_id": call["run_id"],
        "schedule_id": call["schedule_id"] or None,
        "key": call["key"],
        "timestamp": RunSlot(run["slot"], None, None, run["timezone"]).local(),
        "attempt": call["count"],
    }


_OUTCOMES = ("succeeded", "failed")
_EVENTS: dict[str, Callable[[dict[str, Any], Workflow[Any, Any]], Any]] = {
    "skipped": _skipped,
    "missed": _missed,
    "late": _late,
    "succeeded": _success,
    "failed": _failure,
}
