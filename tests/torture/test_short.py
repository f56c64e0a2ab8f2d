"""A little of the torture, for every day; `make torture` has all of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

RUN = Path(__file__).with_name("run.py")


@pytest.mark.parametrize(
    "options",
    # Without schedules beside it, F7 has nothing that chance decides.
    [
        ("F1",),
        ("F6",),
        ("F7", "--ticks", "0"),
        ("F10",),
        ("F13",),
        ("F25",),
        ("F27",),
        ("F29",),
        ("F33",),
        ("F33b",),
        ("F34",),
        ("F35",),
        ("F36",),
    ],
    ids=lambda options: options[0],
)
def test_a_fault_violates_nothing(options: tuple[str, ...], tmp_path: Path) -> None:
    small = "--scale", "0.01", "--keep", str(tmp_path)
    command = [sys.executable, str(RUN), *options, *small]
    done = subprocess.run(command, capture_output=True, text=True, timeout=55)
    assert done.returncode == 0, done.stdout + done.stderr
