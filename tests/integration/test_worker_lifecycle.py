"""Workers start, stop, drain, and are killed; the interpreter ends in many ways."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import sys
import textwrap
import threading
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from stopping import TIME_TO_STOP

import polos
from polos import (
    InvalidArgumentError,
    PolosClient,
    RunFailure,
    RunHandle,
    StoreError,
    Worker,
    WorkerError,
    WorkflowContext,
    runs,
    schedules,
    workflow,
)
from polos._polos import ClaimedRun
from polos._runtime.executor import Executor
from polos._runtime.signals import without_echoes

# --- start and stop --------------------------------------------------------------------------


async def test_a_worker_runs_between_start_and_close(client: PolosClient) -> None:
    job = workflow(id="job")(lambda: "done")
    worker = Worker(client, app="tests")
    assert not worker.is_running
    await worker.start()
    assert worker.is_running
    assert await job.run(client, timeout=30) == "done"
    await worker.close()
    await worker.close()
    assert not worker.is_running
    handle = await job.invoke(client)
    assert await handle.status() == "queued"


async def test_a_worker_is_started_once_at_a_time_and_again_afterwards(client: PolosClient) -> None:
    job = workflow(id="job")(lambda: "done")
    worker = Worker(client, app="tests")
    async with worker:
        with pytest.raises(WorkerError, match="already running"):
            await worker.start()
    async with worker:
        assert await job.run(client, timeout=30) == "done"


@pytest.mark.files
async def test_a_worker_whose_file_is_deleted_ends_with_an_error(
    client: PolosClient, database: Path, eventually: Any, caplog: pytest.LogCaptureFixture
) -> None:
    workflow(id="job")(lambda: "done")
    worker = Worker(client, app="tests")
    running = asyncio.ensure_future(worker.run())
    await eventually(lambda: worker.is_running)
    os.unlink(database)
    with pytest.raises(StoreError, match="deleted, moved or replaced while in use"):
        await running
    assert not worker.is_running
    assert "the worker stops" in caplog.text


async def test_stop_before_start_and_close_before_start_do_nothing(client: PolosClient) -> None:
    worker = Worker(client, app="tests")
    worker.stop()
    await worker.close()
    assert not worker.is_running


async def test_run_works_until_stop(client: PolosClient, eventually: Any) -> None:
    job = workflow(id="job")(lambda: "done")
    worker = Worker(client, app="tests")
    running = asyncio.ensure_future(worker.run())
    assert await job.run(client, timeout=30) == "done"
    worker.stop()
    await asyncio.wait_for(running, 30)
    assert not worker.is_running


async def test_run_that_is_cancelled_stops_the_worker(client: PolosClient) -> None:
    job = workflow(id="job")(lambda: "done")
    worker = Worker(client, app="tests")
    running = asyncio.ensure_future(worker.run())
    assert await job.run(client, timeout=30) == "done"
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(running, 30)
    assert not worker.is_running


async def test_a_run_that_is_claimed_while_the_worker_starts_is_executed(
    client: PolosClient, monkeypatch: pytest.MonkeyPatch, eventually: Any
) -> None:
    @workflow
    async def early(ctx: WorkflowContext) -> str:
        return await ctx.step.run("say", lambda: "done")

    handle = await early.invoke(client)
    start_core = Worker._start_core

    async def slow(self: Worker, *arguments: Any) -> Any:
        core = await start_core(self, *arguments)

        async def is_claimed() -> bool:
            return await handle.status() == "running"

        await eventually(is_claimed)
        return core

    monkeypatch.setattr(Worker, "_start_core", slow)
    async with Worker(client, app="tests"):
        assert await handle.result(30) == "done"


async def test_stopping_waits_for_what_runs_and_takes_nothing_new(client: PolosClient) -> None:
    entered, proceed = asyncio.Event(), asyncio.Event()

    @workflow
    async def slow() -> str:
        entered.set()
        await proceed.wait()
        return "finished"

    worker = Worker(client, app="tests", drain=30)
    running = asyncio.ensure_future(worker.run())
    first = await slow.invoke(client)
    await entered.wait()
    worker.stop()
    late = await slow.invoke(client)
    assert not running.done()
    proceed.set()
    await asyncio.wait_for(running, 30)
    assert await first.result(30) == "finished"
    assert await late.status() == "queued"


async def test_a_second_stop_ends_the_wait(client: PolosClient) -> None:
    entered = asyncio.Event()

    @workflow
    async def endless() -> None:
        entered.set()
        await asyncio.Event().wait()

    worker = Worker(client, app="tests", drain=3_600)
    running = asyncio.ensure_future(worker.run())
    handle = await endless.invoke(client)
    await entered.wait()
    worker.stop()
    worker.stop()
    await asyncio.wait_for(running, 30)
    # The run isn't lost: the next worker continues it.
    assert await handle.status() == "queued"


async def test_a_run_that_does_not_finish_in_time_continues_on_the_next_worker(
    client: PolosClient,
) -> None:
    entered = asyncio.Event()
    calls: list[str] = []
    is_first = True

    @workflow
    async def resumed(ctx: WorkflowContext) -> int:
        await ctx.step.run("once", calls.append, "once")
        entered.set()
        if is_first:
            await asyncio.Event().wait()
        return ctx.attempt

    handle = await resumed.invoke(client)
    async with Worker(client, app="tests", drain=0):
        await entered.wait()
    assert await handle.status() == "queued"
    is_first = False
    async with Worker(client, app="tests"):
        assert await handle.result(30) == 1, "an interruption isn't a failure"
    assert calls == ["once"]


async def test_the_lifespan_of_a_web_application_is_the_workers(client: PolosClient) -> None:
    job = workflow(id="job")(lambda: "done")
    async with polos.lifespan(client, app="web")(object()):
        assert await job.run(client, timeout=30) == "done"
    handle = await job.invoke(client)
    assert await handle.status() == "queued"


async def test_an_error_inside_of_async_with_closes_the_worker(client: PolosClient) -> None:
    worker = Worker(client, app="tests")
    with pytest.raises(ZeroDivisionError):
        async with worker:
            raise ZeroDivisionError
    assert not worker.is_running


@pytest.mark.parametrize(
    "options",
    [{"concurrency": 0}, {"concurrency": "many"}, {"lease": 0}, {"lease": -1}, {"drain": -1},
     {"threads": 0}, {"app": ""}],
)  # fmt: skip
def test_invalid_worker_options_are_refused(client: PolosClient, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgumentError, match=next(iter(options))):
        Worker(client, **options)


# --- several workers, limited permits --------------------------------------------------------


async def test_two_workers_of_one_process_share_the_work(client: PolosClient) -> None:
    both = asyncio.Event()
    entered: list[int] = []

    @workflow
    async def meeting(ctx: WorkflowContext, payload: int) -> None:
        entered.append(payload)
        if len(entered) == 2:
            both.set()
        await both.wait()

    # Each worker has one permit; neither run ends without the other.
    async with Worker(client, app="one", concurrency=1), Worker(client, app="two", concurrency=1):
        handles = [await meeting.invoke(client, n) for n in range(2)]
        for handle in handles:
            await handle.result(30)
    assert sorted(entered) == [0, 1]
    workers = {(await runs.get(client, handle.id)).worker for handle in handles}
    assert len(workers) == 2


async def test_no_run_is_executed_by_two_workers(client: PolosClient) -> None:
    entered: list[int] = []

    @workflow
    async def counted(ctx: WorkflowContext, payload: int) -> None:
        entered.append(payload)

    async with Worker(client, app="one"), Worker(client, app="two"):
        handles = [await counted.invoke(client, n) for n in range(200)]
        for handle in handles:
            await handle.result(30)
    assert sorted(entered) == list(range(200))


async def test_no_more_than_concurrency_run_at_once_and_the_rest_stay_queued(
    client: PolosClient,
) -> None:
    at_once: list[int] = []
    proceed, full = asyncio.Event(), asyncio.Event()
    running = 0

    @workflow
    async def limited() -> None:
        nonlocal running
        running += 1
        at_once.append(running)
        if running == 3:
            full.set()
        await proceed.wait()
        running -= 1

    handles = [await limited.invoke(client) for _ in range(10)]
    async with Worker(client, app="tests", concurrency=3):
        await asyncio.wait_for(full.wait(), 30)
        assert len(await runs.list(client, status="queued")) == 7
        proceed.set()
        for handle in handles:
            await handle.result(30)
    assert max(at_once) == 3


async def test_a_worker_executes_only_its_own_workflows(client: PolosClient) -> None:
    mine = workflow(id="mine")(lambda: "mine")
    other = workflow(id="other")(lambda: "other")
    async with Worker(client, app="tests", workflows=[mine]):
        waiting = await other.invoke(client)
        assert await mine.run(client, timeout=30) == "mine"
        assert await waiting.status() == "queued"
    async with Worker(client, app="tests", workflows=[other]):
        assert await waiting.result(30) == "other"


def test_a_worker_in_another_thread_takes_no_signals(client: PolosClient) -> None:
    job = workflow(id="job")(lambda: "done")
    outcome: list[Any] = []

    def work() -> None:
        async def main() -> None:
            worker = Worker(client, app="tests")
            running = asyncio.ensure_future(worker.run())
            outcome.append(await job.run(client, timeout=30))
            worker.stop()
            await running

        asyncio.run(main())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(30)
    assert outcome == ["done"]


# --- signals and the end of the interpreter --------------------------------------------------

APP = """
    import asyncio, os, sys, threading, time
    from polos import PolosClient, Worker, WorkflowContext, run, runs, schedules, workflow

    client = PolosClient()

    @workflow(id="slow")
    async def slow(ctx: WorkflowContext):
        print("entered")
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
        print("leaving")
        return "finished"

    @workflow(id="endless")
    async def endless(ctx: WorkflowContext):
        print("entered")
        await asyncio.Event().wait()

    @workflow(id="endless-sync")
    def endless_sync(ctx):
        print("entered")
        threading.Event().wait()

    @workflow(id="ticker", schedule=True)
    async def ticker(ctx, payload):
        pass
