"""Events: ``ctx.step.wait_event`` and ``runs.send``."""

from __future__ import annotations

import asyncio
import threading
from datetime import datetime, timedelta, timezone
from typing import Any, Literal

import pytest
from pydantic import BaseModel

import polos.testing
from polos import (
    DuplicateStepError,
    InvalidArgumentError,
    InvalidStateError,
    PayloadTooLargeError,
    PolosClient,
    RunNotFoundError,
    StepSerializationError,
    StoreUnavailableError,
    SyncWorkflowContext,
    Worker,
    WorkflowContext,
    runs,
    workflow,
)

START = "2026-01-01T00:30+00:00"
THREE_DAYS = timedelta(days=3)


class Approval(BaseModel):
    by: str
    at: datetime | None = None


ADA = Approval(by="ada", at=datetime(2026, 1, 2, tzinfo=timezone.utc))


async def test_an_event_comes_back_as_its_type() -> None:
    @workflow
    async def publish(ctx: WorkflowContext) -> Approval | None:
        return await ctx.step.wait_event("approval", timeout=THREE_DAYS, type=Approval)

    async with polos.testing.clock(START) as t:
        handle = await publish.invoke(t.client)
        await t.advance(hours=1)
        assert await handle.status() == "waiting"
        assert await runs.send(t.client, handle.id, "approval", ADA)
        assert await handle.result() == ADA
        (step,) = await t.steps(handle)
    assert (step.name, step.status, step.wakes_at) == (
        "approval",
        "succeeded",
        datetime(2026, 1, 4, 0, 30, tzinfo=timezone.utc),
    )


async def test_a_wait_ends_with_none_at_its_deadline() -> None:
    @workflow
    async def publish(ctx: WorkflowContext) -> str:
        answer = await ctx.step.wait_event("approval", timeout=THREE_DAYS, type=Approval)
        return "nobody" if answer is None else answer.by

    async with polos.testing.clock(START) as t:
        handle = await publish.invoke(t.client)
        await t.advance(days=2, hours=23, minutes=59)
        assert await handle.status() == "waiting"
        await t.advance(minutes=1)
        assert await handle.status() == "succeeded"
        assert await handle.result() == "nobody"
        with pytest.raises(InvalidStateError, match="succeeded and takes no more events"):
            await runs.send(t.client, handle.id, "approval", ADA)


async def test_a_result_is_awaited_through_the_deadline() -> None:
    @workflow
    async def publish(ctx: WorkflowContext) -> Any:
        return await ctx.step.wait_event("approval", timeout=THREE_DAYS)

    async with polos.testing.clock(START) as t:
        assert await publish.run(t.client) is None
        assert t.now == datetime(2026, 1, 4, 0, 30, tzinfo=timezone.utc)


async def test_a_wait_without_a_timeout_lasts_until_the_event() -> None:
    @workflow
    async def publish(ctx: WorkflowContext) -> Any:
        return await ctx.step.wait_event("approval")

    async with polos.testing.clock(START) as t:
        handle = await publish.invoke(t.client)
        await t.advance(days=5_000)
        assert await handle.status() == "waiting"
        with pytest.raises(TimeoutError, match="nothing is due that could continue it"):
            await handle.result()
        assert await runs.send(t.client, handle.id, "approval", [1, 2])
        assert await handle.result() == [1, 2]


async def test_an_event_before_its_wait_is_kept() -> None:
    @workflow
    async def publish(ctx: WorkflowContext) -> list[Any]:
        await ctx.step.sleep("first", timedelta(hours=1))
        first = await ctx.step.wait_event("approval", timeout=0)
        return [first, await ctx.step.wait_event("other", timeout=0)]

    async with polos.testing.clock(START) as t:
        handle = await publish.invoke(t.client)
        assert await runs.send(t.client, handle.id, "approval", "early")
        assert not await runs.send(t.client, handle.id, "approval", "second")
        assert await handle.result() == ["early", None]
        names = [step.name for step in await t.steps(handle)]
    assert names == ["first", "approval", "other"]


