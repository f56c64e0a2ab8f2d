"""Workers in child processes, controlled by one line for each step."""

from __future__ import annotations

import subprocess
import sys


def started(*arguments: str) -> subprocess.Popen[str]:
    """Start this program again as a worker, and wait until it is ready."""
    process = subprocess.Popen(
        [sys.executable, sys.argv[0], *arguments, "--child", "1"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def tell(process: subprocess.Popen[str]) -> None:
    """Let the worker begin its next step."""
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()
