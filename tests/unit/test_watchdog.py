"""The thread that watches the event loop, where there is none to be had."""

from __future__ import annotations

import asyncio
import logging
import threading

import pytest

from polos._watchdog import Watchdog


async def test_who_found_no_thread_tries_again_with_the_next_work(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    watchdog = Watchdog(asyncio.get_running_loop(), lambda task: "something", patience=0.01)

    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        watchdog.busy(True)
        watchdog.busy(False)
    watchdog.busy(True)
    try:
        with caplog.at_level(logging.WARNING, "polos.worker"):
            heard = threading.Event()
            caplog.handler.addFilter(lambda record: heard.set() or True)
            # On the loop's own thread: this is what it has to notice.
            assert heard.wait(30)
        assert "something has blocked the event loop" in caplog.text
    finally:
        watchdog.close()