"""

RUN = """
    print("ready")
    run(client, drain=20)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
async def test_a_signal_drains_and_the_process_ends_well(
    start: Any, client: PolosClient, number: signal.Signals
) -> None:
    program = start(APP + RUN)
    program.wait_for_line("ready")
    handle: RunHandle[Any] = await _invoked(client, "slow", program)
    program.signal(number)
    program.send_line("continue")
    program.wait_for_line("leaving")
    assert program.ends() == 0, program.errors
    assert await handle.result(30) == "finished"
    assert "Traceback" not in program.errors


async def test_a_handler_that_ignores_its_cancellation_does_not_keep_the_process(
    start: Any, client: PolosClient
) -> None:
    stubborn = """
    @workflow(id="stubborn")
    async def stubborn(ctx: WorkflowContext):
        print("entered")
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                continue

    print("ready")
    run(client, drain=0)
    """
    program = start(APP + stubborn)
    program.wait_for_line("ready")
    handle: RunHandle[Any] = await _invoked(client, "stubborn", program)
    program.signal(signal.SIGTERM)
    assert program.ends() == 0, program.errors
    assert await handle.status() == "queued"
    assert "Traceback" not in program.errors


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal_ends_the_wait(
    start: Any, client: PolosClient, number: signal.Signals
) -> None:
    program = start(
        APP
        + textwrap.indent(TIME_TO_STOP, "    ")
        + """
    class Loud(Worker):
        def stop(self):
            super().stop()
            print("asked")

    print("ready")
    asyncio.run(Loud(client, drain=3_600).run())
    """
    )
    program.wait_for_line("ready")
    handle: RunHandle[Any] = await _invoked(client, "endless", program)
    program.signal(number)
    program.wait_for_line("asked")
    # Another signal, since a repetition of the same one at once doesn't count.
    program.signal(signal.SIGINT if number == signal.SIGTERM else signal.SIGTERM)
    assert program.ends() == 0, program.errors
    assert await handle.status() == "queued"


