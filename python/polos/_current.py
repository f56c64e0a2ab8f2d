"""Which run is executed here. Apart from the executor, since the client asks too."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from polos._worker import ActiveRun

__all__ = ["current_run", "running"]

running: ContextVar[ActiveRun | None] = ContextVar("polos_run", default=None)
"""Set in the task or thread of a handler, and in what that starts."""


def current_run() -> ActiveRun | None:
    """The run whose handler, or what it has started, is being executed here."""
    return running.get()
