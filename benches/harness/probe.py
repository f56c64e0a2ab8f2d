"""How long the disk takes for a small synced write: it changes with what else uses the machine."""

from __future__ import annotations

import os
import statistics
import time
from pathlib import Path

WRITES = 60
PAGE = b"\0" * 4096


def sync_ms(folder: Path) -> float:
    """Milliseconds of one write of 4 KiB and its ``fdatasync``, the median of some."""
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
    """Whether two probes are so far apart that what was measured between them means nothing."""
    return max(before, after) > 2 * min(before, after)
