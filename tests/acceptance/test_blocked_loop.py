"""A handler that blocks the event loop causes a warning."""

from __future__ import annotations

import asyncio
import logging
import threading
from pathlib import Path

from polos import PolosClient, Worker, workflow


def test_a_warning_names_the_handler_that_blocks_the_loop(database: Path) -> None:
    warned = threading.Event()

    class WarningHandler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.levelno >= logging.WARNING and "blocker" in record.getMessage():
                warned.set()

    @workflow(id="blocker")
    async def blocker() -> None:
        warned.wait(30)  # until the warning is logged

    async def work() -> None:
        async with Worker(PolosClient(database), app="tests") as worker:
            await blocker.run(worker.client)

    handler = WarningHandler()
    logging.getLogger("polos").addHandler(handler)
    try:
        asyncio.run(work())
    finally:
        logging.getLogger("polos").removeHandler(handler)
    assert warned.is_set()