def test_a_signal_that_comes_twice_at_once_counts_once() -> None:
    clock = SimpleNamespace(now=1_000.0)
    asked: list[float] = []
    handle = without_echoes(lambda: asked.append(clock.now), clock=lambda: clock.now)

    def handle_at(now: float, number: signal.Signals) -> None:
        clock.now = now
        handle(number)

    for now in (1_000.0, 1_000.0, 1_000.01, 1_000.09, 1_000.17):
        handle_at(now, signal.SIGINT)
    assert asked == [1_000.0], "forwarded by a parent, or the key held down"
    handle_at(1_000.17, signal.SIGTERM)
    assert asked == [1_000.0, 1_000.17], "another signal counts"
    handle_at(1_000.3, signal.SIGINT)
    assert asked == [1_000.0, 1_000.17, 1_000.3]


async def _invoked(client: PolosClient, id: str, program: Any) -> RunHandle[Any]:
    workflow(id=id)(print)  # only the program has the workflow
    handle: RunHandle[Any] = await runs.invoke(client, id)
    program.wait_for_line("entered")
    return handle


# Ways to end the program while a run is in progress, and its return code.
ENDS: dict[str, tuple[str, int]] = {
    "end-of-asyncio-run": (
        """
    async def main():
        async with Worker(client, drain=0):
            await endless.invoke(client)
            await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    asyncio.run(main())
    """,
        0,
    ),
    "worker-never-closed": (
        """
    async def main():
        await Worker(client).start()
        await endless.invoke(client)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    asyncio.run(main())
    """,
        0,
    ),
    "exception-in-main": (
        """
    async def main():
        async with Worker(client, drain=0):
            await endless.invoke(client)
            await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
            raise SystemError("as planned")
    asyncio.run(main())
    """,
        1,
    ),
    "sys-exit": (
        """
    async def main():
        await Worker(client).start()
        await endless.invoke(client)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
        sys.exit(5)
    asyncio.run(main())
    """,
        5,
    ),
    "sync-handler-in-a-thread": (
        """
    async def main():
        async with Worker(client, drain=0):
            await endless_sync.invoke(client)
            await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    asyncio.run(main())
    """,
        0,
    ),
    "worker-in-a-daemon-thread": (
        """
    async def main():
        async with Worker(client):
            await endless.invoke(client)
            await asyncio.Event().wait()
    threading.Thread(target=lambda: asyncio.run(main()), daemon=True).start()
    sys.stdin.readline()
    """,
        0,
    ),
    "loop-stopped-and-forgotten": (
        """
    loop = asyncio.new_event_loop()
    loop.run_until_complete(Worker(client).start())
    loop.run_until_complete(endless.invoke(client))
    loop.call_later(0.2, loop.stop)
    loop.run_forever()
    sys.stdin.readline()
    """,
        0,
    ),
    "os-exit": (
        """
    async def main():
        await Worker(client).start()
        await endless.invoke(client)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
        os._exit(9)
    asyncio.run(main())
    """,
        9,
    ),
}


