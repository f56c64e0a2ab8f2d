"""The cost of an idle program: CPU time, memory, threads, transactions."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import side

# Long enough for the effects of a start (caches, first polls) to be over.
SETTLE = 0.5


def watched(database: Path | None, seconds: float) -> dict[str, float]:
    """Return figures of this process over ``seconds`` in which the caller does nothing."""
    time.sleep(SETTLE)
    before, begun = side.processor_seconds(), time.perf_counter()
    if database is None:
        time.sleep(seconds)
        commits: float | None = None
    else:
        commits = _commits(database, seconds)
    used = side.processor_seconds() - before
    figures = {
        "memory_mb": side.memory_mb(),
        "threads": side.thread_count(),
        "idle_percent": used / (time.perf_counter() - begun) * 100,
    }
    if commits is not None:
        figures["commits_per_s"] = commits / seconds
    return figures


def _commits(database: Path, seconds: float) -> float:
    """Count the transactions that change the file, in another process.

    In this process, closing the file would release locks that the measured library may hold.
    """
    counted = subprocess.run(
        [sys.executable, "-S", __file__, str(database), str(seconds)],
        capture_output=True,
        check=True,
        text=True,
    )
    return float(json.loads(counted.stdout))


def _count(database: str, seconds: float) -> int:
    """Poll SQLite's commit counter every two milliseconds; count its changes."""
    import sqlite3

    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    counter = "PRAGMA data_version"
    seen, changes = connection.execute(counter).fetchone()[0], 0
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        time.sleep(0.002)
        now = connection.execute(counter).fetchone()[0]
        changes += now != seen
        seen = now
    return changes


if __name__ == "__main__":
    print(_count(sys.argv[1], float(sys.argv[2])))
