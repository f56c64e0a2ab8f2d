"""Steps in separate processes: results, errors, crashes, limits, and no process left behind."""

from __future__ import annotations

import asyncio
import enum
import functools
import itertools
import math
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import process_functions as f
import pytest
from sample_types import User

import polos.testing
from polos import (
    InvalidArgumentError,
    PolosClient,
    RunCancelledError,
    StepCrashedError,
    StepError,
    StepSerializationError,
    SyncWorkflowContext,
    Worker,
    WorkflowContext,
    runs,
    workflow,
)
from polos._runtime.processes import child, memory
from polos.testing import _virtual_time

BILL = f.Bill(Decimal("1.50"), User(id=1, email="a@b"))

Eventually = Callable[[Callable[[], Any]], Awaitable[Any]]


@pytest.fixture(autouse=True)
def _soon_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "TERMINATE_SECONDS", 0.05)


def worker(client: PolosClient, **options: Any) -> Worker:
    return Worker(client, app="tests", drain=0, **options)


def is_running(pid: int) -> bool:
    """Return whether a process exists and isn't a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def has_exited(pid: int) -> bool:
    """Return whether the exit code of a child is available or was read.

    A process with several threads appears as a zombie before that.
    """
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True


class Pipe:
    """A named pipe, from which the test reads what a step has written."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = str(path)

    async def numbers(self) -> list[int]:
        """Wait until the step has written its numbers."""
        text = await asyncio.to_thread(Path(self.path).read_text)
        return [int(number) for number in text.split()]


@pytest.fixture
def pipe(tmp_path: Path) -> Pipe:
    return Pipe(tmp_path / "pipe")


