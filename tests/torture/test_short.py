"""A few faults at a small scale. `make torture` injects all of them with a new seed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

RUN = Path(__file__).with_name("run.py")

# The return code if a fault can't be injected here: no C compiler, not Linux.
NOT_RUN = 3

# With a fixed seed, only the machine's timing differs from run to run.
SEED = "20268"

# Each takes about 5 s, and many times that on a busy machine.
TIMEOUT = 180

# Without schedules, F7 has no part that depends on chance.
ON_FILES = [
    ("F1",),
    ("F2", "--scale", "0.004"),
    ("F6",),
    ("F7", "--ticks", "0"),
    ("F7b",),
    ("F10",),
    ("F13",),
    ("F21", "--scale", "0.002"),
    ("F22",),
    ("F25",),
    ("F27",),
    ("F29",),
    ("F33",),
    ("F33b",),
    ("F34",),
    ("F35",),
    ("F36",),
    ("F39b",),
    ("F39c",),
    ("F15",),
    ("F17b",),
    ("F18b", "--scale", "0.02"),
    ("F61",),
    ("F71",),
    ("F72",),
    ("F73",),
    ("F62",),
    ("F63",),
    ("F64", "--ticks", "0"),
    ("F65", "--ticks", "0"),
    ("F75",),
    ("F75b",),
    ("F76",),
]
ON_SERVERS = ["F75", "F5", "F6", "F50", "F7b", "F42b", "F71", "F72"]


def inject(folder: Path, *options: str) -> None:
    """Inject a fault in the folder; fail if it violates an invariant."""
    small = "--scale", "0.01", "--seed", SEED, "--keep", str(folder)
    command = [sys.executable, str(RUN), *small, *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT)
    if done.returncode == NOT_RUN:
        pytest.skip(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.files  # each has its own
@pytest.mark.timeout(TIMEOUT + 10)
@pytest.mark.parametrize("options", ON_FILES, ids="-".join)
def test_a_fault_violates_nothing(options: tuple[str, ...], tmp_path: Path) -> None:
    inject(tmp_path, "--store", "sqlite", *options)


@pytest.mark.files
@pytest.mark.timeout(TIMEOUT + 10)
@pytest.mark.parametrize("fault", ON_SERVERS)
def test_a_fault_violates_nothing_on_postgresql(fault: str, postgres: str, tmp_path: Path) -> None:
    inject(tmp_path, "--store", "postgres", "--server", postgres, fault)