async def test_the_first_event_wins_and_its_key_repeats_the_answer() -> None:
    @workflow
    async def publish(ctx: WorkflowContext) -> Any:
        return await ctx.step.wait_event("approval", timeout=THREE_DAYS)

    async with polos.testing.clock(START) as t:
        handle = await publish.invoke(t.client)
        await t.advance(hours=1)
        send = runs.send
        assert await send(t.client, handle.id, "approval", "ada", idempotency_key="k1")
        assert not await send(t.client, handle.id, "approval", "bob", idempotency_key="k2")
        assert not await send(t.client, handle.id, "approval", "bob")
        assert await send(t.client, handle.id, "approval", "ada", idempotency_key="k1")
        assert await handle.result() == "ada"
        assert await send(t.client, handle.id, "approval", "ada", idempotency_key="k1")


async def test_the_deadline_passes_while_no_worker_runs() -> None:
    @workflow
    async def publish(ctx: WorkflowContext) -> Any:
        return await ctx.step.wait_event("approval", timeout=THREE_DAYS)

    async with polos.testing.clock(START) as t:
        handle = await publish.invoke(t.client)
        await t.advance(hours=1)
        await t.crash()
        await t.advance(days=3)
        assert not await runs.send(t.client, handle.id, "approval", "late")
        await t.restart()
        assert await handle.result() is None
        assert t.now == datetime(2026, 1, 4, 1, 30, tzinfo=timezone.utc)


async def test_an_event_arrives_while_no_worker_runs() -> None:
    @workflow
    async def publish(ctx: WorkflowContext) -> Any:
        return await ctx.step.wait_event("approval", timeout=THREE_DAYS)

    async with polos.testing.clock(START) as t:
        handle = await publish.invoke(t.client)
        await t.advance(hours=1)
        await t.stop()
        assert await runs.send(t.client, handle.id, "approval", "in time")
        await t.advance(days=10)
        await t.restart()
        assert await handle.result() == "in time"


@pytest.mark.parametrize("when", ["before_commit", "after_commit"])
async def test_a_crash_at_the_deadline_changes_nothing(
    when: Literal["before_commit", "after_commit"],
) -> None:
    entered = 0

    @workflow
    async def publish(ctx: WorkflowContext) -> Any:
        nonlocal entered
        entered += 1
        return await ctx.step.wait_event("approval", timeout=THREE_DAYS)

    async with polos.testing.clock(START) as t:
        handle = await publish.invoke(t.client)
        await t.advance(hours=1)
        t.crash_at("approval", when=when)
        await t.advance(days=3)
        assert not await runs.send(t.client, handle.id, "approval", "late")
        await t.restart()
        assert await handle.result() is None
    assert entered == 3


async def test_ten_thousand_waiting_runs_hold_neither_task_nor_thread_nor_permit() -> None:
    @workflow
    async def publish(ctx: WorkflowContext, number: int) -> Any:
        timeout = THREE_DAYS if number % 2 else None
        return await ctx.step.wait_event("approval", timeout=timeout)

    def held() -> tuple[int, int]:
        return len(asyncio.all_tasks()), threading.active_count()

    async with polos.testing.clock(START, concurrency=5) as t:
        first = await publish.invoke(t.client, 0)
        await t.advance(seconds=1)
        assert await first.status() == "waiting"
        before = held()
        handles = await publish.invoke_many(t.client, range(1, 10_000))
        await t.advance(hours=1)
        tasks, threads = held()
        assert (tasks <= before[0], threads <= before[1]) == (True, True), (before, held())
        assert not t.worker._executor.active  # type: ignore[union-attr]
        # More than the permits: each of them is woken and executed.
        woken = [first, *handles[:7], handles[-1]]
        for handle in woken:
            assert await runs.send(t.client, handle.id, "approval", handle.id)
        assert [await handle.result() for handle in woken] == [handle.id for handle in woken]
        assert await handles[7].status() == "waiting"


async def test_a_wait_beside_other_steps_stays_in_place() -> None:
    entered = 0

    @workflow
    async def both(ctx: WorkflowContext) -> list[Any]:
        nonlocal entered
        entered += 1
        return await ctx.step.gather(
            ctx.step.wait_event("a", timeout=THREE_DAYS),
            ctx.step.wait_event("b", timeout=timedelta(days=1)),
            ctx.step.sleep("c", timedelta(hours=5)),
        )

    async with polos.testing.clock(START) as t:
        handle = await both.invoke(t.client)
        await t.advance(hours=10)
        assert await handle.status() == "running"
        assert await runs.send(t.client, handle.id, "a", "A")
        await t.advance(minutes=1)
        assert {step.name for step in await t.steps(handle, status="succeeded")} == {"a", "c"}
        await t.advance(days=1)
        assert not t.worker._executor.active  # type: ignore[union-attr]
        assert await handle.result() == ["A", None, None]
    assert entered == 1


