"""The database accepts requests but doesn't answer: programs still end when they should."""

from __future__ import annotations

import signal
import sqlite3
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit, urlunsplit

import pytest

from polos import PolosClient, Worker, runs, schedules, workflow


class Database(NamedTuple):
    """``hang()`` stops its answers until ``resume()``. ``cut()`` closes its connections."""

    url: str
    hang: Callable[[], None]
    resume: Callable[[], None]
    cut: Callable[[], None]


@pytest.fixture
def hanging(own_database: Path | str, load_module: Any) -> Iterator[Database]:
    """On SQLite, another process holds the write lock. A server is behind a proxy that stops."""
    if isinstance(own_database, Path):
        holder = sqlite3.connect(own_database, isolation_level=None)
        yield Database(
            str(own_database),
            lambda: _drop(holder.execute("BEGIN IMMEDIATE")),
            lambda: _drop(holder.execute("ROLLBACK")),
            lambda: None,  # a file has no connections
        )
        holder.close()
        return
    parts = urlsplit(own_database)
    path = Path(__file__).resolve().parents[1] / "torture" / "proxy.py"
    proxy = load_module(path).Proxy(parts.port or 5432)
    user = parts.netloc.rpartition("@")[0]
    netloc = f"{user}{'@' if user else ''}127.0.0.1:{proxy.port}"
    yield Database(
        urlunsplit(parts._replace(netloc=netloc)), proxy.swallow, proxy.flow, proxy.cut_all
    )
    proxy.close()


def _drop(_: Any) -> None: ...


HANDLERS = """
    import asyncio
    import logging
    import signal
    import sys
    import threading
    import time

    import polos
    from polos import PolosClient, SyncWorkflowContext, Worker, WorkflowContext, workflow

    logging.basicConfig(format="%(levelname)s %(message)s")
    database, kind = sys.argv[1:3]
    go = threading.Event()
    signal.signal(signal.SIGUSR1, lambda *_: go.set())

    @workflow
    async def waits(ctx: WorkflowContext) -> None:
        print("under way")
        await asyncio.Event().wait()

    @workflow
    async def swallows(ctx: WorkflowContext) -> None:
        print("under way")
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                pass

    @workflow
    async def blocks(ctx: WorkflowContext) -> None:
        print("under way")
        while True:
            time.sleep(600)

    @workflow
    async def in_thread(ctx: WorkflowContext) -> None:
        print("under way")
        await asyncio.to_thread(threading.Event().wait)

    @workflow
    def waits_here(ctx: SyncWorkflowContext) -> None:
        print("under way")
        threading.Event().wait()

    @workflow
    async def child(ctx: WorkflowContext) -> None:
        await asyncio.Event().wait()

    @workflow
    async def records(ctx: WorkflowContext) -> None:
        print("under way")
        await asyncio.to_thread(go.wait)
        await ctx.step.run("step", lambda: print("recording"))

    @workflow
    async def invokes(ctx: WorkflowContext) -> None:
        print("under way")
        await asyncio.to_thread(go.wait)
        print("recording")
        await ctx.step.invoke(child)

    @workflow
    def invokes_here(ctx: SyncWorkflowContext) -> None:
        print("under way")
        go.wait()
        print("recording")
        ctx.step.invoke(child)

    async def begin(client: PolosClient) -> None:
        if kind == "idle":
            print("under way")
        else:
            await polos.runs.invoke(client, kind)

    class Beginning(Worker):
        async def start(self) -> None:
            await super().start()
            await begin(self.client)
"""

PROGRAM = (
    HANDLERS
    + """
    worker = Beginning(PolosClient(database), drain=float(sys.argv[3]), lease=1, concurrency=10)
    worker._ends_process = True
    from polos._runtime.asyncio_run import run_to_end
    with worker.client:
        run_to_end(worker.run())
    print("ended well")
"""
)

CONTEXT = (
    HANDLERS
    + """
    async def main() -> None:
        client = PolosClient(database)
        if sys.argv[3] == "lifespan":
            context = polos.lifespan(client, drain=0.2, lease=1)(None)
        else:
            context = Worker(client, drain=0.2, lease=1)
        async with context:
            await begin(client)
            await asyncio.to_thread(sys.stdin.readline)
        print("closed")
        if sys.argv[3] == "aclose":
            await client.aclose()
            print("client closed")

    asyncio.run(main())
    print("ended well")
"""
)

