"""The Makefile's targets: what runs when something before it has failed."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_a_failing_pass_hides_no_other_pass(tmp_path: Path) -> None:
    """Every pytest fails here, and each has been started."""
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "$@" >>"$CALLS"\nexit 1\n')
    python.chmod(0o755)
    calls = tmp_path / "calls"
    done = subprocess.run(
        ["make", "-C", str(ROOT), "-o", "install", "test-python", f"BIN={tmp_path}", "PYTEST=-x"],
        env={**os.environ, "CALLS": str(calls), "MAKEFLAGS": ""},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode != 0, done.stdout
    assert calls.read_text().splitlines() == [
        "-m pytest -x",
        "-m pytest --store postgres -x",
    ]