@pytest.mark.parametrize("way", ENDS)
async def test_the_interpreter_ends_with_a_run_in_progress_and_the_run_continues_later(
    start: Any, client: PolosClient, way: str
) -> None:
    source, code = ENDS[way]
    program = start(APP + source)
    program.wait_for_line("entered")
    program.send_line("end")
    assert program.ends() == code, program.errors
    assert "panicked" not in program.errors
    assert "Fatal Python error" not in program.errors
    (run,) = await runs.list(client)
    assert run.status in ("queued", "running")

    # In every case the next worker continues the run.
    workflow(id=run.workflow)(lambda: "taken over")
    async with Worker(client, app="tests"):
        assert await RunHandle(client, run.id).result(30) == "taken over"


async def test_no_slot_is_lost_when_a_worker_ends(
    start: Any, client: PolosClient, eventually: Any
) -> None:
    program = start(APP + RUN)
    program.wait_for_line("ready")

    async def is_served() -> Any:
        try:
            return await schedules.create(
                client, "ticker", every=timedelta(seconds=1), catch_up="all"
            )
        except LookupError:
            return None

    id = await eventually(is_served)

    async def has_run() -> bool:
        return len(await runs.list(client, schedule=id, status="succeeded")) >= 2

    await eventually(has_run)
    program.signal(signal.SIGTERM)
    assert program.ends() == 0, program.errors
    assert {run.status for run in await runs.list(client, schedule=id)} <= {"succeeded", "queued"}
    slots = sorted(entry.timestamp for entry in await schedules.history(client, id))
    assert slots == [slots[0] + timedelta(seconds=n) for n in range(len(slots))]