UNSIGNED = "the worker could not deregister"
STUCK = "the worker hangs while it stops"

KINDS = ["idle", "waits", "swallows", "in_thread", "waits_here"]
ASKING = ["records", "invokes", "invokes_here"]


def in_progress(hanging: Database, start: Any, source: str, kind: str, *more: str) -> Any:
    """Start a program; its database hangs while a handler is in progress."""
    program = start(source, hanging.url, kind, *more)
    program.wait_for_line("under way")
    hanging.hang()
    if kind in ASKING:
        program.signal(signal.SIGUSR1)
        program.wait_for_line("recording")
    return program


@pytest.mark.parametrize("kind", KINDS + ASKING)
def test_a_worker_ends_after_a_signal(hanging: Database, start: Any, kind: str) -> None:
    program = in_progress(hanging, start, PROGRAM, kind, "0.2")
    program.signal(signal.SIGTERM)
    assert program.ends() == 0, program.errors
    assert "ended well" in program.lines
    assert program.errors.count(UNSIGNED) == 1, program.errors
    assert "when its lease" in program.errors


@pytest.mark.parametrize("kind", [*KINDS, *ASKING, "blocks"])
def test_a_second_signal_ends_it_at_once(hanging: Database, start: Any, kind: str) -> None:
    program = in_progress(hanging, start, PROGRAM, kind, "600")
    program.signal(signal.SIGTERM)
    program.signal(signal.SIGINT)
    assert program.ends() in (0, 128 + signal.SIGINT, 128 + signal.SIGTERM), program.errors
    assert UNSIGNED in program.errors or STUCK in program.errors


def test_a_blocked_loop_ends_with_the_process(hanging: Database, start: Any) -> None:
    program = in_progress(hanging, start, PROGRAM, "blocks", "0.2")
    program.signal(signal.SIGTERM)
    assert program.ends() == 128 + signal.SIGTERM, program.errors
    assert program.errors.count(STUCK) == 1, program.errors


@pytest.mark.parametrize("kind", ["idle", "waits", "waits_here", *ASKING])
@pytest.mark.parametrize("how", ["worker", "lifespan", "aclose"])
def test_a_worker_in_another_program_is_left(
    hanging: Database, start: Any, kind: str, how: str
) -> None:
    program = in_progress(hanging, start, CONTEXT, kind, how)
    program.send_line("end")
    assert program.ends() == 0, program.errors
    assert {"closed", "ended well"} <= {*program.lines}
    assert program.errors.count(UNSIGNED) == 1, program.errors


STARTING = (
    HANDLERS
    + """
    async def listening() -> None:
        while worker._signals is None:
            await asyncio.sleep(0)
        print("listening")

    async def main() -> None:
        ready = asyncio.ensure_future(listening())
        await worker.run()
        await ready

    worker = Worker(PolosClient(database), drain=float(sys.argv[3]))
    worker._ends_process = True
    from polos._runtime.asyncio_run import run_to_end
    run_to_end(main())
"""
)


@pytest.mark.parametrize("count", [1, 2])
def test_a_worker_that_is_still_starting_ends(hanging: Database, start: Any, count: int) -> None:
    with PolosClient(hanging.url) as client:
        runs.sync.list(client)
    hanging.hang()
    program = start(STARTING, hanging.url, "idle", "0.2" if count == 1 else "600")
    program.wait_for_line("listening")
    for name in (signal.SIGTERM, signal.SIGINT)[:count]:
        program.signal(name)
    program.ends()
    assert program.errors.count("Traceback") == 0, program.errors


async def test_runs_that_were_not_released_are_freed_when_the_lease_expires(
    hanging: Database, start: Any
) -> None:
    program = in_progress(hanging, start, PROGRAM, "waits", "0.2")
    program.signal(signal.SIGTERM)
    assert program.ends() == 0
    hanging.resume()

    @workflow(id="waits")
    async def ends() -> str:
        return "elsewhere"

    with PolosClient(hanging.url) as client:
        (run,) = await runs.list(client)
        assert run.status == "running"
        async with Worker(client, app="tests", lease=1):
            handle: Any = runs.RunHandle(client, run.id)
            assert await handle.result(30) == "elsewhere"


