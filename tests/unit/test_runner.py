"""`asyncio.run` for programs that only run a worker: it always ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest

from polos._runtime.asyncio_run import run_to_end


@pytest.fixture(autouse=True)
def with_short_timeouts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("polos._runtime.asyncio_run._CLEANUP_TIMEOUT", 0.01)


def test_what_a_task_raises_while_the_loop_ends_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def careless() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise ValueError("in the cleanup")

    tasks: list[Any] = []

    async def main() -> None:
        tasks.append(asyncio.ensure_future(careless()))
        await asyncio.sleep(0)

    run_to_end(main())
    assert "a task raised while the loop was shut down" in caplog.text
    assert "in the cleanup" in caplog.text


def test_a_task_that_ignores_its_cancellation_is_abandoned(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("polos._runtime.asyncio_run._TIMEOUT", 0.01)
    tasks: list[Any] = []

    async def stubborn() -> None:
        while True:
            with suppress(asyncio.CancelledError):
                await asyncio.Event().wait()

    async def main() -> None:
        tasks.append(asyncio.create_task(stubborn(), name="stubborn"))
        await asyncio.sleep(0)

    run_to_end(main())
    assert "stubborn ignores its cancellation and is abandoned" in caplog.text


def test_a_generator_that_does_not_come_to_its_end_is_abandoned(
    caplog: pytest.LogCaptureFixture,
) -> None:
    generators: list[Any] = []

    async def endless() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            await asyncio.Event().wait()

    async def main() -> None:
        generator = endless()
        generators.append(generator)
        assert await anext(generator) == 1

    run_to_end(main())
    assert "an async generator does not finish" in caplog.text


def test_ctrl_c_cancels_what_runs_and_is_raised() -> None:
    ended: list[str] = []

    async def main() -> None:
        try:
            asyncio.get_running_loop().call_soon(interrupt)
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_to_end(main())
    assert ended == ["cancelled"]
