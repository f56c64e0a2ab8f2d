"""Signals that arrive while a worker's process ends."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from polos import _polos
from polos._runtime.signals import Signals

pytestmark = pytest.mark.skipif(not hasattr(_polos, "ExitGuard"), reason="no guard on Windows")


class Guard:
    """Replaces the core's guard, which would end this process."""

    armed = False

    def __init__(self, *_: Any) -> None:
        self._ends = socket.socketpair()
        for end in self._ends:
            end.setblocking(False)

    def fileno(self) -> int:
        return self._ends[0].fileno()

    def echo_fileno(self) -> int:
        return self._ends[1].fileno()

    def is_armed(self) -> bool:
        return self.armed

    def disarm(self) -> None:
        for end in self._ends:
            end.close()


@pytest.fixture
def guard(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Guard]]:
    monkeypatch.setattr(_polos, "ExitGuard", Guard)
    monkeypatch.setattr(Guard, "armed", False)
    before = signal.getsignal(signal.SIGINT)
    yield Guard
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("noticed_by", ["guard", "python"])
async def test_a_further_signal_does_not_interrupt_the_end_of_the_process(
    guard: type[Guard], monkeypatch: pytest.MonkeyPatch, noticed_by: str
) -> None:
    # Python's own handler, or asyncio's, would interrupt the program.
    interrupted: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: interrupted.append(number))
    signals = Signals(lambda: None, 60)
    try:
        # A first signal has arrived.
        if noticed_by == "guard":
            monkeypatch.setattr(guard, "armed", True)
        else:
            os.kill(os.getpid(), signal.SIGTERM)
        signals.close(keep_deadline=True)
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupted == []
        signals.close()
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupted == [signal.SIGINT]
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("guard")
async def test_without_a_signal_the_program_has_its_handlers_back() -> None:
    before = signal.getsignal(signal.SIGINT)
    signals = Signals(lambda: None, 60)
    assert signal.getsignal(signal.SIGINT) is not before
    signals.close(keep_deadline=True)
    assert signal.getsignal(signal.SIGINT) is before
