"""What middleware that reports runs elsewhere has in common: which, and a start before its end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from polos._validate.workflows import workflow_ids

if TYPE_CHECKING:
    from polos._runtime.hook_calls import Hook
    from polos.context import WorkflowContext
    from polos.workflow import Workflow

__all__ = ["StartReports"]


class StartReports:
    """The starts of runs that are being reported. A report delays no handler.

    :param workflows: of which workflows to report the runs; of all if ``None``.
    """

    def __init__(self, workflows: Iterable[str | Workflow[Any, Any]] | None) -> None:
        self._workflows = None if workflows is None else workflow_ids(workflows)
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def includes(self, workflow_id: str) -> bool:
        """Whether to report the runs of this workflow."""
        return self._workflows is None or workflow_id in self._workflows

    def begin(self, ctx: WorkflowContext, report: Hook, event: Any, what: str) -> None:
        """Call ``report(event)`` as a hook; ``what`` names it in the log."""
        run_id = ctx.run_id
        task = ctx._active.executor.hooks.call(report, event, what)
        self._tasks[run_id] = task
        task.add_done_callback(lambda _: self._tasks.pop(run_id, None))

    async def wait(self, run_id: str) -> None:
        """Wait until the start of the run has been reported, so that its end comes after it."""
        if (task := self._tasks.get(run_id)) is not None:
            await asyncio.wait({task})
