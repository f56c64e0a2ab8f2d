"""Child runs: ``ctx.step.invoke``."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Any

import pytest
from pydantic import BaseModel

import polos.testing
from polos import (
    DuplicateStepError,
    Limit,
    PolosClient,
    RunCancelledError,
    StepError,
    SyncWorkflowContext,
    Worker,
    Workflow,
    WorkflowContext,
    WorkflowNotFoundError,
    runs,
    workflow,
)
from polos._runtime.executor import Executor

START = "2026-01-01T00:30+00:00"


class Order(BaseModel):
    id: int
    at: datetime


async def test_children_may_have_keys_and_priorities_of_their_own() -> None:
    running: list[str] = []

    @workflow(id="child", concurrency=Limit(10, per_key=1))
    async def child(ctx: WorkflowContext, n: int) -> str:
        running.append(ctx.key)
        await ctx.step.sleep("work", 3)
        return ctx.key

    @workflow(id="parent")
    async def parent(ctx: WorkflowContext) -> list[str]:
        steps = [
            ctx.step.invoke(child, n, name=f"c{n}", key=f"u{n % 2}", priority=n) for n in range(4)
        ]
        return await ctx.step.gather(*steps)

    @workflow(id="sync-parent")
    def sync_parent(ctx: SyncWorkflowContext) -> str:
        return ctx.step.invoke(child, 7, key="u7", priority=9)

    async with polos.testing.clock(START) as t:
        handle = await parent.invoke(t.client)
        await t.advance(seconds=1)
        # Those with the same key are in progress one after the other, the others beside each other.
        assert sorted(running) == ["u0", "u1"]
        found = await runs.list(t.client, workflow=child)
        assert sorted((run.key, run.priority) for run in found) == [
            ("u0", 0),
            ("u0", 2),
            ("u1", 1),
            ("u1", 3),
        ]
        await t.advance(seconds=30)
        assert await handle.result(0) == ["u0", "u1", "u0", "u1"]
        other = await sync_parent.invoke(t.client)
        await t.advance(seconds=30)
        assert await other.result(0) == "u7"
        (newest,) = await runs.list(t.client, workflow=child, key="u7")
        assert newest.priority == 9


@pytest.mark.parametrize(
    ("options", "reason"),
    [({"key": ""}, "key: "), ({"priority": 10}, "priority: `10` given")],
)
async def test_a_child_is_not_started_with_options_that_are_not_valid(
    options: dict[str, Any], reason: str
) -> None:
    @workflow(id="child")
    async def child(ctx: WorkflowContext) -> None: ...

    @workflow(id="parent")
    async def parent(ctx: WorkflowContext) -> None:
        await ctx.step.invoke(child, **options)

    async with polos.testing.clock(START) as t:
        handle = await parent.invoke(t.client)
        await t.advance(seconds=1)
        with pytest.raises(polos.InvalidArgumentError, match=reason):
            await handle.result(0)
        assert await runs.list(t.client, workflow="child") == []


async def test_a_childs_result_comes_back_as_its_type() -> None:
    @workflow
    async def place(ctx: WorkflowContext, payload: int) -> Order:
        return Order(id=payload, at=await ctx.step.now("now"))

    results: list[Any] = []

    @workflow
    async def shop(ctx: WorkflowContext) -> None:
        results.append(await ctx.step.invoke(place, 7))

    async with polos.testing.clock(START) as t:
        handle = await shop.invoke(t.client)
        await t.advance(minutes=1)
        await handle.result()
        children = await t.runs(workflow="place")
    assert [type(result) for result in results] == [Order]
    assert results[0].id == 7
    assert [(child.origin, child.status) for child in children] == [("child", "succeeded")]


async def test_a_waiting_parent_occupies_no_task_and_its_handler_is_executed_once_more() -> None:
    entered = 0

    @workflow
    async def slow(ctx: WorkflowContext) -> str:
        await ctx.step.sleep("long", timedelta(days=2))
        return "done"

    @workflow
    async def parent(ctx: WorkflowContext) -> str:
        nonlocal entered
        entered += 1
        return await ctx.step.invoke(slow)

    async with polos.testing.clock(START) as t:
        handle = await parent.invoke(t.client)
        await t.advance(days=1)
        assert await handle.status() == "waiting"
        assert entered == 1
        await t.advance(days=2)
        assert await handle.result() == "done"
    assert entered == 2


async def test_a_failed_child_fails_the_step_and_a_retry_of_the_parent_has_a_new_child() -> None:
    @workflow
    async def child() -> int:
        count = len(failures)
        if count == 0:
            raise ConnectionError("not yet")
        return count

    failures: list[BaseException | None] = []

    @workflow(retries=1, backoff=1)
    async def parent(ctx: WorkflowContext) -> int:
        try:
            return await ctx.step.invoke(child)
        except StepError as error:
            failures.append(error.__cause__)
            raise

    async with polos.testing.clock(START) as t:
        handle = await parent.invoke(t.client)
        await t.advance(minutes=1)
        assert await handle.result() == 1
        assert [run.status for run in await t.runs(workflow="child")] == ["failed", "succeeded"]
    assert [str(failure) for failure in failures] == ["not yet"]
    assert isinstance(failures[0], ConnectionError)


def waiting_parent() -> Workflow[Any, None]:
    """Register a parent that waits for a child that sleeps."""

    @workflow
    async def child(ctx: WorkflowContext) -> None:
        await ctx.step.sleep("long", timedelta(days=9))

    @workflow
    async def parent(ctx: WorkflowContext) -> None:
        await ctx.step.invoke(child)

    return parent


async def test_cancelling_a_parent_cancels_its_child() -> None:
    parent = waiting_parent()
    async with polos.testing.clock(START) as t:
        handle = await parent.invoke(t.client)
        await t.advance(hours=1)
        await handle.cancel()
        await t.advance(hours=1)
        with pytest.raises(RunCancelledError):
            await handle.result()
        assert [run.status for run in await t.runs()] == ["cancelled", "cancelled"]


async def test_a_parent_is_cancelled_if_its_childs_cancellation_is_noticed_first(
    client: PolosClient, monkeypatch: pytest.MonkeyPatch, eventually: Any
) -> None:
    @workflow
    async def child(ctx: WorkflowContext) -> None:
        await ctx.step.sleep("long", timedelta(days=9))

    @workflow
    async def parent(ctx: WorkflowContext) -> None:
        await ctx.step.gather(*(ctx.step.invoke(child, name=name) for name in ("a", "b")))

    handle_item = Executor._handle

    def handle_late(self: Executor, item: tuple[Any, ...]) -> None:
        """Handle the worker's message about the parent's own cancellation too late."""
        if item[0] != "stop":
            handle_item(self, item)

    monkeypatch.setattr(Executor, "_handle", handle_late)

    async def both_wait() -> bool:
        return len(await runs.list(client, workflow="child", status="waiting")) == 2

    async with Worker(client):
        handle = await parent.invoke(client)
        await eventually(both_wait)
        await handle.cancel()
        with pytest.raises(RunCancelledError):
            await handle.result(timeout=30)
        assert await handle.status() == "cancelled"


async def test_a_cancelled_child_fails_the_step() -> None:
    parent = waiting_parent()
    async with polos.testing.clock(START) as t:
        handle = await parent.invoke(t.client)
        await t.advance(hours=1)
        (run,) = await t.runs(workflow="child")
        await runs.cancel(t.client, run.id)
        await t.advance(hours=1)
        with pytest.raises(StepError) as caught:
            await handle.result()
    assert "cancelled" in str(caught.value)


async def test_several_children_at_once_and_from_a_sync_handler() -> None:
    @workflow
    async def double(ctx: WorkflowContext, payload: int) -> int:
        return payload * 2

    @workflow
    async def fan_out(ctx: WorkflowContext) -> list[int]:
        steps = [ctx.step.invoke(double, n, name=f"double-{n}") for n in range(5)]
        return list(await ctx.step.gather(*steps))

    @workflow
    def sync_parent(ctx: SyncWorkflowContext) -> int:
        return ctx.step.invoke(double, 21)

    async with polos.testing.clock(START) as t:
        first, second = await fan_out.invoke(t.client), await sync_parent.invoke(t.client)
        await t.advance(minutes=1)
        assert await first.result() == [0, 2, 4, 6, 8]
        assert await second.result() == 42


async def test_the_same_child_twice_needs_names_and_an_unknown_one_is_refused() -> None:
    @workflow
    async def child() -> None: ...

    errors: list[BaseException] = []

    @workflow
    async def parent(ctx: WorkflowContext) -> None:
        await ctx.step.invoke(child)
        for wrong in ("child", "chidl"):
            try:
                await ctx.step.invoke(wrong)
            except (DuplicateStepError, WorkflowNotFoundError) as error:
                errors.append(error)

    async with polos.testing.clock(START) as t:
        handle = await parent.invoke(t.client)
        await t.advance(minutes=1)
        await handle.result()
    assert [type(error) for error in errors] == [DuplicateStepError, WorkflowNotFoundError]
    assert "did you mean `child`?" in str(errors[1])


async def test_a_calendar_that_raises_fails_the_run_and_says_so() -> None:
    class Broken:
        def __contains__(self, day: date) -> bool:
            raise OSError("the calendar's server is away")

    @workflow(schedule={"cron": "0 9 * * *", "skip": Broken()})
    async def job() -> None: ...

    async with polos.testing.clock(START) as t:
        await t.advance(days=1)
        (run,) = await t.runs()
    assert run.status == "failed"
    assert run.error is not None
    assert "server is away" in run.error.message


async def test_parking_does_not_count_as_a_cancellation() -> None:
    seen: list[str] = []

    @workflow
    async def careful(ctx: WorkflowContext) -> None:
        try:
            await ctx.step.sleep("night", timedelta(hours=8))
            seen.append("woke")
        except Exception:
            seen.append("an exception")
        finally:
            seen.append("finally")

    async with polos.testing.clock(START) as t:
        handle = await careful.invoke(t.client)
        await t.advance(hours=9)
        await handle.result()
    assert seen == ["finally", "woke", "finally"]
