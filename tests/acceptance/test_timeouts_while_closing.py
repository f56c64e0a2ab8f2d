"""Runs that exceed their timeout while their worker closes fail, and are not continued."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from polos import PolosClient, Run, Worker, Workflow, runs, workflow


def check_timed_out(run: Run) -> None:
    assert (run.status, run.attempt) == ("failed", 1)
    assert run.error is not None
    assert run.error.type.endswith(".RunTimeoutError")


def endless_workflow() -> tuple[Workflow[Any, None], asyncio.Event]:
    """Register a workflow that doesn't end; the event is set when a run has started."""
    started = asyncio.Event()

    @workflow(timeout=3_600)
    async def endless() -> None:
        started.set()
        await asyncio.Event().wait()

    return endless, started


async def test_a_run_whose_handler_ignores_its_timeout_fails(
    database: Path | str, client: PolosClient
) -> None:
    cancelled, proceed = asyncio.Event(), asyncio.Event()
    ended = asyncio.Event()

    @workflow(timeout=0.01)
    async def stubborn() -> None:
        while not proceed.is_set():
            try:
                await proceed.wait()
            except asyncio.CancelledError:
                cancelled.set()
        ended.set()

    async with PolosClient(database) as own:
        try:
            async with Worker(own, drain=0):
                handle = await stubborn.invoke(client)
                await cancelled.wait()
            check_timed_out(await runs.get(client, handle.id))
        finally:
            proceed.set()  # otherwise the test's loop could not end
        await ended.wait()
        check_timed_out(await runs.get(client, handle.id))


async def test_a_timeout_that_arrives_as_the_worker_closes_counts(
    database: Path | str, client: PolosClient
) -> None:
    endless, started = endless_workflow()
    async with PolosClient(database) as own:
        async with Worker(own, drain=0) as worker:
            handle = await endless.invoke(client)
            await started.wait()
            executor = worker._executor
            assert executor is not None
            ((run, token),) = executor.active
            # As if the loop had been busy since the core sent it.
            executor.bridge._items.append(("stop", [(run, token, "timed_out")]))
        check_timed_out(await runs.get(client, handle.id))


async def test_a_run_within_its_timeout_is_released(
    database: Path | str, client: PolosClient
) -> None:
    endless, started = endless_workflow()
    async with PolosClient(database) as own:
        async with Worker(own, drain=0):
            handle = await endless.invoke(client)
            await started.wait()
        assert (await runs.get(client, handle.id)).status == "queued"
