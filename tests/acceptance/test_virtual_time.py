"""Virtual time goes from one event to the next; what lies between costs nothing."""

from __future__ import annotations

from datetime import timedelta

from counting import lines_executed

import polos.testing
from polos import WorkflowContext, schedules, workflow


async def test_ten_years_of_durable_sleep_pass_in_no_time() -> None:
    @workflow
    async def patient(ctx: WorkflowContext) -> str:
        await ctx.step.sleep("ten years", timedelta(days=3_652))
        return "rested"

    async with polos.testing.clock("2026-01-01T00:00+00:00") as t:
        handle = await patient.invoke(t.client)
        await t.advance(days=3_651)
        assert await handle.status() == "waiting"
        await t.advance(days=1)
        assert await handle.result() == "rested"


async def test_a_year_of_a_daily_schedule_is_run_at_once() -> None:
    @workflow(schedule="0 9 * * *")
    async def daily(ctx: WorkflowContext) -> None:
        await ctx.step.run("count", len, [1])

    async with polos.testing.clock("2026-01-01T00:00+00:00") as t:
        await t.advance(days=365)
        assert len(await t.runs(workflow=daily, status="succeeded")) == 365


async def test_a_yearly_schedule_fires_for_a_century() -> None:
    @workflow(schedule="@yearly")
    async def yearly() -> None: ...

    async with polos.testing.clock("2026-06-01T00:00+00:00") as t:
        await t.advance(days=36_525)
        assert len(await t.runs(workflow="yearly", status="succeeded")) == 100


async def test_a_slow_handler_makes_its_worker_miss_nothing() -> None:
    seen = []

    @workflow(schedule="0 * * * *")
    async def hourly() -> None:
        seen.append(t.now)

    @workflow
    async def slow(ctx: WorkflowContext) -> None:
        await ctx.step.sleep("half a day", timedelta(hours=12))

    async with polos.testing.clock("2026-01-01T00:30+00:00") as t:
        await slow.invoke(t.client)
        await t.advance(hours=12)

    assert [now.hour for now in seen] == list(range(1, 13))


def test_the_same_runs_cost_the_same_however_far_apart_they_are() -> None:
    @workflow(schedule=True)
    def job(ctx: WorkflowContext) -> None: ...

    def lines_for(days: int) -> int:
        """What 100 runs cost, one every so many days."""
        with polos.testing.clock("2026-01-01T00:00+00:00") as t:
            schedules.sync.create(t.client, job, every=timedelta(days=days))
            lines = lines_executed(lambda: t.advance(days=100 * days))
            assert len(t.runs(workflow=job, status="succeeded")) == 100
        return lines

    lines_for(1)  # imports what it needs
    assert lines_for(10) < 2 * lines_for(1)
