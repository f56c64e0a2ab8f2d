"""The bridge between the core's threads and event loops."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
from pathlib import Path

import pytest

from polos import PolosClient, schedules


@pytest.mark.skipif(sys.platform != "linux", reason="counts descriptors in /proc")
def test_loops_that_are_over_leave_no_descriptors(tmp_path: Path) -> None:
    client = PolosClient()

    def use_a_loop() -> int:
        asyncio.run(schedules.list(client))
        gc.collect()
        return len(os.listdir("/proc/self/fd"))

    try:
        first = [use_a_loop() for _ in range(3)][-1]
        last = [use_a_loop() for _ in range(20)][-1]
        assert last <= first
    finally:
        client.close()
