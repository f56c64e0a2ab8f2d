"""The native thread that ends a process if its worker hangs while stopping."""

from __future__ import annotations

import sys
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="is about POSIX signals")

GUARD = """
    import os
    import sys
    import threading
    from contextlib import suppress
    from pathlib import Path

    from polos import _polos

    SECOND = 1_000_000
    FOREVER = 1_000 * SECOND

    class Guard:
        def __init__(self, first, second, echo):
            self.core = _polos.ExitGuard(bytes([2, 15]), first, second, echo)

        def send(self, number):
            # As Python's own handler does. What comes back has been seen.
            os.write(self.core.fileno(), bytes([number]))
            os.set_blocking(self.core.echo_fileno(), True)
            assert os.read(self.core.echo_fileno(), 1) == bytes([number])

    def until_over():
        # Waits for the guard's thread to end.
        while "polos-exit" in list(names_of_threads()):
            pass

    def names_of_threads():
        for thread in Path("/proc/self/task").iterdir():
            with suppress(OSError):  # it has ended meanwhile
                yield (thread / "comm").read_text().strip()

    def hang():
        threading.Event().wait()
"""


def run(start: Any, source: str) -> Any:
    program = start(GUARD + source)
    program.code = program.ends()
    return program


def test_the_first_signal_ends_the_process_in_its_time(start: Any) -> None:
    program = run(
        start,
        """
    guard = Guard(1_000, FOREVER, 0)
    guard.send(15)
    hang()
    """,
    )
    assert program.code == 128 + 15
    assert "after its timeout" in program.errors


def test_the_second_signal_ends_it_sooner(start: Any) -> None:
    program = run(
        start,
        """
    guard = Guard(FOREVER, 1_000, 0)
    guard.send(15)
    assert guard.core.is_armed()
    guard.send(2)
    hang()
    """,
    )
    assert program.code == 128 + 2
    assert "after a repeated signal" in program.errors


def test_the_same_signal_twice_at_once_is_one(start: Any) -> None:
    program = run(
        start,
        """
    guard = Guard(FOREVER, 0, FOREVER)
    guard.send(15)
    guard.send(15)  # the terminal and a parent that passes signals on
    guard.send(17)  # which the guard reads only if the second was no reason to end
    guard.core.disarm()
    until_over()
    print("alive")
    """,
    )
    assert (program.code, program.lines) == (0, ["alive"])


def test_other_signals_end_nothing(start: Any) -> None:
    program = run(
        start,
        """
    guard = Guard(0, 0, 0)
    guard.send(17)
    assert not guard.core.is_armed()
    guard.core.disarm()
    until_over()
    print("alive")
    """,
    )
    assert (program.code, program.lines) == (0, ["alive"])


def test_the_earliest_deadline_counts(start: Any) -> None:
    program = run(
        start,
        """
    guard = Guard(FOREVER, FOREVER, 0)
    guard.core.arm(1_000, 7)
    guard.core.arm(FOREVER, 8)
    hang()
    """,
    )
    assert program.code == 7


@pytest.mark.skipif(sys.platform != "linux", reason="looks for the thread in /proc")
def test_a_guard_that_is_disarmed_lets_the_process_live(start: Any) -> None:
    program = run(
        start,
        """
    guard = Guard(FOREVER, FOREVER, 0)
    guard.send(15)
    guard.core.disarm()
    until_over()
    guard.core.arm(0, 7)
    print("alive")
    """,
    )
    assert (program.code, program.lines) == (0, ["alive"])
