"""Measures small synced writes, whose time depends on other users of the disk."""

from __future__ import annotations

import os
import statistics
import time
from pathlib import Path

WRITES = 60
PAGE = b"\0" * 4096


def sync_ms(folder: Path) -> float:
    """Return the median time of a 4 KiB write and its ``fdatasync``, in milliseconds."""
    path = folder / "probe"
    spent = []
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    try:
        for _ in range(WRITES):
            begun = time.perf_counter()
            os.write(descriptor, PAGE)
            os.fdatasync(descriptor)
            spent.append(time.perf_counter() - begun)
    finally:
        os.close(descriptor)
        path.unlink()
    return statistics.median(spent) * 1e3


def differ(before: float, after: float) -> bool:
    """Return whether two probes differ so much that the round between them must be discarded."""
    return max(before, after) > 2 * min(before, after)
