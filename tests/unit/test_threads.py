"""The threads of handlers and steps when no thread can be started."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from polos._runtime.threads import ThreadPool


async def hold_a_thread(pool: ThreadPool) -> tuple[asyncio.Future[str], threading.Event]:
    """Occupy a thread of the pool; return what ends it."""
    begun, proceed = threading.Event(), threading.Event()

    def hold() -> str:
        begun.set()
        proceed.wait(30)
        return "held"

    call = asyncio.ensure_future(pool.run(hold))
    await asyncio.to_thread(begun.wait, 30)
    return call, proceed


async def test_a_pool_works_again_when_there_are_threads_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pool = ThreadPool(1, "tests")
    calls: list[str] = []

    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="new thread"):
            await pool.run(calls.append, "refused")
    await asyncio.wait_for(pool.run(calls.append, "taken"), 30)
    # A refused job is not executed later.
    assert calls == ["taken"]
    pool.close()


async def test_a_job_for_which_no_thread_can_be_started_waits_for_an_existing_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pool = ThreadPool(2, "tests")

    def refuse(self: threading.Thread) -> Any:
        raise RuntimeError("can't start new thread")

    first, proceed = await hold_a_thread(pool)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        second = asyncio.ensure_future(pool.run(str, "behind it"))
        await asyncio.sleep(0)
    proceed.set()
    assert await asyncio.wait_for(first, 30) == "held"
    assert await asyncio.wait_for(second, 30) == "behind it"
    pool.close()


async def test_a_job_that_found_no_thread_gets_one_when_there_are_some_though_others_stay_busy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("polos._runtime.threads._RETRY_INTERVAL", 0)
    pool = ThreadPool(2, "tests")
    first, proceed = await hold_a_thread(pool)
    start = threading.Thread.start
    errors: list[Exception] = [RuntimeError("can't start new thread"), MemoryError()]

    def refuse_at_first(self: threading.Thread) -> None:
        if errors:
            raise errors.pop()
        start(self)

    monkeypatch.setattr(threading.Thread, "start", refuse_at_first)
    assert await asyncio.wait_for(pool.run(str, "beside it"), 30) == "beside it"
    assert not first.done()
    proceed.set()
    assert await asyncio.wait_for(first, 30) == "held"
    pool.close()


async def test_a_thread_that_lacks_memory_to_wait_or_answer_continues(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("polos._runtime.threads._RETRY_INTERVAL", 0)
    pool = ThreadPool(1, "tests")
    loop = asyncio.get_running_loop()
    wait, call = pool._condition.wait, loop.call_soon_threadsafe
    waits: list[None] = [None, None]
    calls: list[None] = [None]

    has_failed = threading.Event()

    def no_lock(timeout: float | None = None) -> bool:
        if waits:
            waits.pop()
            raise MemoryError
        has_failed.set()
        return wait(timeout)

    def no_handle(*args: Any, **kwargs: Any) -> Any:
        if calls:
            calls.pop()
            raise MemoryError
        return call(*args, **kwargs)

    monkeypatch.setattr(pool._condition, "wait", no_lock)
    monkeypatch.setattr(loop, "call_soon_threadsafe", no_handle)
    for answer in ("first", "second", "third"):
        assert await asyncio.wait_for(pool.run(str, answer), 30) == answer
    # On a busy machine, the next job may come before the thread waits for it.
    assert await asyncio.to_thread(has_failed.wait, 30)
    assert not calls
    pool.close()


async def test_jobs_one_after_another_share_a_thread(eventually: Any) -> None:
    pool = ThreadPool(5, "tests")
    names = set()
    for _ in range(3):
        names.add(await asyncio.wait_for(pool.run(lambda: threading.current_thread().name), 30))
        # The thread has answered, and waits for the next job again.
        await eventually(lambda: pool._idle == pool._started)
    assert len(names) == 1
    pool.close()


async def test_a_job_does_not_wait_behind_another_that_the_idle_thread_takes(
    eventually: Any,
) -> None:
    pool = ThreadPool(2, "tests")
    await asyncio.wait_for(pool.run(str), 30)
    await eventually(lambda: pool._idle == 1)
    both = threading.Barrier(2, timeout=30)
    with pool._condition:  # the idle thread can't take the first before the second is there
        calls = [asyncio.ensure_future(pool.run(both.wait)) for _ in range(2)]
        await asyncio.sleep(0)
    assert sorted(await asyncio.wait_for(asyncio.gather(*calls), 30)) == [0, 1]
    pool.close()


async def test_a_pool_has_no_more_threads_than_its_size(eventually: Any) -> None:
    pool = ThreadPool(2, "tests")
    holds = [await hold_a_thread(pool) for _ in range(2)]
    waiting = [asyncio.ensure_future(pool.run(str, n)) for n in range(5)]
    await asyncio.sleep(0)
    assert pool._started == 2
    for call, proceed in holds:
        proceed.set()
        assert await asyncio.wait_for(call, 30) == "held"
    assert await asyncio.wait_for(asyncio.gather(*waiting), 30) == ["0", "1", "2", "3", "4"]
    pool.close()
    await eventually(lambda: pool._started == 0)


async def test_a_pool_that_has_grown_for_a_while_shrinks_again(eventually: Any) -> None:
    pool = ThreadPool(1, "tests")
    first, proceed = await hold_a_thread(pool)
    second = asyncio.ensure_future(pool.run(str, "beside it"))
    pool.grow(1)
    assert await asyncio.wait_for(second, 30) == "beside it"
    pool.grow(-1)
    await eventually(lambda: pool._started == 1)
    proceed.set()
    await asyncio.wait_for(first, 30)
    assert await asyncio.wait_for(pool.run(str, "afterwards"), 30) == "afterwards"
    pool.close()


async def test_the_end_of_an_iterator_arrives_as_an_error() -> None:
    """A future can't hold StopIteration, so awaiting it would never end."""
    pool = ThreadPool(1, "tests")
    with pytest.raises(RuntimeError, match="StopIteration") as caught:
        await asyncio.wait_for(pool.run(next, iter(())), 30)
    assert isinstance(caught.value.__cause__, StopIteration)
    pool.close()