async def test_sync_handlers_wait_as_async_ones_do() -> None:
    @workflow
    def publish(ctx: SyncWorkflowContext) -> list[Any]:
        approval = ctx.step.wait_event("approval", timeout=THREE_DAYS, type=Approval)
        return [approval, ctx.step.wait_event("other", timeout=THREE_DAYS)]

    async with polos.testing.clock(START) as t:
        handle = await publish.invoke(t.client)
        await t.advance(hours=1)
        assert await handle.status() == "waiting"
        assert await runs.send(t.client, handle.id, "approval", ADA)
        assert await handle.result() == [ADA, None]


async def test_plain_data_is_validated() -> None:
    @workflow
    async def publish(ctx: WorkflowContext) -> Approval:
        return await ctx.step.wait_event("approval", type=Approval)

    async with polos.testing.clock(START) as t:
        handle = await publish.invoke(t.client)
        plain = {"by": "ada", "at": "2026-01-02T00:00:00Z"}
        assert await runs.send(t.client, handle.id, "approval", plain)
        assert await handle.result() == ADA


async def test_an_event_that_does_not_fit_fails_the_run_and_says_why() -> None:
    @workflow(retries=3)
    async def publish(ctx: WorkflowContext) -> Approval:
        return await ctx.step.wait_event("approval", type=Approval)

    async with polos.testing.clock(START) as t:
        handle = await publish.invoke(t.client)
        assert await runs.send(t.client, handle.id, "approval", {"from": "ada"})
        with pytest.raises(StepSerializationError) as raised:
            await handle.result()
        text = str(raised.value)
        assert "the event `approval` was received, but it cannot be read as" in text
        assert "Approval" in text
        assert "by" in text
        (run,) = await t.runs()
        assert run.attempt == 1


async def test_a_retry_of_the_run_keeps_its_events() -> None:
    is_strict = True

    @workflow
    async def publish(ctx: WorkflowContext) -> Any:
        if is_strict:
            await ctx.step.wait_event("approval", type=Approval)
        return await ctx.step.wait_event("approval")

    async with polos.testing.clock(START) as t:
        handle = await publish.invoke(t.client)
        assert await runs.send(t.client, handle.id, "approval", {"from": "ada"})
        with pytest.raises(StepSerializationError):
            await handle.result()
        is_strict = False
        await runs.retry(t.client, handle.id)
        assert await handle.result() == {"from": "ada"}


async def test_an_event_for_a_workflow_and_a_key() -> None:
    @workflow(schedule=True)
    async def digest(ctx: WorkflowContext) -> Any:
        return await ctx.step.wait_event("approval")

    async with polos.testing.clock(START) as t:
        due = datetime(2026, 1, 1, 1, tzinfo=timezone.utc)
        for key in ("ada", "bob"):
            await polos.schedules.create(t.client, digest, at=due, key=key)
        send = runs.send
        with pytest.raises(RunNotFoundError, match="no unfinished run of workflow `"):
            await send(t.client, workflow=digest, key="ada", name="approval", payload=1)
        await t.advance(hours=1)
        assert await send(t.client, workflow=digest, key="ada", name="approval", payload=1)
        await t.advance(hours=1)
        assert {run.key: run.status for run in await t.runs()} == {
            "ada": "succeeded",
            "bob": "waiting",
        }
        with pytest.raises(RunNotFoundError):
            await send(t.client, workflow=digest.id, key="ada", name="approval", payload=1)


async def test_a_webhook_that_is_delivered_again_changes_nothing() -> None:
    @workflow(id="onboarding")
    async def onboarding(ctx: WorkflowContext) -> Any:
        return await ctx.step.wait_event("signed", timeout=timedelta(days=9))

    async with polos.testing.clock(START) as t:

        async def deliver(number: int) -> bool:
            return await runs.send(
                t.client,
                workflow=onboarding,
                key="ada",
                name="signed",
                payload=number,
                idempotency_key=f"evt_{number}",
            )

        first = await onboarding.invoke(t.client, key="ada")
        assert await deliver(1)
        assert await first.result() == 1
        assert await deliver(1), "the run has finished"
        second = await onboarding.invoke(t.client, key="ada")
        await t.advance(seconds=1)
        assert await deliver(1), "another run waits"
        assert await second.status() == "waiting"
        assert await deliver(2)
        assert await second.result() == 2
        with pytest.raises(RunNotFoundError):
            await deliver(3)


