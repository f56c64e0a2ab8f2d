"""Whatever an application's logging does, its runs start and end."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

import polos.testing
from polos import PolosClient, RunTimeoutError, Worker, WorkflowContext, workflow


class Raising(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def handle(self, record: logging.LogRecord) -> bool:
        self.count += 1
        raise RuntimeError("the log server is away")


@pytest.fixture
def raising() -> Iterator[Raising]:
    handler = Raising()
    logger = logging.getLogger("polos")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(level)


@pytest.mark.parametrize("kind", ["async", "sync", "step"])
async def test_a_run_that_fails_ends_though_its_failure_cant_be_logged(
    client: PolosClient, raising: Raising, kind: str
) -> None:
    def failing() -> None:
        raise ValueError("wrong")

    @workflow(id="failing-async")
    async def failing_async() -> None:
        failing()

    workflow(id="failing-sync")(failing)

    @workflow(id="failing-step")
    async def failing_step(ctx: WorkflowContext) -> None:
        await ctx.step.run("act", failing)

    async with Worker(client, app="tests", drain=0):
        with pytest.raises(Exception, match="wrong"):
            await polos.runs.RunHandle(
                client, (await polos.runs.invoke(client, f"failing-{kind}")).id, None
            ).result(30)
    assert raising.count > 0


async def test_a_handler_that_ignores_its_timeout_is_given_up_all_the_same(
    raising: Raising, ignores_cancellation: Any
) -> None:
    stubborn = workflow(id="stubborn", timeout=1)(ignores_cancellation)
    async with polos.testing.clock("2026-01-01T00:00+00:00") as t:
        handle = await stubborn.invoke(t.client)
        try:
            await t.advance(seconds=30)
            with pytest.raises(RunTimeoutError):
                await handle.result(5)
        finally:
            ignores_cancellation.is_over = True


async def test_missed_slots_that_cannot_be_logged_do_not_prevent_others(raising: Raising) -> None:
    @workflow(id="tick", schedule={"every": timedelta(minutes=1), "catch_up": "none"})
    async def tick() -> None: ...

    async with polos.testing.clock("2026-01-01T00:00:30+00:00") as t:
        await t.set_to(t.now + timedelta(hours=1))
        await t.advance(minutes=3)
        assert len(await t.runs(workflow="tick")) == 3