async def outcome(client: PolosClient, fn: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Return the result of a run whose only step executes ``fn`` in a process."""

    @workflow(id="of-the-test")
    async def of_the_test(ctx: WorkflowContext) -> Any:
        return await ctx.step.run("step", fn, *args, process=True, **options)

    async with worker(client):
        return await of_the_test.run(client, timeout=60)


async def failure(
    client: PolosClient, fn: Callable[..., Any], *args: Any, **options: Any
) -> BaseException:
    """Return the cause of such a step's failure, as the handler gets it."""
    causes: list[BaseException | None] = []

    @workflow
    async def fails(ctx: WorkflowContext) -> None:
        with pytest.raises(StepError) as raised:
            await ctx.step.run("step", fn, *args, process=True, **options)
        causes.append(raised.value.__cause__)

    async with worker(client):
        await fails.run(client, timeout=60)
    (cause,) = causes
    assert cause is not None
    return cause


# -- values ---------------------------------------------------------------------------------------


async def test_arguments_and_results_keep_their_types(client: PolosClient) -> None:
    @workflow
    async def pays(ctx: WorkflowContext) -> list[Any]:
        return [
            await ctx.step.run("typed", f.pay, BILL, Decimal(3), BILL, process=True),
            await ctx.step.run("keywords", f.pay, bill=BILL, factor=Decimal(4), process=True),
            await ctx.step.run("async", f.pay_later, BILL, process=True),
            await ctx.step.run("built in", math.factorial, 20, process=True),
            await ctx.step.run("class method", f.Office.double, 4, process=True),
            await ctx.step.run("static method", f.Office.halve, 4, process=True),
            await ctx.step.run("plain", f.untyped, {"a": [1, None]}, process=True, more=1),
        ]

    polos.register_types(f.Bill)
    async with worker(client):
        results = await pays.run(client, timeout=60)
    assert results == [
        f.Bill(Decimal("6.00"), BILL.user),
        f.Bill(Decimal("6.00"), BILL.user),
        BILL,
        2432902008176640000,
        8,
        2,
        {"a": [1, None]},
    ]


async def test_one_process_serves_one_step_after_the_other(client: PolosClient) -> None:
    @workflow
    async def asks(ctx: WorkflowContext) -> list[int]:
        return [await ctx.step.run(f"{n}", f.process_id, process=True) for n in range(5)]

    async with worker(client):
        ids = await asks.run(client, timeout=60)
    assert len(set(ids)) == 1
    assert ids[0] != os.getpid()


async def test_sync_handlers_have_processes_too(client: PolosClient) -> None:
    @workflow
    def asks(ctx: SyncWorkflowContext) -> int:
        return ctx.step.run("ask", f.process_id, process=True, timeout=60, memory="1G")

    async with worker(client):
        assert await asks.run(client, timeout=60) != os.getpid()


async def test_a_finished_step_is_not_executed_again(client: PolosClient, pipe: Pipe) -> None:
    times = []

    @workflow(retries=1, backoff=0)
    async def fails_once(ctx: WorkflowContext) -> f.Bill:
        bill = await ctx.step.run("pay", f.pay, BILL, process=True)
        times.append(await ctx.step.run("who", f.process_id, process=True))
        if len(times) == 1:
            raise RuntimeError
        return bill

    async with worker(client):
        assert await fails_once.run(client, timeout=60) == f.Bill(Decimal("3.00"), BILL.user)
    assert times[0] == times[1]


# -- failures -------------------------------------------------------------------------------------


async def test_an_exception_of_the_function_is_the_cause(client: PolosClient) -> None:
    cause = await failure(client, f.refuse, "no money")
    assert type(cause) is f.Refusal
    assert (str(cause), cause.code) == ("no money", 7)
    (run,) = await runs.list(client)
    (step,) = (await runs.get(client, run.id)).steps
    assert step.error is not None
    assert "raise Refusal(text, code=7)" in step.error.traceback
    assert "_runtime" not in step.error.traceback


async def test_failures_are_retried(client: PolosClient, tmp_path: Path) -> None:
    path = str(tmp_path / "tries")
    assert await outcome(client, f.refuse_twice, path, retries=2, backoff=0) == 2


async def test_only_the_given_exceptions_are_retried(client: PolosClient, tmp_path: Path) -> None:
    path = tmp_path / "tries"
    options: dict[str, Any] = {"retries": 5, "backoff": 0, "retry_on": ValueError}
    assert type(await failure(client, f.refuse_twice, str(path), **options)) is ConnectionError
    assert path.read_text() == "x"


@pytest.mark.parametrize(
    ("fn", "retry_on", "attempts"),
    [
        (f.give_up, Exception, 1),
        (f.lock_forever, Exception, 1),
        (f.lock, Exception, 2),
        (f.lock, OSError, 2),
        (f.lock, ValueError, 1),
        (f.lock, lambda error: "busy" in str(error), 2),
    ],
)
async def test_retry_on_applies_to_a_failure_in_a_process(
    client: PolosClient, fn: Callable[[], Any], retry_on: Any, attempts: int
) -> None:
    @workflow(id="judged")
    async def judged(ctx: WorkflowContext) -> None:
        await ctx.step.run("step", fn, process=True, retries=1, backoff=0, retry_on=retry_on)

    async with worker(client):
        handle = await judged.invoke(client)
        with pytest.raises(StepError):
            await handle.result(60)
    (step,) = (await runs.get(client, handle.id)).steps
    assert step.attempt == attempts


async def test_sys_exit_ends_the_call_and_not_the_process(client: PolosClient) -> None:
    assert type(await failure(client, f.leave, 3, retries=5)) is SystemExit


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGKILL])
async def test_a_signal_that_kills_the_process_is_named(client: PolosClient, number: int) -> None:
    cause = await failure(client, f.die, int(number))
    assert isinstance(cause, StepCrashedError)
    assert (cause.step, cause.signal, cause.exit_code) == ("step", number, None)
    assert f"killed by {signal.Signals(number).name}" in str(cause)
    assert cause.peak_memory is not None
    assert ("lack of memory" in str(cause)) == (number == signal.SIGKILL)


async def test_an_exit_code_is_named(client: PolosClient) -> None:
    cause = await failure(client, f.vanish, 7)
    assert isinstance(cause, StepCrashedError)
    assert (cause.signal, cause.exit_code) == (None, 7)


