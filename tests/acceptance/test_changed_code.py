"""Runs that are resumed with changed code."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest

import polos.testing
from polos import CodeChangedError, WorkflowContext, workflow

START = "2026-01-01T00:30+00:00"

Code = Callable[[WorkflowContext], Awaitable[None]]


async def outcome_of(before: Code, after: Code, **options: int) -> tuple[str, list[str]]:
    """Replace a run's code while it sleeps; return its outcome and the executed steps."""
    code = [before]

    @workflow(id="job", **options)
    async def job(ctx: WorkflowContext) -> str:
        await code[0](ctx)
        return "done"

    async with polos.testing.clock(START) as t:
        handle = await job.invoke(t.client)
        await t.advance(hours=1)
        assert await handle.status() == "waiting"
        code[0] = after
        await t.advance(days=2)
        (run,) = await t.runs()
        if run.status == "failed":
            with pytest.raises(CodeChangedError) as caught:
                await handle.result()
            return str(caught.value), executed
    return run.status, executed


executed: list[str] = []


@pytest.fixture(autouse=True)
def nothing_executed() -> None:
    executed.clear()


async def step(ctx: WorkflowContext, name: str) -> None:
    await ctx.step.run(name, executed.append, name)


async def begun(ctx: WorkflowContext) -> None:
    await step(ctx, "charge")
    await ctx.step.sleep("a day", timedelta(days=1))
    await step(ctx, "ship")


async def test_the_same_code_goes_on() -> None:
    assert await outcome_of(begun, begun) == ("succeeded", ["charge", "ship"])


async def test_a_renamed_step_is_noticed_before_it_is_executed() -> None:
    async def renamed(ctx: WorkflowContext) -> None:
        await step(ctx, "charge card")
        await ctx.step.sleep("a day", timedelta(days=1))
        await step(ctx, "ship")

    error, steps = await outcome_of(begun, renamed)
    assert "`charge card`" in error
    assert "`charge`" in error
    assert steps == ["charge"], "no customer was charged twice"


async def test_a_removed_step_is_noticed() -> None:
    async def removed(ctx: WorkflowContext) -> None:
        await ctx.step.sleep("a day", timedelta(days=1))
        await step(ctx, "ship")

    error, steps = await outcome_of(begun, removed)
    assert "`charge`" in error
    assert steps == ["charge"]


async def test_a_path_that_is_not_recorded_is_noticed_and_not_retried() -> None:
    async def nothing_left(ctx: WorkflowContext) -> None:
        pass

    error, steps = await outcome_of(begun, nothing_left, retries=3)
    assert "its end" in error
    assert steps == ["charge"]


async def test_a_step_added_behind_those_that_are_done_is_fine() -> None:
    async def longer(ctx: WorkflowContext) -> None:
        await begun(ctx)
        await step(ctx, "thank")

    assert await outcome_of(begun, longer) == ("succeeded", ["charge", "ship", "thank"])


async def test_steps_side_by_side_may_be_replayed_in_any_order() -> None:
    async def both(ctx: WorkflowContext) -> None:
        async def slow() -> None:
            await ctx.step.run("slow", executed.append, "slow")
            await ctx.step.run("later", executed.append, "later")

        await ctx.step.gather(slow(), step(ctx, "quick"))
        await ctx.step.sleep("a day", timedelta(days=1))
        await step(ctx, "end")

    status, steps = await outcome_of(both, both)
    assert status == "succeeded"
    assert sorted(steps) == ["end", "later", "quick", "slow"]