@pytest.mark.parametrize("kind", KINDS)
def test_a_second_signal_releases_the_runs_if_the_database_answers(
    own_database: Path | str, start: Any, kind: str
) -> None:
    program = start(PROGRAM, str(own_database), kind, "600")
    program.wait_for_line("under way")
    program.signal(signal.SIGTERM)
    program.signal(signal.SIGINT)
    program.ends()
    assert UNSIGNED not in program.errors
    with PolosClient(own_database) as client:
        assert {run.status for run in runs.sync.list(client)} <= {"queued"}


async def test_a_step_is_recorded_when_the_database_is_back(hanging: Database, start: Any) -> None:
    program = start(PROGRAM, hanging.url, "records", "30")
    program.wait_for_line("under way")
    hanging.hang()
    program.signal(signal.SIGUSR1)
    program.wait_for_line("recording")
    hanging.cut()
    hanging.resume()
    with PolosClient(hanging.url) as client:
        (run,) = await runs.list(client)
        handle: Any = runs.RunHandle(client, run.id)
        await handle.result(30)
        (step,) = (await runs.get(client, run.id)).steps
        assert (step.name, step.status) == ("step", "succeeded")


LATE = (
    HANDLERS
    + """
    @workflow(schedule=True)
    async def late() -> None:
        print("entered")

    @workflow
    async def stands_still() -> None:
        print("under way")
        sys.stdin.readline()  # this blocks the event loop
        print("continues")

    async def main() -> None:
        async with Worker(PolosClient(database), drain=0.1) as worker:
            await polos.runs.invoke(worker.client, stands_still)
            await asyncio.Event().wait()

    asyncio.run(main())
"""
)


async def test_a_handler_is_not_started_late_when_the_database_is_back(
    hanging: Database, own_database: Path | str, start: Any, eventually: Any
) -> None:
    program = start(LATE, hanging.url, "idle")
    program.wait_for_line("under way")
    with PolosClient(own_database) as client:
        id = await schedules.create(client, "late", every=1)

        async def claimed() -> bool:
            found = await runs.list(client, schedule=id, status="running")
            now = datetime.now(timezone.utc)
            return any(run.timestamp is not None and run.timestamp < now for run in found)

        await eventually(claimed)
        await schedules.delete(client, id)
        hanging.hang()
        program.send_line("continue")
        program.wait_for_line("continues")
        hanging.cut()
        hanging.resume()

        async def refused() -> Any:
            history = await schedules.history(client, id)
            return [entry for entry in history if entry.status == "skipped"]

        (entry,) = await eventually(refused)
    program.kill()
    program.ends()
    assert "entered" not in program.lines
    assert entry.reason == "refused before its entry: the schedule was deleted"


PROBED = """
    import asyncio
    import sys
    from polos import PolosClient, Worker, workflow

    @workflow
    async def waits() -> None:
        print("under way", worker.health_address)
        await asyncio.Event().wait()

    async def main() -> None:
        global worker
        client = PolosClient(sys.argv[1])
        worker = Worker(client, health="127.0.0.1:0", lease=0.5, drain=0)
        async with worker:
            await waits.invoke(client)  # a worker without runs does not write
            await asyncio.to_thread(sys.stdin.readline)

    asyncio.run(main())
"""


async def test_probes_report_a_database_that_hangs(
    hanging: Database, start: Any, eventually: Any
) -> None:
    worker = start(PROBED, hanging.url)
    address = worker.wait_for_line("under way")

    def says(path: str, code: int, text: str) -> bool:
        found = _probe(address, path)
        return found[0] == code and text in found[1]

    hanging.hang()
    await eventually(lambda: says("/livez", 503, "the database has not answered for "))
    await eventually(lambda: says("/readyz", 503, "the database has not answered for "))
    hanging.resume()
    await eventually(lambda: says("/readyz", 200, "ok"))
    assert says("/livez", 200, "ok")
    worker.send_line("end")
    assert worker.ends() == 0


def _probe(address: str, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://{address}{path}", timeout=60) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