async def test_several_runs_of_a_key_need_a_run_id() -> None:
    @workflow(id="twin")
    async def twin(ctx: WorkflowContext) -> Any:
        return await ctx.step.wait_event("approval")

    async with polos.testing.clock(START) as t:
        handles = [await twin.invoke(t.client) for _ in range(2)]
        with pytest.raises(InvalidStateError, match="several unfinished runs") as raised:
            await runs.send(t.client, workflow="twin", key="global", name="approval")
        assert all(handle.id in str(raised.value) for handle in handles)


async def test_invalid_values_are_rejected_at_the_call() -> None:
    @workflow
    async def publish(ctx: WorkflowContext) -> str:
        messages = []
        for timeout in (-1, "3 days", timedelta(days=40_000), True):
            with pytest.raises(InvalidArgumentError, match="step `a`, timeout") as raised:
                await ctx.step.wait_event("a", timeout=timeout)  # type: ignore[call-overload]
            messages.append(str(raised.value))
            ctx._active.journal._used.clear()
        with pytest.raises(InvalidArgumentError, match="expected the type itself"):
            await ctx.step.wait_event("a", type="Approval")
        with pytest.raises(InvalidArgumentError, match="event name: expected a non-empty text"):
            await ctx.step.wait_event("")
        with pytest.raises(DuplicateStepError):
            await ctx.step.wait_event("a")
        return "\n".join(messages)

    async with polos.testing.clock(START) as t:
        await publish.run(t.client)
        handle = await publish.invoke(t.client)
        with pytest.raises(InvalidArgumentError, match="event name"):
            await runs.send(t.client, handle.id, "", 1)
        with pytest.raises(InvalidArgumentError, match="idempotency_key"):
            await runs.send(t.client, handle.id, "a", 1, idempotency_key="")
        for wrong in ({}, {"workflow": "w"}, {"key": "k"}):
            with pytest.raises(InvalidArgumentError, match="either a run's id, or"):
                await runs.send(t.client, name="a", **wrong)  # type: ignore[call-overload]
        with pytest.raises(PayloadTooLargeError):
            await runs.send(t.client, handle.id, "a", "x" * (1024 * 1024))
        with pytest.raises(RunNotFoundError):
            await runs.send(t.client, "run_gone", "a", 1)


async def test_an_outage_delays_a_wait_and_a_handlers_event() -> None:
    @workflow
    async def receiver(ctx: WorkflowContext) -> Any:
        await ctx.step.sleep("first", timedelta(hours=1))
        return await ctx.step.wait_event("a", timeout=THREE_DAYS)

    accepted: list[bool] = []

    @workflow
    async def sender(ctx: WorkflowContext, id: str) -> None:
        await ctx.step.sleep("first", timedelta(hours=2))
        accepted.append(await runs.send(t.client, id, "a", 7))

    async with polos.testing.clock(START) as t:
        receiving = await receiver.invoke(t.client)
        sending = await sender.invoke(t.client, receiving.id)
        t.fail_requests("send_event", times=2, when="after_commit")
        with pytest.raises(StoreUnavailableError):
            await runs.send(t.client, receiving.id, "b", 7)
        await sending.result()
        assert await receiving.result() == 7
    assert accepted == [True]


async def test_sync_functions_send_as_well(client: PolosClient) -> None:
    @workflow
    async def publish(ctx: WorkflowContext) -> Any:
        return await ctx.step.wait_event("approval", timeout=60, type=Approval)

    async with Worker(client):
        handle = await publish.invoke(client)
        sent: list[bool] = []
        thread = threading.Thread(
            target=lambda: sent.append(runs.sync.send(client, handle.id, "approval", ADA))
        )
        thread.start()
        assert await asyncio.wait_for(handle.result(), 20) == ADA
        thread.join()
    assert sent == [True]
