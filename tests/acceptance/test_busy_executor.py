"""polos doesn't wait for the application's default executor."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import polos
from polos import PolosClient, Worker, workflow
from polos._core import requests


@pytest.fixture
def busy() -> Iterator[ThreadPoolExecutor]:
    """An executor whose only thread is busy until the test has ended."""
    release = threading.Event()
    executor = ThreadPoolExecutor(1)
    executor.submit(release.wait)
    yield executor
    release.set()
    executor.shutdown()


async def test_a_client_and_a_worker_open_work_and_close_beside_it(
    database: Any, busy: ThreadPoolExecutor, visit: Any
) -> None:
    loop = asyncio.get_running_loop()
    loop.set_default_executor(busy)

    @workflow
    async def job() -> int:
        return 5

    async def use() -> int:
        async with PolosClient(database) as client, Worker(client):
            page = await (await visit(polos.ui(client))).get("/")
            assert page.status_code == 200
            return await job.run(client)

    try:
        # Only a defect takes so long: the thread is busy until the test has ended.
        assert await asyncio.wait_for(use(), 60) == 5
    finally:
        loop.set_default_executor(ThreadPoolExecutor(1))


async def test_what_fails_there_is_raised_here(tmp_path: Any) -> None:
    client = PolosClient(tmp_path)  # a folder isn't a database
    with pytest.raises(polos.StoreError):
        await client._ask(requests.overview(100))
