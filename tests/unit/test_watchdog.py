"""The thread that watches the event loop when no thread can be started."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest

from polos._runtime.watchdog import Watchdog


def noticed(caplog: pytest.LogCaptureFixture) -> threading.Event:
    """Set when a watchdog reports a blocked loop."""
    heard = threading.Event()

    def listen(record: logging.LogRecord) -> bool:
        if "something has blocked the event loop" in record.getMessage():
            heard.set()
        return True

    caplog.handler.addFilter(listen)
    return heard


async def test_a_watchdog_that_found_no_thread_tries_again_with_the_next_work(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    watchdog = Watchdog(asyncio.get_running_loop(), lambda task: "something", timeout=0.01)

    def refuse(function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr("_thread.start_new_thread", refuse)
        watchdog.busy(True)
        watchdog.busy(False)
    watchdog.busy(True)
    try:
        with caplog.at_level(logging.WARNING, "polos.worker"):
            # On the loop's thread: the watchdog has to notice this.
            assert noticed(caplog).wait(15)
    finally:
        watchdog.close()


@pytest.mark.timeout(20)
async def test_the_loop_does_not_wait_for_a_thread_that_never_begins(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As on Python 3.13 and newer, if the new thread has no memory."""
    watchdog = Watchdog(asyncio.get_running_loop(), lambda task: "something", timeout=0.01)
    lost: list[object] = []

    def lose(function: Callable[..., Any], *arguments: Any, **options: Any) -> int:
        lost.append(function)
        return 1

    with monkeypatch.context() as patched:
        for name in ("_thread.start_new_thread", "threading._start_new_thread"):
            patched.setattr(name, lose, raising=False)
        patched.setattr("threading._start_joinable_thread", lose, raising=False)
        watchdog.busy(True)
        watchdog.busy(False)
    assert len(lost) == 1
    watchdog.busy(True)
    try:
        with caplog.at_level(logging.WARNING, "polos.worker"):
            # On the loop's thread: the watchdog has to notice this.
            assert noticed(caplog).wait(15)
    finally:
        watchdog.close()
