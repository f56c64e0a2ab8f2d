"""The pytest plugin, in separate runs of pytest and in this one."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from polos import WorkflowContext, workflow
from polos.testing import BlockingVirtualTime, VirtualTime

PYTHON = Path(__file__).parents[2] / "python"

Pytest = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run_pytest(tmp_path: Path) -> Pytest:
    """``run_pytest(source, *arguments)``: run pytest on a file of tests."""

    def run(source: str, *, mode: str = "auto") -> subprocess.CompletedProcess[str]:
        is_anyio = mode == "anyio"
        scope = "asyncio_default_fixture_loop_scope = function"
        settings = "" if is_anyio else f"asyncio_mode = {mode}\n{scope}\n"
        (tmp_path / "pytest.ini").write_text(f"[pytest]\n{settings}")
        (tmp_path / "test_it.py").write_text(textwrap.dedent(source))
        return subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "pytest_polos", "-W", "error",
             "-p", "no:asyncio" if is_anyio else "no:anyio", "-p", "no:cacheprovider",
             "-p", "no:randomly",
             "--strict-markers", "test_it.py"],
            cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(PYTHON), "PYTEST_ADDOPTS": ""},
            capture_output=True, text=True,
        )  # fmt: skip

    return run


WORKFLOWS = """
import polos
import pytest
from polos import workflow

@workflow(schedule="0 9 * * *")
async def daily(ctx):
    await ctx.step.run("count", len, [1, 2])
"""


async def test_an_async_test_here(polos_clock: VirtualTime) -> None:
    @workflow(schedule="0 9 * * *")
    async def daily(ctx: WorkflowContext) -> None: ...

    await polos_clock.advance(days=2)
    assert len(await polos_clock.runs(workflow=daily)) == 2


@pytest.mark.polos_clock("2026-03-07T12:00-05:00", concurrency=1)
def test_a_sync_test_here(polos_clock: BlockingVirtualTime) -> None:
    @workflow(schedule={"cron": "30 2 * * *", "timezone": "America/New_York"})
    async def nightly() -> None: ...

    polos_clock.advance(days=1)
    assert [f"{run.timestamp:%H:%M}" for run in polos_clock.runs()] == ["03:00"]


def test_the_plugin_imports_nothing_of_polos_before_a_fixture_is_used(run_pytest: Pytest) -> None:
    completed = run_pytest("""
        import sys
        def test_without():
            assert "pytest_polos" in sys.modules
            assert not [name for name in sys.modules if name.partition(".")[0] == "polos"]
        def test_with(polos_clock):
            assert "polos" in sys.modules
    """)
    assert "2 passed" in completed.stdout, completed.stdout


@pytest.mark.parametrize("mode", ["auto", "strict"])
def test_it_works_with_pytest_asyncio(run_pytest: Pytest, mode: str) -> None:
    mark = "@pytest.mark.asyncio" if mode == "strict" else ""
    completed = run_pytest(
        WORKFLOWS
        + f"""
{mark}
@pytest.mark.polos_clock("2026-05-01T00:00Z")
async def test_it(polos_clock):
    await polos_clock.advance(days=2)
    assert [run.timestamp.day for run in await polos_clock.runs()] == [1, 2]

class TestClass:
    {mark}
    async def test_in_a_class(self, polos_clock):
        await polos_clock.advance(days=1)
        assert len(await polos_clock.runs()) == 1
""",
        mode=mode,
    )
    assert "2 passed" in completed.stdout, completed.stdout


def test_it_works_with_anyio_s_plugin(run_pytest: Pytest) -> None:
    completed = run_pytest(
        WORKFLOWS
        + """
@pytest.fixture
def anyio_backend():
    return "asyncio"

@pytest.fixture
async def first_day(polos_clock):
    await polos_clock.advance(days=1)

@pytest.mark.anyio
async def test_it(first_day, polos_clock):
    await polos_clock.advance(days=1)
    assert len(await polos_clock.runs()) == 2
""",
        mode="anyio",
    )
    assert "1 passed" in completed.stdout, completed.stdout


def test_a_failing_test_says_what_happened(run_pytest: Pytest) -> None:
    completed = run_pytest(
        WORKFLOWS
        + """
async def test_async(polos_clock):
    polos_clock.fail_step("count", error=ValueError("can't count"))
    await polos_clock.advance(days=1)
    assert [run.status for run in await polos_clock.runs()] == ["succeeded"]

def test_sync(polos_clock):
    polos_clock.advance(days=1)
    assert not polos_clock.runs()

async def test_idle_fault(polos_clock):
    polos_clock.crash_at("cuont")
    await polos_clock.advance(days=1)
"""
    )
    assert "3 failed" in completed.stdout, completed.stdout
    assert "2026-01-01 09:00:00+0000 daily failed: polos.exceptions.StepError" in completed.stdout
    assert "count: failed: ValueError: can't count" in completed.stdout
    assert "2026-01-01 09:00:00+0000 daily succeeded" in completed.stdout
    assert "a fault never happened: crash_at('cuont', when='before_commit')" in completed.stdout


def test_workflows_of_a_test_are_forgotten(run_pytest: Pytest) -> None:
    completed = run_pytest(
        WORKFLOWS
        + """
def test_one(polos_clock):
    @workflow(id="more", schedule="0 10 * * *")
    async def more(): ...
    polos_clock.advance(days=1)
    assert len(polos_clock.runs()) == 2

def test_two(polos_registry):
    @workflow(id="more")
    async def another(): ...

def test_three(polos_clock):
    polos_clock.advance(days=1)
    assert len(polos_clock.runs()) == 1
"""
    )
    assert "3 passed" in completed.stdout, completed.stdout


def test_nothing_is_left_behind_when_another_fixture_fails(run_pytest: Pytest) -> None:
    completed = run_pytest(
        WORKFLOWS
        + """
@pytest.fixture
def broken(polos_clock):
    polos_clock.advance(days=1)
    raise OSError("no disk")

def test_one(broken): ...

def test_two(polos_clock):
    polos_clock.advance(days=1)
"""
    )
    assert "1 passed, 1 error" in completed.stdout, completed.stdout


def test_a_wrong_marker_is_named(run_pytest: Pytest) -> None:
    said_of = {
        '"noon"': "start: `noon` isn't an ISO datetime",
        '"2026-01-01"': "has no time zone",
        '"2026-01-01T00:00Z", 3': "takes one start, 2 arguments were given",
        "concurrency=0": "concurrency: `0` given",
    }
    tests = [
        f"""
@pytest.mark.polos_clock({marker})
def test_{number}(polos_clock):
    polos_clock.advance(days=1)
"""
        for number, marker in enumerate(said_of)
    ]
    completed = run_pytest(WORKFLOWS + "".join(tests))
    assert "1 failed, 3 errors" in completed.stdout, completed.stdout
    for output in said_of.values():
        assert output in completed.stdout
