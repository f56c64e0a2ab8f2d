"""An ``asyncio.run`` that always ends, for programs that are only a worker.

At its end, ``asyncio.run`` cancels the remaining tasks and waits for them, and for the threads of
``asyncio.to_thread``, forever if necessary. One handler that swallows its cancellation, or one
thread that hangs, would keep the process alive, although its run was released long ago.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine
from typing import Any

from polos._core.safe_logging import quiet_logger
from polos._runtime.daemon_executor import DaemonExecutor

__all__ = ["run_to_end"]

_log = quiet_logger("polos.worker")

# Time limits in seconds at the end: for cancelled tasks, then for async generators and threads.
_TIMEOUT = 1.0
_CLEANUP_TIMEOUT = 1.0


def run_to_end(main: Coroutine[Any, Any, None]) -> None:
    """Run ``main`` on a new event loop. Tasks that ignore their cancellation afterward are
    abandoned.
    """
    loop = asyncio.new_event_loop()
    try:
        asyncio.set_event_loop(loop)
        # As many threads as asyncio's default executor has.
        threads = DaemonExecutor(min(32, (os.cpu_count() or 1) + 4), _CLEANUP_TIMEOUT)
        loop.set_default_executor(threads)
        # In its own task, so that Ctrl-C can cancel `main` before it has installed its handlers.
        task = loop.create_task(main)
        try:
            loop.run_until_complete(task)
        except KeyboardInterrupt:
            task.cancel()
            raise
        finally:
            loop.run_until_complete(_cancel_the_rest())
            loop.run_until_complete(_close_generators(loop))
            loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        asyncio.set_event_loop(None)
        loop.close()


async def _close_generators(loop: asyncio.AbstractEventLoop) -> None:
    closing = asyncio.ensure_future(loop.shutdown_asyncgens())
    await asyncio.wait({closing}, timeout=_CLEANUP_TIMEOUT)
    if not closing.done():
        _log.warning("an async generator does not finish and is abandoned")
        closing.cancel()


async def _cancel_the_rest() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    if not tasks:
        return
    done, left = await asyncio.wait(tasks, timeout=_TIMEOUT)
    for task in done:
        if not task.cancelled() and (error := task.exception()) is not None:
            asyncio.get_running_loop().call_exception_handler(
                {"message": "a task raised while the loop was shut down", "exception": error}
            )
    for task in left:
        _log.warning("%s ignores its cancellation and is abandoned", task.get_name())
        # Already logged; asyncio would log it again when the task is destroyed.
        task._log_destroy_pending = False  # type: ignore[attr-defined]
