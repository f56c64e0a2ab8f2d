"""Processes of steps: frames, sizes, names of functions, and pools."""

from __future__ import annotations

import asyncio
import inspect
import os
import signal
import socket
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import process_functions as f
import pytest

from polos._runtime.processes import child, pool
from polos._runtime.processes.channel import BrokenFrameError, Frame, receive, send
from polos._runtime.processes.functions import FunctionRef, hints_of_arguments, load, reference
from polos._runtime.processes.memory import amount, memory_size
from polos._runtime.processes.pool import Job, ProcessPool
from polos.exceptions import InvalidArgumentError, ShutdownError, StepCrashedError

Eventually = Callable[[Callable[[], Any]], Awaitable[Any]]

# -- frames ---------------------------------------------------------------------------------------


def test_a_frame_arrives_as_it_was_sent() -> None:
    here, there = socket.socketpair()
    with here, there:
        parts = [b"", b"null", b"x" * 3_000_000]
        sender = threading.Thread(target=send, args=(here, Frame({"kind": "call"}, parts)))
        sender.start()
        frame = receive(there)
        sender.join()
    assert frame is not None
    assert (frame.header, list(frame.parts)) == ({"kind": "call"}, parts)


def test_the_end_of_the_other_side_is_no_frame() -> None:
    here, there = socket.socketpair()
    with there:
        here.close()
        assert receive(there) is None


@pytest.mark.parametrize(
    "data",
    [
        b"\0",
        b"\0\0\0\x02{",
        b"\0\0\0\x02{}",
        b"\0\0\0\x02[]",
        b"\0\0\0\x02xx",
        b"\xff\xff\xff\xff",
        b'\0\0\0\x0d{"parts":[9]}',
        b'\0\0\0\x0e{"parts":[-9]}',
        b'\0\0\0\x0f{"parts":["9"]}',
        b'\0\0\0\x18{"parts":[999999999999]}',
        b"print of a function\n",
    ],
)
def test_anything_else_is_a_broken_frame(data: bytes) -> None:
    here, there = socket.socketpair()
    with there:
        here.sendall(data)
        here.close()
        with pytest.raises(BrokenFrameError):
            receive(there)


# -- sizes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "size"),
    [
        ("512M", 512 << 20),
        ("1G", 1 << 30),
        (" 1.5 g ", 3 << 29),
        ("2GiB", 2 << 30),
        ("64mb", 64 << 20),
        ("100000000", 100_000_000),
        ("65536K", 64 << 20),
        ("1T", 1 << 40),
        (1 << 30, 1 << 30),
    ],
)
def test_sizes_of_memory(given: str | int, size: int) -> None:
    assert memory_size("s", given) == size


@pytest.mark.parametrize(
    "given", ["", "G", "1X", "-1G", "1e9", "٣G5", 1.5, True, [], b"1G", 1 << 80]
)
def test_other_sizes_are_rejected(given: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="step `s`, memory"):
        memory_size("s", given)


def test_amounts_are_short() -> None:
    sizes = [(5, "5 bytes"), (1 << 20, "1M"), (3 << 29, "1.5G"), (312 << 20, "312M")]
    assert [amount(size) for size, _ in sizes] == [text for _, text in sizes]


# -- functions ------------------------------------------------------------------------------------


@pytest.mark.parametrize("fn", [f.pay, f.Office.double, f.Office.halve, f.Bill, len, os.getpid])
def test_a_function_is_found_by_its_name(fn: Callable[..., Any]) -> None:
    ref = reference("s", fn)
    assert load(ref) == fn
    module = inspect.getmodule(fn)
    assert module is not None
    assert ref.module in (module.__name__, "posix")


def test_a_missing_function_is_not_callable() -> None:
    assert load(FunctionRef("process_functions", "gone", None, False)) is None


def test_hints_follow_the_parameters() -> None:
    def fn(a: int, b: str = "", *more: bytes, c: float, d=None, **others: bool): ...  # type: ignore[no-untyped-def]

    positional, named = hints_of_arguments(fn, 4, ["c", "d", "e"])
    assert positional == [int, str, bytes, bytes]
    assert named == {"c": float, "d": None, "e": bool}
    assert hints_of_arguments(fn, 1, ["b"]) == ([int], {"b": str})
    assert hints_of_arguments(max, 2, []) == ([None, None], {})


# -- a child --------------------------------------------------------------------------------------


