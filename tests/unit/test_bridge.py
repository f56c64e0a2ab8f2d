"""The bridge between the core's threads and event loops."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from polos import PolosClient, RunHandle, RunTimeoutError, Worker, runs, schedules, workflow
from polos._core.bridge import LoopBridge


@pytest.fixture
def allocations() -> ModuleType:
    """CPython's module that makes allocations fail."""
    return pytest.importorskip("_testcapi", reason="this Python is without its tests' module")


class LowMemory:
    """Makes three allocations fail when a bridge reads answers.

    First from the first allocation on, then from the second, and so on.
    """

    def __init__(self, allocations: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bridge: LoopBridge | None = None  # the one
        self.count = 0
        self.has_listened = asyncio.Event()
        listen = LoopBridge._listen

        def listen_in_want(bridge: LoopBridge) -> None:
            if bridge is not self.bridge:
                return listen(bridge)
            self.count += 1
            allocations.set_nomemory(self.count, self.count + 3)
            try:
                listen(bridge)
            finally:
                allocations.remove_mem_hooks()
                self.has_listened.set()

        monkeypatch.setattr(LoopBridge, "_listen", listen_in_want)


@pytest.mark.usefixtures("own_database")
@pytest.mark.skipif(sys.platform != "linux", reason="counts descriptors in /proc")
def test_loops_that_are_over_leave_no_descriptors(tmp_path: Path) -> None:
    client = PolosClient()

    def use_a_loop() -> int:
        asyncio.run(schedules.list(client))
        gc.collect()
        return len(os.listdir("/proc/self/fd"))

    try:
        first = [use_a_loop() for _ in range(3)][-1]
        last = [use_a_loop() for _ in range(20)][-1]
        assert last <= first
    finally:
        client.close()


@pytest.mark.usefixtures("own_database")
@pytest.mark.skipif(sys.platform != "linux", reason="counts descriptors in /proc")
def test_workers_that_are_over_leave_no_descriptors() -> None:
    """Also while their client stays open, as in an application that restarts its worker."""

    @workflow(id="light")
    async def light() -> None: ...

    client = PolosClient()

    async def live() -> None:
        async with Worker(client, workflows=[light]):
            pass

    try:
        for _ in range(3):
            asyncio.run(live())
        before = _descriptor_count()
        for _ in range(30):
            asyncio.run(live())
        # Each that is left behind has one or more. A pool of connections may have grown a little.
        assert _descriptor_count() < before + 10
    finally:
        client.close()


def _descriptor_count() -> int:
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


def _give_up_by_timeout(handle: RunHandle[Any]) -> None:
    async def wait() -> None:
        with pytest.raises(RunTimeoutError):
            await handle.result(timeout=0.001)

    asyncio.run(wait())


def _give_up_by_cancellation(handle: RunHandle[Any]) -> None:
    async def wait() -> None:
        task = asyncio.ensure_future(handle.result())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(wait())


def _close_the_loop_under_the_task(handle: RunHandle[Any]) -> None:
    loop = asyncio.new_event_loop()
    task = loop.create_task(handle.result())
    loop.run_until_complete(asyncio.sleep(0))
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    loop.close()


def _give_up_without_a_loop(handle: RunHandle[Any]) -> None:
    with pytest.raises(RunTimeoutError):
        handle.sync.result(timeout=0.001)


@pytest.mark.usefixtures("own_database")
@pytest.mark.skipif(sys.platform != "linux", reason="counts descriptors in /proc")
@pytest.mark.parametrize(
    "give_up",
    [
        _give_up_by_timeout,
        _give_up_by_cancellation,
        _close_the_loop_under_the_task,
        _give_up_without_a_loop,
    ],
)
def test_a_caller_that_gives_up_waiting_for_a_run_leaves_nothing_behind(
    give_up: Callable[[RunHandle[Any]], None],
) -> None:
    @workflow(id="never-ends")
    async def never_ends(ctx: Any) -> None: ...

    client = PolosClient()
    try:
        handle = asyncio.run(never_ends.invoke(client))  # no worker executes it
        for _ in range(3):
            give_up(handle)
            asyncio.run(schedules.list(client))
        before = _descriptor_count()
        for _ in range(20):
            give_up(handle)
        # What the last loop left is released at the next request of another loop.
        asyncio.run(schedules.list(client))
        assert client._opened().wait_count() == 0
        # Each that is left behind has one or more. A pool of connections may have grown a little.
        assert _descriptor_count() < before + 10
    finally:
        client.close()


@pytest.mark.usefixtures("own_database")
@pytest.mark.skipif(sys.platform == "win32", reason="rung for in another thread there")
async def test_answers_that_lack_memory_come_when_there_is_some(
    allocations: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    client = PolosClient()
    low_memory = LowMemory(allocations, monkeypatch)
    low_memory.bridge = bridge = LoopBridge(loop)
    try:
        # Nothing awaits them, since a future without memory to complete can't be helped.
        answers: list[asyncio.Future[str]] = [loop.create_future() for _ in range(30)]
        for answer in answers:
            client._opened().submit('{"list_runs": {"limit": 1}}', bridge.core, answer)

        async def all_have_come() -> None:
            while not all(answer.done() for answer in answers):
                await low_memory.has_listened.wait()
                low_memory.has_listened.clear()

        await asyncio.wait_for(all_have_come(), 30)
        assert {answer.result() for answer in answers} == {"[]"}
        assert low_memory.count > 10
    finally:
        bridge.close()
        client.close()


@pytest.mark.usefixtures("own_database")
@pytest.mark.skipif(sys.platform == "win32", reason="rung for in another thread there")
async def test_runs_that_lack_memory_start_once_when_there_is_some(
    allocations: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: Counter[str] = Counter()

    @workflow(id="counted")
    async def counted(ctx: Any) -> None:
        started[ctx.run_id] += 1

    client = PolosClient()
    low_memory = LowMemory(allocations, monkeypatch)
    async with Worker(client, workflows=[counted]) as worker:
        assert worker._executor is not None
        worker._executor.watchdog.close()  # it would start a thread, even without memory
        for thread in threading.enumerate():
            if thread.name == "polos-blocking":
                thread.join()  # it would end without memory
        low_memory.bridge = worker._executor.bridge
        handles = await asyncio.gather(*(runs.invoke(client, counted) for _ in range(20)))
        await asyncio.wait_for(asyncio.gather(*(handle.result() for handle in handles)), 30)
    assert list(started.values()) == [1] * 20
    assert low_memory.count > 10
    client.close()


async def test_an_event_that_cannot_be_handled_delays_no_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    handled: list[str] = []

    def handle(item: tuple[Any, ...]) -> None:
        handled.append(item[0])
        if item[0] == "ring":
            raise RuntimeError("no such timer")

    bridge = LoopBridge(asyncio.get_running_loop(), handle)
    try:
        bridge._items.extend([("ring", [1]), ("stop", []), ("over",)])
        bridge._listen()
    finally:
        bridge.close()
    assert handled == ["ring", "stop", "over"]
    assert "could not be handled" in caplog.text