async def test_peak_memory_is_that_of_the_step(client: PolosClient) -> None:
    # The system accounts the memory of this process to its children, so the step needs more.
    size = memory.peak_so_far() + (200 << 20)
    cause = await failure(client, f.allocate_and_die, size)
    assert isinstance(cause, StepCrashedError)
    assert cause.peak_memory is not None
    assert size <= cause.peak_memory < 2 * size


async def test_a_crash_is_retried_in_a_new_process(client: PolosClient, tmp_path: Path) -> None:
    path = str(tmp_path / "crashed")
    assert await outcome(client, f.die_once, path, retries=1, backoff=0) == "survived"


async def test_closed_descriptors_are_a_crash(client: PolosClient) -> None:
    assert isinstance(await failure(client, f.close_descriptors), StepCrashedError)


async def test_a_copy_of_the_process_answers_nothing(client: PolosClient) -> None:
    assert await outcome(client, f.fork_and_return) == "parent"


async def test_a_process_that_died_while_idle_is_replaced(
    client: PolosClient, eventually: Eventually
) -> None:
    @workflow
    async def asks(ctx: WorkflowContext) -> int:
        first = await ctx.step.run("first", f.process_id, process=True)
        os.kill(first, signal.SIGKILL)
        await eventually(lambda: has_exited(first))
        return await ctx.step.run("second", f.process_id, process=True)

    async with worker(client):
        assert await asks.run(client, timeout=60) > 0


async def test_a_result_that_cannot_be_stored_is_final(client: PolosClient) -> None:
    with pytest.raises(StepSerializationError, match="step `step`"):
        await outcome(client, f.unstorable, retries=5)


# -- what is rejected -----------------------------------------------------------------------------


def rejected() -> list[Any]:
    def inner() -> int:
        return 0

    return [
        pytest.param(lambda: 0, "a lambda was given", id="lambda"),
        pytest.param(inner, "a function inside another function", id="nested"),
        pytest.param(f.Office().method, "a method of an object", id="method"),
        pytest.param(functools.partial(f.process_id), "functools.partial", id="partial"),
        pytest.param([].append, "an object of type", id="built-in method"),
    ]


@pytest.mark.parametrize(("fn", "message"), rejected())
async def test_a_function_that_cannot_be_imported_is_rejected(
    client: PolosClient, fn: Callable[..., Any], message: str
) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        await outcome(client, fn, retries=5)


async def test_a_function_whose_name_means_another_is_rejected(
    client: PolosClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = f.process_id
    monkeypatch.setattr(f, "process_id", f.vanish)
    with pytest.raises(InvalidArgumentError, match="is not the given function"):
        await outcome(client, original)


async def test_a_module_that_the_process_cannot_import_is_rejected(
    client: PolosClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "only_here.py"
    source.write_text("def work(): return 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    import only_here  # type: ignore[import-not-found]

    source.write_text("raise RuntimeError('not again')\n")
    with pytest.raises(InvalidArgumentError, match=r"cannot import `only_here`.*not again"):
        await outcome(client, only_here.work, retries=5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"process": "yes"}, "process: `yes` given, expected True or False"),
        ({"memory": "1G"}, "only a process can be limited"),
        ({"process": True, "memory": "much"}, "memory: `much` given, expected a size such as"),
        ({"process": True, "memory": True}, "memory: `True` given"),
        ({"process": True, "memory": "1M"}, "expected at least 32M"),
        ({"process": True, "memory": -1}, "expected at least 32M"),
    ],
)
async def test_options_are_checked(
    client: PolosClient, options: dict[str, Any], message: str
) -> None:
    @workflow
    async def gives(ctx: WorkflowContext) -> None:
        await ctx.step.run("step", f.process_id, **options)

    async with worker(client):
        with pytest.raises(InvalidArgumentError, match=message):
            await gives.run(client, timeout=60)


async def test_arguments_that_cannot_be_stored_are_rejected(client: PolosClient) -> None:
    with pytest.raises(StepSerializationError, match="argument 1"):
        await outcome(client, f.untyped, threading.Lock(), retries=5)