def started(program: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Start a process that executes ``program`` instead of steps; return the error."""
    monkeypatch.setattr(child, "_PROGRAM", program)
    monkeypatch.setattr(child, "TERMINATE_SECONDS", 0.05)
    wake = child.Wake()
    process = child.ChildProcess(wake, bool)
    with pytest.raises(StepCrashedError) as raised:
        process.finish_start()
    assert process.has_ended
    wake.close()
    return str(raised.value)


def test_a_process_that_does_not_get_ready_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    output = started("import sys; sys.exit(3)  # {0!r} {1}", monkeypatch)
    assert "has ended with exit code 3 before it was ready" in output


def test_a_process_that_answers_something_else_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    program = "import os, time; os.write({1}, b'hello ' * 9); time.sleep(999)  # {0!r}"
    assert "killed by SIGKILL" in started(program, monkeypatch)


def test_a_process_that_takes_too_long_to_start_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "_START_SECONDS", 0)
    assert "was not ready within" in started(
        "import time; time.sleep(999)  # {0!r} {1}", monkeypatch
    )


def test_an_exit_code_may_be_taken_by_others() -> None:
    wake = child.Wake()
    process = child.ChildProcess(wake, bool)
    process.finish_start()
    os.kill(process.pid, signal.SIGKILL)
    os.waitpid(process.pid, 0)
    with pytest.raises(StepCrashedError, match="something else in this program took its exit code"):
        process.call(Frame({"kind": "call"}))
    wake.close()


# -- a pool ---------------------------------------------------------------------------------------


def request(fn: Callable[..., Any], *arguments: bytes) -> Frame:
    ref = reference("s", fn)
    return Frame(
        {
            "kind": "call",
            "module": ref.module,
            "name": ref.name,
            "file": ref.file,
            "is_script": ref.is_script,
            "keywords": [],
            "memory": None,
        },
        arguments,
    )


async def test_an_unused_process_ends(
    monkeypatch: pytest.MonkeyPatch, eventually: Eventually
) -> None:
    monkeypatch.setattr(pool, "_IDLE_SECONDS", 0.0)
    processes = ProcessPool(1)
    job = Job(asyncio.get_running_loop(), None)
    processes.submit(job)
    await job.ready
    job.start(request(f.process_id), None)
    frame = await job.outcome
    assert frame.header["kind"] == "returned"
    await eventually(lambda: not processes._living)


async def test_a_job_may_be_cancelled_in_each_state(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    processes = ProcessPool(1)
    loop = asyncio.get_running_loop()
    first, second, third = (Job(loop, None) for _ in range(3))
    processes.submit(first)
    processes.submit(second)
    await second.end()  # it waits for a process
    with pytest.raises(ShutdownError):
        second.ready.result()
    await first.ready
    (pid,) = processes.processes()
    await first.end()  # it has one, and has not started
    processes.submit(third)
    await third.ready
    assert processes.processes() == [pid]
    third.start(request(f.hang, f'"{tmp_path / "pipe"}"'.encode()), None)
    await asyncio.to_thread((tmp_path / "pipe").read_text)
    await third.end()  # it executes
    assert processes.processes() == []
    processes.close()
    await processes.ended(30)
    assert not processes._living


async def test_a_cancelled_wait_for_the_end_kills_at_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(child, "TERMINATE_SECONDS", 3_600.0)
    os.mkfifo(tmp_path / "pipe")
    processes = ProcessPool(1)
    job = Job(asyncio.get_running_loop(), None)
    processes.submit(job)
    await job.ready
    job.start(request(f.hang_stubbornly, f'"{tmp_path / "pipe"}"'.encode()), None)
    await asyncio.to_thread((tmp_path / "pipe").read_text)
    ending = asyncio.ensure_future(job.end())
    await asyncio.sleep(0)
    ending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await ending
    assert job.released.done()
    assert processes.processes() == []
    processes.close()


async def test_a_closed_pool_accepts_nothing() -> None:
    processes = ProcessPool(1)
    processes.close()
    with pytest.raises(ShutdownError):
        processes.submit(Job(asyncio.get_running_loop(), None))
    await processes.ended(30)


async def test_jobs_that_wait_when_a_pool_closes_are_released() -> None:
    processes = ProcessPool(1)
    loop = asyncio.get_running_loop()
    first, second = Job(loop, None), Job(loop, None)
    processes.submit(first)
    processes.submit(second)
    processes.close()
    await asyncio.wait({first.released, second.released})
    for job in (first, second):
        with pytest.raises(ShutdownError):
            job.ready.result()
    await processes.ended(30)


def test_a_loop_that_is_gone_leaves_no_process(eventually: Eventually) -> None:
    processes = ProcessPool(1)

    async def leave() -> None:
        job = Job(asyncio.get_running_loop(), None)
        processes.submit(job)
        await job.ready
        job.start(request(f.process_id), None)

    asyncio.run(leave())
    processes.close()
    assert processes.wait_closed(30)
