"""Run handles for code without an event loop."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from polos import PolosClient, RunTimeoutError, Worker, runs, schedules, workflow


@pytest.mark.usefixtures("own_database")
def test_a_run_is_awaited_from_a_plain_thread(tmp_path: Path) -> None:
    release = threading.Event()

    @workflow(id="double")
    def double(ctx: object, payload: int) -> int:
        if payload < 0:
            raise ValueError("negative")
        release.wait(30)
        return payload * 2

    def use(client: PolosClient) -> None:
        handle = runs.sync.invoke(client, double, 21)
        with pytest.raises(RunTimeoutError):
            handle.sync.result(timeout=0.01)
        release.set()
        assert handle.sync.result(timeout=30) == 42
        assert handle.sync.status() == "succeeded"
        with pytest.raises(ValueError, match="negative"):
            runs.sync.invoke(client, double, -1).sync.result(30)

    async def work() -> None:
        with PolosClient() as client:
            async with Worker(client):
                await asyncio.to_thread(use, client)

    asyncio.run(work())


@pytest.mark.usefixtures("own_database")
def test_a_run_is_cancelled_from_a_plain_thread(tmp_path: Path) -> None:
    @workflow(id="job", schedule=True)
    def job() -> None: ...

    with PolosClient() as client:
        id = schedules.sync.create(client, job, "0 9 * * *")
        handle = schedules.sync.trigger(client, id)
        assert handle.sync.cancel() == "cancelled"
        assert handle.sync.status() == "cancelled"
        assert handle.id in repr(handle.sync)