class Undeclared(enum.Enum):
    A = 1


async def test_an_argument_whose_type_is_not_declared_is_rejected(client: PolosClient) -> None:
    with pytest.raises(InvalidArgumentError, match=r"argument 1 holds a .*annotation of"):
        await outcome(client, f.untyped, Undeclared.A, retries=5)


# -- limits ---------------------------------------------------------------------------------------


async def test_memory_is_limited(client: PolosClient) -> None:
    cause = await failure(client, f.allocate, 300 << 20, memory="128M")
    assert type(cause) is MemoryError
    assert "the step's process may use 128M (memory=)" in cause.__notes__


async def test_the_limit_ends_with_the_step(client: PolosClient) -> None:
    @workflow
    async def allocates(ctx: WorkflowContext) -> list[int]:
        with suppress(StepError):
            await ctx.step.run("much", f.allocate, 300 << 20, process=True, memory="128M")
        return [
            await ctx.step.run("less", f.allocate, 30 << 20, process=True, memory="128M"),
            await ctx.step.run("without", f.allocate, 300 << 20, process=True),
        ]

    async with worker(client):
        assert await allocates.run(client, timeout=60) == [30 << 20, 300 << 20]


@pytest.mark.parametrize("fn", [f.hang, f.hang_stubbornly, f.hang_with_the_lock])
async def test_a_hung_process_is_killed_at_its_timeout(
    client: PolosClient, pipe: Pipe, fn: Callable[[str], None]
) -> None:
    @workflow
    async def hangs(ctx: WorkflowContext) -> None:
        await ctx.step.run("hang", fn, pipe.path, process=True, timeout=1_000)

    async with worker(client) as running:
        handle = await hangs.invoke(client)
        (pid,) = await pipe.numbers()
        executor = running._executor
        assert executor is not None
        executor.timers.fire(list(executor.timers._pending))  # the time limit passes
        with pytest.raises(StepError, match="TimeoutError: step `hang` took longer than"):
            await handle.result(timeout=60)
        assert not is_running(pid)


async def test_what_the_process_has_started_is_killed_too(
    client: PolosClient, pipe: Pipe, eventually: Eventually
) -> None:
    @workflow
    async def hangs(ctx: WorkflowContext) -> None:
        await ctx.step.run("hang", f.hang_with_a_child, pipe.path, process=True)

    async with worker(client):
        handle = await hangs.invoke(client)
        numbers = await pipe.numbers()
        assert all(map(is_running, numbers))
        await runs.cancel(client, handle.id)
        with pytest.raises(RunCancelledError):
            await handle.result(timeout=60)
        await eventually(lambda: not any(map(is_running, numbers)))


async def test_a_worker_has_at_most_as_many_processes_as_it_may(
    client: PolosClient, tmp_path: Path, eventually: Eventually
) -> None:
    pipes = [Pipe(tmp_path / f"pipe-{n}") for n in range(3)]
    answers = [Pipe(tmp_path / f"answer-{n}") for n in range(3)]

    @workflow
    async def waits(ctx: WorkflowContext, n: int) -> int:
        started, answer = pipes[n].path, answers[n].path
        return await ctx.step.run("wait", f.wait_for, started, answer, process=True)

    async with worker(client, processes=2) as running:
        handles = [await waits.invoke(client, n) for n in range(2)]
        numbers = [await pipe.numbers() for pipe in pipes[:2]]
        executor = running._executor
        assert executor is not None
        third = await waits.invoke(client, 2)
        await eventually(lambda: executor.processes._waiting)
        ids = sorted(itertools.chain(*numbers))
        assert sorted(executor.processes.processes()) == ids
        for answer in answers[:1]:
            await asyncio.to_thread(Path(answer.path).write_text, "")
        (pid,) = await pipes[2].numbers()
        assert [pid] in numbers
        for answer in answers[1:]:
            await asyncio.to_thread(Path(answer.path).write_text, "")
        results = [await handle.result(timeout=60) for handle in (*handles, third)]
        assert sorted(set(results)) == ids


