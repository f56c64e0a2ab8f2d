"""Virtual time jumps from one event to the next; the time between costs nothing."""

from __future__ import annotations

from datetime import timedelta

from counting import lines_executed

import polos.testing
from polos import SchedulePayload, WorkflowContext, schedules, workflow


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
        """Return the lines executed for 100 runs, one every few days."""
        with polos.testing.clock("2026-01-01T00:00+00:00") as t:
            schedules.sync.create(t.client, job, every=timedelta(days=days))
            lines = lines_executed(lambda: t.advance(days=100 * days))
            assert len(t.runs(workflow=job, status="succeeded")) == 100
        return lines

    lines_for(1)  # imports what it needs
    # A hundred times as far. How often the loop wakes up for a run depends on the machine, too.
    assert lines_for(100) < 10 * lines_for(1)


async def test_runs_that_start_together_have_their_own_workflows_and_zones() -> None:
    seen: dict[str, tuple[str, str]] = {}

    def register(id: str, zone: str) -> None:
        @workflow(id=id, schedule={"cron": "0 * * * *", "timezone": zone})
        async def job(ctx: WorkflowContext, payload: SchedulePayload) -> None:
            seen[id] = (ctx.workflow_id, payload.timezone)

    zones = {"a": "Europe/Paris", "b": "UTC", "c": "Europe/Paris", "d": "Asia/Tokyo", "e": "UTC"}
    for id, zone in zones.items():
        register(id, zone)
    async with polos.testing.clock("2026-01-01T00:30+00:00") as t:
        await t.advance(hours=1)
    assert seen == {id: (id, zone) for id, zone in zones.items()}
