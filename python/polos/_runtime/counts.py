"""What the workers of this process have committed, together: also those that have ended."""

from __future__ import annotations

import threading
import weakref
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from polos._polos import WorkerCore
    from polos.worker import Worker

__all__ = ["Counted", "forget", "totals", "track"]

Counted = tuple[str, str, str]
"""What was counted: ``"slots"`` or ``"runs"``, the workflow, and the outcome or status."""

_lock = threading.Lock()
_live: weakref.WeakKeyDictionary[Worker, WorkerCore] = weakref.WeakKeyDictionary()
_ended: Counter[Counted] = Counter()


def track(worker: Worker, core: WorkerCore) -> None:
    """Count what the worker commits from now on."""
    with _lock:
        _live[worker] = core


def forget(worker: Worker) -> None:
    """Keep the counts of a worker that has ended."""
    with _lock:
        core = _live.pop(worker, None)
        if core is not None:
            _ended.update(_counts(core))


def totals() -> Counter[Counted]:
    """Return the counts of all workers of this process. They only grow."""
    with _lock:
        found = Counter(_ended)
        for core in _live.values():
            found.update(_counts(core))
        return found


def _counts(core: WorkerCore) -> dict[Counted, int]:
    return {(kind, workflow, label): count for kind, workflow, label, count in core.counts()}
