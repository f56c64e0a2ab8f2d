"""Workers that were silent for longer than their lease, and the claims of other workers."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import polos.testing
from polos import LeaseLostError, PolosClient, Worker, WorkflowContext, runs, workflow
from polos.testing import VirtualTime

START = "2026-01-01T00:30+00:00"
LEASE = 20


async def limit_claims_to_the_lease(t: VirtualTime) -> None:
    """Make a worker's claims end with its lease, as if there were other workers."""
    await t.crash()
    await t.restart(elsewhere=True, lease=LEASE)


class Gate:
    """A handler waits here until the test opens it."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.opened = asyncio.Event()

    async def wait(self) -> None:
        self.reached.set()
        await self.opened.wait()


async def test_a_step_waits_for_the_confirmation_of_its_claim_through_an_outage() -> None:
    executed: list[str] = []
    gate = Gate()

    @workflow(timeout=timedelta(days=1))  # which lets time pass while the handler waits
    async def order(ctx: WorkflowContext) -> str:
        await ctx.step.run("reserve", executed.append, "reserve")
        await gate.wait()
        await ctx.step.run("charge", executed.append, "charge")
        return "done"

    async with polos.testing.clock(START) as t:
        await limit_claims_to_the_lease(t)
        handle = await order.invoke(t.client)
        await t.advance(seconds=1)
        assert gate.reached.is_set()
        with t.outage():
            await t.advance(seconds=LEASE + 1)
            gate.opened.set()
            await t.advance(hours=1)
            assert t.client.refused_count, "the claim was not confirmed"
            assert executed == ["reserve"]
        await t.advance(minutes=1)
        assert await handle.result() == "done"
    assert executed == ["reserve", "charge"]


async def ticked(worker: Worker) -> None:
    """Tick the engine of a worker that the clock doesn't tick."""
    executor = worker._executor
    assert executor is not None
    assert executor.core is not None
    executor.core.tick()
    for _ in range(20):
        executor.bridge.drain()
        await asyncio.sleep(0)


async def test_a_run_that_another_worker_has_taken_over_executes_nothing_more_on_the_first() -> (
    None
):
    executed: list[str] = []
    gates = [Gate(), Gate()]
    entered = iter(gates)

    @workflow(timeout=timedelta(days=1))  # which lets time pass while the handler waits
    async def order(ctx: WorkflowContext) -> str:
        gate = next(entered)
        await gate.wait()
        name = "first" if gate is gates[0] else "second"
        await ctx.step.run("charge", executed.append, name)
        return name

    async with polos.testing.clock(START) as t:
        await limit_claims_to_the_lease(t)
        handle = await order.invoke(t.client)
        await t.advance(seconds=1)
        assert gates[0].reached.is_set()

        # From here on, the clock doesn't tick the first worker, as if its process were suspended.
        core = t.client._opened()
        second = Worker(t.client, lease=LEASE)
        second._minds_lease = True
        await second.start()
        while not gates[1].reached.is_set():
            core.advance_to(core.now() + 1_000_000)
            await ticked(second)
        gates[0].opened.set()
        for _ in range(20):
            await asyncio.sleep(0)
        assert executed == []

        gates[1].opened.set()
        while second._executor is not None and second._executor.active:
            await ticked(second)
        await second.close()
        assert executed == ["second"]
        assert await handle.status() == "succeeded"
        with t.client.looking():
            assert (await runs.get(t.client, handle.id)).result == "second"


SERVICE = """
    import asyncio
    import sys

    from polos import PolosClient, Worker, WorkflowContext, workflow

    LIFE = sys.argv[1]

    @workflow(id="order")
    async def order(ctx: WorkflowContext) -> str:
        await ctx.step.run("reserve", str)
        print("begun", flush=True)
        if LIFE == "first":
            await asyncio.Event().wait()
        return LIFE

    async def main():
        async with PolosClient() as client, Worker(client, app="shop", lease=300):
            print("ready", flush=True)
            await asyncio.Event().wait()

    asyncio.run(main())
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="/proc says whether a process lives")
async def test_runs_of_a_killed_worker_continue_at_once_when_another_starts_on_its_machine(
    client: PolosClient, start: Any
) -> None:
    """Even before the lease has expired, since the process is known to have ended."""
    first = start(SERVICE, "first")
    first.wait_for_line("ready")
    handle: Any = await runs.invoke(client, "order")
    first.wait_for_line("begun")
    first.kill()
    start(SERVICE, "second")
    assert await handle.result(30) == "second"


SERVICE_WITH_ANOTHER = SERVICE.replace(
    "    async def main():",
    """    @workflow(id="ping")
    async def ping(ctx: WorkflowContext) -> str:
        return LIFE

    async def main():""",
)


def changed(folder: Path, statement: str) -> None:
    """Change the database from another process, as another program would."""
    script = (
        f"import sqlite3; c = sqlite3.connect('polos.db'); c.execute({statement!r}); c.commit()"
    )
    subprocess.run([sys.executable, "-c", script], cwd=folder, check=True)


@pytest.mark.files  # the row is changed in the file
async def test_runs_of_a_worker_on_another_machine_are_left_to_it(
    client: PolosClient, start: Any, tmp_path: Path
) -> None:
    """The process id of a worker on another machine has no meaning here."""
    first = start(SERVICE_WITH_ANOTHER, "first")
    first.wait_for_line("ready")
    order: Any = await runs.invoke(client, "order")
    first.wait_for_line("begun")
    first.kill()
    await asyncio.to_thread(changed, tmp_path, "UPDATE worker SET host = 'another machine'")
    start(SERVICE_WITH_ANOTHER, "second").wait_for_line("ready")
    ping: Any = await runs.invoke(client, "ping")
    assert await ping.result(30) == "second"
    assert await order.status() == "running"


@pytest.mark.files  # the row is changed in the file
async def test_a_worker_that_has_lost_a_run_notices_it_and_has_a_free_permit(
    client: PolosClient, tmp_path: Path
) -> None:
    gate = Gate()
    errors: asyncio.Queue[BaseException] = asyncio.Queue()

    @workflow(id="order")
    async def order(ctx: WorkflowContext) -> None:
        await gate.wait()
        try:
            await ctx.step.run("charge", str)
        except BaseException as error:
            errors.put_nowait(error)
            raise

    @workflow(id="ping")
    async def ping() -> str:
        return "pong"

    async with Worker(client, concurrency=1):
        handle = await order.invoke(client)
        await asyncio.wait_for(gate.reached.wait(), 30)
        await asyncio.to_thread(changed, tmp_path, "UPDATE run SET token = token + 1000")
        gate.opened.set()
        assert await ping.run(client, timeout=30) == "pong"
        # Either the answer to its step or the worker's engine reports it first.
        error = await asyncio.wait_for(errors.get(), 30)
        assert isinstance(error, (LeaseLostError, asyncio.CancelledError))
        assert (await runs.get(client, handle.id)).steps == ()
