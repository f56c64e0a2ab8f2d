"""The run and the step that execute in the current context. Separate from the executor because the
client uses it too.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from polos._runtime.active_run import ActiveRun

__all__ = ["current_run", "current_step", "running"]

running: ContextVar[ActiveRun | None] = ContextVar("polos_run", default=None)
"""Set in the task or thread of a handler, and in what that starts."""

current_step: ContextVar[str | None] = ContextVar("polos_step", default=None)
"""Set in a step's function, and in what that starts: the step's name."""


def current_run() -> ActiveRun | None:
    """Return the run that executes here: in its handler, or in a task or thread that the handler
    started.
    """
    return running.get()
