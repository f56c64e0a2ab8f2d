"""procrastinate as its documentation sets it up: an `App` with `PsycopgConnector`.

Deferred jobs that come due are found by polling, by default every 5 seconds; here every 0.1.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from procrastinate import App, PsycopgConnector

POLLING = 0.1


def app(url: str) -> App:
    """Make the application."""
    return App(connector=PsycopgConnector(conninfo=url))


@asynccontextmanager
async def worker(app: App, concurrency: int) -> AsyncIterator[None]:
    """Run a worker during the block."""
    running = asyncio.create_task(
        app.run_worker_async(
            concurrency=concurrency,
            fetch_job_polling_interval=POLLING,
            install_signal_handlers=False,
            listen_notify=True,
        )
    )
    try:
        yield
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
