"""Programs with steps in processes: no process outlives its worker, however that ends."""

from __future__ import annotations

import os
import signal
import textwrap
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

Start = Callable[..., Any]
Eventually = Callable[[Callable[[], Any]], Awaitable[Any]]

pytestmark = pytest.mark.usefixtures("own_database")

APP = """
    import asyncio, os, re, signal, subprocess, sys
    import polos
    from polos import PolosClient, Worker, WorkflowContext, workflow

    def tell(*numbers):
        with open("pipe", "w") as pipe:
            print(*numbers, file=pipe)

    def hang():
        tell(os.getpid())
        signal.pause()

    def hang_with_the_lock():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        tell(os.getpid())
        re.match(r"(a+)+$", "a" * 64 + "b")

    def hang_with_a_child():
        child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
        tell(os.getpid(), child.pid)
        child.wait()

    def wait_for_answer() -> str:
        tell(os.getpid(), os.getppid())
        with open("answer") as pipe:
            pipe.read()
        return "answered"

    def add(a: int, b: int) -> int:
        print("adding in", __name__, flush=True)
        return a + b

    FUNCTION = globals()[os.environ.get("FUNCTION", "hang")]

    @workflow
    async def calls(ctx: WorkflowContext) -> str:
        return await ctx.step.run("call", FUNCTION, process=True)

    @workflow
    async def adds(ctx: WorkflowContext) -> int:
        return await ctx.step.run("add", add, 1, 2, process=True)
"""

MAIN = """
    async def main():
        if "OWN_GROUP" in os.environ:
            os.setpgrp()
        async with PolosClient() as client:
            worker = Worker(client, drain=60)
            running = asyncio.ensure_future(worker.run())
            handle = await calls.invoke(client)
            if "FORK" in os.environ:
                await asyncio.to_thread(sys.stdin.readline)
                fork = os.fork()
                if fork == 0:
                    signal.pause()
                print("forked", fork, flush=True)
            await running
            print(await handle.status(), flush=True)

    if __name__ == "__main__":
        asyncio.run(main())
"""


def is_running(pid: int) -> bool:
    """Return whether a process exists and isn't a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.fixture
def pipe(tmp_path: Path) -> Callable[[], list[int]]:
    """Read what a step has written."""
    os.mkfifo(tmp_path / "pipe")
    return lambda: [int(number) for number in (tmp_path / "pipe").read_text().split()]


Numbers = Callable[[], list[int]]


@pytest.mark.parametrize("function", ["hang", "hang_with_the_lock", "hang_with_a_child"])
async def test_a_killed_worker_leaves_no_process(
    start: Start, pipe: Numbers, eventually: Eventually, function: str
) -> None:
    program = start(APP + MAIN, env={"FUNCTION": function})
    numbers = pipe()
    assert all(map(is_running, numbers))
    program.kill()
    await eventually(lambda: not any(map(is_running, numbers)))


async def test_a_fork_of_a_killed_worker_keeps_no_process(
    start: Start, pipe: Numbers, eventually: Eventually
) -> None:
    program = start(APP + MAIN, env={"FORK": "1"})
    numbers = pipe()
    program.send_line("fork")
    fork = int(program.wait_for_line("forked"))
    try:
        program.kill()
        await eventually(lambda: not any(map(is_running, numbers)))
        assert is_running(fork)
    finally:
        os.kill(fork, signal.SIGKILL)


def test_ctrl_c_lets_a_step_finish_in_the_drain(
    start: Start, pipe: Numbers, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "answer")
    program = start(APP + MAIN, env={"FUNCTION": "wait_for_answer", "OWN_GROUP": "1"})
    pid, worker = pipe()
    os.killpg(worker, signal.SIGINT)  # as from a terminal
    (tmp_path / "answer").write_text("now")
    assert program.wait_for_line("succeeded") == ""
    assert program.ends() == 0
    assert not is_running(pid)


def test_a_script_that_is_the_program_is_imported(start: Start) -> None:
    program = start(
        APP
        + """
    async def main():
        async with PolosClient() as client, Worker(client):
            print("sum", await adds.run(client), flush=True)

    if __name__ == "__main__":
        asyncio.run(main())
    """
    )
    assert program.wait_for_line("adding in") == "app"
    assert program.wait_for_line("sum") == "3"
    assert program.ends() == 0


def test_a_script_that_starts_a_worker_when_it_is_imported_is_named(start: Start) -> None:
    program = start(
        APP
        + """
    async def main():
        async with PolosClient() as client, Worker(client):
            try:
                await adds.run(client)
            except polos.InvalidArgumentError as error:
                print("error", error, flush=True)

    asyncio.run(main())
    """
    )
    assert 'put that under `if __name__ == "__main__":`' in program.wait_for_line("error")
    assert program.ends() == 0


@pytest.mark.parametrize("how", ["-c", "stdin"])
def test_code_without_a_file_is_rejected(start: Start, how: str) -> None:
    source = """
        import asyncio
        from polos import InvalidArgumentError, PolosClient, Worker, workflow
        def work(): ...
        @workflow
        async def works(ctx):
            await ctx.step.run("work", work, process=True)
        async def main():
            async with PolosClient() as client, Worker(client, app="x"):
                try:
                    await works.run(client)
                except InvalidArgumentError as error:
                    print("error", error, flush=True)
        asyncio.run(main())
    """
    source = textwrap.dedent(source)
    program = start(
        f"""
        import subprocess, sys
        if {how!r} == "-c":
            subprocess.run([sys.executable, "-c", {source!r}])
        else:
            subprocess.run([sys.executable], input={source!r}, text=True)
        """
    )
    assert "a shell, a notebook, or `python -c`" in program.wait_for_line("error")


def test_polos_run_executes_processes(start: Start, tmp_path: Path) -> None:
    often = """
    @workflow(schedule={"every": 1})
    async def often(ctx):
        print("sum", await ctx.step.run("add", add, 1, 2, process=True), flush=True)
    """
    (tmp_path / "tasks.py").write_text(textwrap.dedent(APP + often))
    program = start(
        """
        import sys
        from polos.cli import main
        sys.argv = ["polos", "run", "tasks.py"]
        main()
        """
    )
    assert program.wait_for_line("adding in") == "tasks"
    assert program.wait_for_line("sum") == "3"
    program.signal(signal.SIGINT)
    assert program.ends() == 0
