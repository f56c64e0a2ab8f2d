"""Make recorded hook calls: ``on_skipped`` and ``on_late``.

The core hands each of them to one live worker, and to another one if that worker dies before it
reports that it has made the call.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from polos._core.instants import from_micros
from polos._core.safe_logging import quiet_logger

if TYPE_CHECKING:
    from polos._runtime.hook_calls import HookCalls, HookName
    from polos.hooks import LateRun, SkippedSlots
    from polos.workflow import Workflow

__all__ = ["make_calls"]

_log = quiet_logger("polos.worker")

_NAMES: dict[str, HookName] = {"skipped": "on_skipped", "late": "on_late"}


def make_calls(
    calls: list[dict[str, Any]],
    workflows: Mapping[str, Workflow[Any, Any]],
    hooks: HookCalls,
    made: Callable[[str], None],
) -> None:
    """Call the hooks of each call, and ``made(id)`` when all of them have returned or failed."""
    for call in calls:
        event = partial(_late if call["event"] == "late" else _skipped, call)
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
        tasks = [] if workflow is None else hooks.fire(_NAMES[call["event"]], workflow, event)
        _Progress(call["id"], tasks, made)


class _Progress:
    """Reports a call as made when all of its tasks have ended.

    A task that was cancelled has not told anybody: the worker is closing, and another one makes the
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


def _skipped(call: dict[str, Any]) -> SkippedSlots:
    from polos.hooks import SkippedSlots

    return SkippedSlots(
        workflow_id=call["workflow"],
        schedule_id=call["schedule_id"],
        key=call["key"],
        timestamp=from_micros(call["first"]),
        until=from_micros(call["last"]),
        count=call["count"],
        reason=call["reason"],
    )


def _late(call: dict[str, Any]) -> LateRun:
    from polos.hooks import LateRun

    return LateRun(
        workflow_id=call["workflow"],
        run_id=call["run_id"],
        schedule_id=call["schedule_id"],
        key=call["key"],
        timestamp=from_micros(call["first"]),
        deadline=from_micros(call["due_at"]),
    )