# -- no process is left behind --------------------------------------------------------------------


async def test_a_cancelled_run_ends_its_process(client: PolosClient, pipe: Pipe) -> None:
    @workflow
    async def hangs(ctx: WorkflowContext) -> None:
        await ctx.step.run("hang", f.hang_stubbornly, pipe.path, process=True)

    async with worker(client):
        handle = await hangs.invoke(client)
        (pid,) = await pipe.numbers()
        await runs.cancel(client, handle.id)
        with pytest.raises(RunCancelledError):
            await handle.result(timeout=60)
        assert not is_running(pid)


async def test_a_worker_that_closes_ends_its_processes(client: PolosClient, pipe: Pipe) -> None:
    idle = []

    @workflow
    async def hangs(ctx: WorkflowContext) -> None:
        idle.append(await ctx.step.run("idle", f.process_id, process=True))
        await asyncio.gather(
            ctx.step.run("hang", f.hang_with_the_lock, pipe.path, process=True),
            ctx.step.run("other", f.process_id, process=True),
        )

    async with worker(client, processes=2) as running:
        await hangs.invoke(client)
        (pid,) = await pipe.numbers()
        executor = running._executor
        assert executor is not None
        ids = executor.processes.processes()
    assert pid in ids
    assert not any(map(is_running, ids))


async def test_a_process_has_a_session_of_its_own(client: PolosClient) -> None:
    pid, session, group = await outcome(client, f.session_and_group)
    assert pid == session == group != os.getpgrp()


async def test_a_process_reacts_to_sigterm_whatever_the_worker_does(client: PolosClient) -> None:
    assert await outcome(client, f.signals_of_the_process) == (True, True)


# -- virtual time ---------------------------------------------------------------------------------


async def test_processes_execute_in_virtual_time(tmp_path: Path) -> None:
    path = str(tmp_path / "tries")

    @workflow
    async def tries(ctx: WorkflowContext) -> int:
        return await ctx.step.run(
            "try", f.refuse_twice, path, process=True, timeout=60, retries=2, backoff=10
        )

    async with polos.testing.clock("2026-01-01T00:00+00:00") as time:
        before = time.now
        assert await tries.run(time.client) == 2
        assert 10 <= (time.now - before).total_seconds() <= 30  # only the backoff took time


async def test_the_real_time_of_a_process_is_no_virtual_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The clock waits for nothing else that takes real time.
    monkeypatch.setattr(_virtual_time, "_TIMEOUT", 0.0)

    # It could continue by letting the run time out while the process starts.
    @workflow(timeout=3600)
    async def computes(ctx: WorkflowContext) -> int:
        return await ctx.step.run("compute", f.process_id, process=True)

    async with polos.testing.clock("2026-01-01T00:00+00:00") as time:
        before = time.now
        assert await computes.run(time.client) != os.getpid()
        assert time.now == before


def test_the_tests_of_the_page_pass(tmp_path: Path) -> None:
    page = Path(__file__).parents[2] / "docs" / "isolated-steps.md"
    blocks = re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    tests = [block for block in blocks if "def test_" in block]
    assert tests
    for number, block in enumerate(tests):
        (tmp_path / f"test_block_{number}.py").write_text(block)
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\n"
    )
    command = [sys.executable, "-m", "pytest", "-p", "pytest_polos", "-W", "error"]
    completed = subprocess.run(
        [*command, "-p", "no:cacheprovider", "--import-mode=importlib", tmp_path],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(page.parents[1] / "python")},
        capture_output=True,
        text=True,
    )
    assert completed.returncode == 0, completed.stdout
    assert f"{len(tests)} passed" in completed.stdout


async def test_an_injected_fault_replaces_the_process() -> None:
    @workflow
    async def asks(ctx: WorkflowContext) -> int:
        return await ctx.step.run("ask", f.process_id, process=True, retries=1)

    async with polos.testing.clock("2026-01-01T00:00+00:00") as time:
        time.fail_step("ask", error=StepCrashedError("killed", signal=11))
        assert await asks.run(time.client) != os.getpid()
