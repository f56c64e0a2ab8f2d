"""What a run was started with, and lists without large fields."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import polos.testing
from polos import WorkflowContext, runs, schedules, workflow

START = "2026-03-06T05:00:00+00:00"


async def test_a_run_has_what_it_was_started_with():
    @workflow(id="child")
    async def child(ctx: WorkflowContext, payload: dict[str, int]) -> int:
        return payload["n"]

    @workflow(id="parent")
    async def parent(ctx: WorkflowContext, payload: tuple[str, int]) -> int:
        return await ctx.step.invoke(child, {"n": payload[1]})

    async with polos.testing.clock(START) as time:
        handle = await parent.invoke(time.client, ("tea", 7))
        await time.advance(seconds=5)
        run = await runs.get(time.client, handle.id)
        assert run.payload == ("tea", 7)
        assert run.parent is None
        [below] = await time.runs(workflow="child")
        assert below.payload is None  # lists leave it out
        whole = await runs.get(time.client, below.id)
        assert whole.payload == {"n": 7}
        assert whole.parent == handle.id


async def test_a_scheduled_run_has_its_input_and_the_slots_around_it():
    @workflow(id="digest", schedule=True)
    async def digest(ctx: WorkflowContext, payload: Any) -> None: ...

    async with polos.testing.clock(START) as time:
        await schedules.create(
            time.client, digest, every=timedelta(hours=1), input={"limit": 3}, timezone="Asia/Tokyo"
        )
        await time.advance(hours=2)
        first, second = await time.runs()
        run = await runs.get(time.client, second.id)
        assert run.input == {"limit": 3}
        assert run.payload is None
        assert run.last_timestamp == first.timestamp
        assert run.timestamp is not None
        assert run.upcoming == run.timestamp + timedelta(hours=1)
        assert str(run.upcoming.tzinfo) == "Asia/Tokyo"


async def test_brief_lists_have_no_results_and_no_tracebacks():
    @workflow(id="fine")
    async def fine() -> str:
        return "x" * 1_000

    @workflow(id="bad")
    async def bad() -> None:
        raise ValueError("why")

    async with polos.testing.clock(START) as time:
        await fine.invoke(time.client)
        await bad.invoke(time.client)
        await time.advance(seconds=1)
        whole = {run.workflow: run for run in await runs.list(time.client)}
        brief = {run.workflow: run for run in await runs.list(time.client, brief=True)}
    assert whole["fine"].result == "x" * 1_000
    assert brief["fine"].result is None
    assert brief["fine"].status == "succeeded"
    error, short = whole["bad"].error, brief["bad"].error
    assert error is not None
    assert short is not None
    assert (short.type, short.message) == (error.type, error.message) == ("ValueError", "why")
    assert error.traceback
    assert short.traceback == ""


async def test_a_step_that_slept_or_was_tried_again_began_when_it_was_begun_first():
    tries: list[str] = []

    def flaky() -> None:
        tries.append("")
        if len(tries) < 3:
            raise ConnectionError("not yet")

    @workflow(id="patient")
    async def patient(ctx: WorkflowContext) -> None:
        await ctx.step.sleep("a while", timedelta(hours=1))
        await ctx.step.run("flaky", flaky, retries=3, backoff=60)

    async with polos.testing.clock(START) as time:
        begun = time.now
        handle = await patient.invoke(time.client)
        await time.advance(hours=5)
        slept, tried = (await runs.get(time.client, handle.id)).steps
        assert slept.started_at == begun
        assert slept.finished_at == begun + timedelta(hours=1)
        assert tried.started_at == slept.finished_at
        assert tried.finished_at is not None
        assert tried.finished_at - tried.started_at >= timedelta(minutes=1)