def test_importing_polos_starts_no_thread_and_opens_no_file(start: Any, tmp_path: Path) -> None:
    program = start(
        """
        import threading
        import polos
        client = polos.PolosClient()
        print("threads", threading.active_count())
        """
    )
    assert program.ends() == 0
    assert program.lines == ["threads 1"]
    assert not (tmp_path / "polos.db").exists()


@pytest.mark.usefixtures("own_database")
@pytest.mark.skipif(sys.platform == "win32", reason="asks the system for its threads")
def test_closing_leaves_no_thread_behind(start: Any) -> None:
    program = start(
        """
        import asyncio, os
        from polos import PolosClient, Worker, workflow

        @workflow
        def job(ctx):
            return ctx.step.run("step", str)

        def threads():
            return len(os.listdir("/proc/self/task"))

        async def work():
            async with PolosClient() as client, Worker(client):
                await job.run(client, timeout=30)

        asyncio.run(work())
        # Threads that handlers ran in end by themselves, a moment later.
        while threads() > 1:
            pass
        print("threads", threads())
        """
    )
    assert program.wait_for_line("threads") == "1"


@pytest.mark.usefixtures("own_database")
@pytest.mark.skipif(sys.platform == "win32", reason="waits for the bridge's socket")
async def test_a_run_that_arrives_while_its_worker_closes_is_not_executed(
    client: PolosClient,
) -> None:
    entered: list[str] = []

    @workflow
    async def job(ctx: WorkflowContext) -> None:
        entered.append(ctx.run_id)

    worker = Worker(client, app="tests")
    await worker.start()
    assert worker._executor is not None
    bell = worker._executor.bridge.core.fileno()
    # The loop is blocked until the worker closes; the run that has arrived waits for the loop.
    handle = runs.sync.invoke(client, job)
    poll = select.poll()  # `select.select` fails for descriptors above 1023
    poll.register(bell, select.POLLIN)
    while handle.sync.status() != "running" or not poll.poll(30_000):
        pass
    await worker.close()
    assert entered == []
    assert await handle.status() == "queued"


@pytest.mark.usefixtures("own_database")
async def test_a_run_that_arrives_when_its_worker_has_released_all_is_not_executed(
    client: PolosClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered: list[str] = []

    @workflow
    async def job(ctx: WorkflowContext) -> None:
        entered.append(ctx.run_id)

    arrived: asyncio.Queue[tuple[Executor, ClaimedRun]] = asyncio.Queue()
    start, release_all = Executor._start, Worker._release_all

    def hold_back(executor: Executor, claimed: ClaimedRun) -> None:
        arrived.put_nowait((executor, claimed))

    def release_all_but_one(worker: Worker) -> None:
        release_all(worker)
        start(*late)

    monkeypatch.setattr(Executor, "_start", hold_back)
    monkeypatch.setattr(Worker, "_release_all", release_all_but_one)
    async with Worker(client, app="tests"):
        handle = await job.invoke(client)
        late = await asyncio.wait_for(arrived.get(), 30)
    assert entered == []
    assert await handle.status() == "queued"


@pytest.mark.skipif(sys.platform != "linux", reason="counts the descriptors in /proc")
async def test_an_exception_that_is_kept_keeps_nothing_open(tmp_path: Path) -> None:
    kept: list[BaseException] = []

    async def keep(failure: RunFailure) -> None:
        kept.append(failure.error)

    @workflow(on_failure=keep)
    async def job(ctx: WorkflowContext) -> None:
        raise ValueError(ctx.run_id)

    async def fail() -> int:
        client = PolosClient(tmp_path / f"{len(kept)}.db")
        async with client, Worker(client, app="tests"):
            with pytest.raises(ValueError, match="run_"):
                await job.run(client)
        return len(os.listdir("/proc/self/fd"))

    counts = [await fail() for _ in range(3)]
    assert counts[1] == counts[2]
    assert len(kept) == 3
