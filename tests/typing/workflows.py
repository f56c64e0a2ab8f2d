"""The types of workflows. Checked by mypy, never run."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from pydantic import BaseModel
from typing_extensions import assert_type

from polos import Limit, PolosClient, RunHandle, SyncWorkflowContext, WorkflowContext, limits
from polos._runtime.backoff import Backoff
from polos.models import LedgerEntry, LimitInfo, Run, Schedule
from polos.payload import SchedulePayload
from polos.workflow import Workflow, registry, workflow


class Order(BaseModel):
    id: int


@workflow
async def bare(ctx: WorkflowContext, payload: Order) -> str:
    return ""


@workflow()
async def called(ctx: WorkflowContext, payload: Order) -> str:
    return ""


@workflow(id="x", schedule="0 9 * * *", retries=2, backoff=1.5, timeout=timedelta(minutes=1))
async def scheduled(ctx: WorkflowContext, payload: SchedulePayload) -> dict[str, str]:
    return {"status": payload.key}


@workflow(id="y", schedule={"every": timedelta(seconds=30), "overlap": "skip"}, backoff=Backoff(2))
def threaded(ctx: SyncWorkflowContext, payload: Order | None) -> int:
    return 1


@workflow(schedule=True)
async def without_payload(ctx: WorkflowContext) -> int:
    return 1


@workflow
def without_anything() -> list[int]:
    return []


assert_type(bare, Workflow[Order, str])
assert_type(called, Workflow[Order, str])
assert_type(scheduled, Workflow[SchedulePayload, dict[str, str]])
assert_type(threaded, Workflow[Order | None, int])
assert_type(without_payload, Workflow[None, int])
assert_type(without_anything, Workflow[None, list[int]])
assert_type(bare.id, str)
assert_type(bare.timeout, timedelta | None)
assert_type(bare.fn, Callable[..., Any])
assert_type(registry(), dict[str, Workflow[Any, Any]])


@workflow  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator]
async def takes_three(ctx: WorkflowContext, payload: Order, more: int) -> None: ...


@workflow(id=5)  # type: ignore[call-overload,untyped-decorator]  # pyright: ignore[reportArgumentType]
async def wrong_id(ctx: WorkflowContext) -> None: ...


@workflow(scheduel="0 9 * * *")  # type: ignore[call-overload,untyped-decorator]  # pyright: ignore[reportCallIssue, reportUntypedFunctionDecorator]
async def misspelt(ctx: WorkflowContext) -> None: ...


@workflow(schedule=5)  # type: ignore[call-overload,untyped-decorator]  # pyright: ignore[reportArgumentType]
async def wrong_schedule(ctx: WorkflowContext) -> None: ...


def statuses(schedule: Schedule, run: Run, entry: LedgerEntry) -> None:
    assert_type(schedule.status == "activ", bool)  # type: ignore[comparison-overlap]  # pyright: ignore[reportUnnecessaryComparison]
    if run.status == "succeeded" and entry.status == "ran":
        pass
    run.status = "failed"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    schedule.every = 30  # type: ignore[assignment,misc]  # pyright: ignore[reportAttributeAccessIssue]


def backoffs() -> None:
    Backoff(timedelta(1), factor=1.5)
    Backoff(1, 2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Backoff("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert_type(Backoff().delay(1, 0.5), timedelta)


@workflow(on_code_change="hold", max_interruptions=None)
async def patched(ctx: WorkflowContext) -> None:
    assert_type(await ctx.patched("label"), bool)
    assert_type(ctx.interruptions, int)


def is_temporary(error: Exception) -> bool:
    return True


def is_busy(error: OSError) -> bool:
    return True


@workflow(retries=3, retry_on=(OSError, TimeoutError))
async def choosy(ctx: WorkflowContext) -> None: ...


@workflow(retries=3, retry_on=OSError)
def choosy_in_a_thread(ctx: SyncWorkflowContext) -> None: ...


@workflow(retries=3, retry_on=is_temporary)
async def asks(ctx: WorkflowContext) -> None: ...


@workflow(retries=3, retry_on=lambda error: "busy" in str(error))
async def asks_a_lambda(ctx: WorkflowContext) -> None: ...


assert_type(choosy, Workflow[None, None])
assert_type(asks, Workflow[None, None])


@workflow(retry_on=5)  # type: ignore[call-overload,untyped-decorator]  # pyright: ignore[reportArgumentType]
async def wrong_retry_on(ctx: WorkflowContext) -> None: ...


@workflow(retry_on=(OSError, 5))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
async def wrong_member(ctx: WorkflowContext) -> None: ...


@workflow(retry_on=is_busy)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
async def too_narrow(ctx: WorkflowContext) -> None: ...


@workflow(max_interruptions=3)
def patched_in_a_thread(ctx: SyncWorkflowContext) -> None:
    assert_type(ctx.patched("label"), bool)


@workflow(on_code_change="wait")  # type: ignore[call-overload,untyped-decorator]  # pyright: ignore[reportArgumentType]
async def wrong_policy(ctx: WorkflowContext) -> None: ...


# Limits and priorities.

openai = Limit("openai", 20, per_key=1, rate=100, per=timedelta(minutes=1))


@workflow(id="shared", concurrency=openai, priority=9)
async def shared(ctx: WorkflowContext, payload: Order) -> str:
    return ""


@workflow(id="numbered", concurrency=10)
async def numbered(ctx: WorkflowContext) -> str:
    return ""


async def changes_limits(client: PolosClient) -> None:
    assert_type(await limits.list(client), list[LimitInfo])
    assert_type(await limits.get(client, "openai"), LimitInfo)
    assert_type(limits.sync.get(client, "openai"), LimitInfo)
    await limits.set(client, "openai", 5, per=timedelta(minutes=1), rate=3)
    limits.sync.set(client, "openai", per_key=1)
    await limits.reset(client, "openai")
    assert_type(await shared.invoke(client, Order(id=1), priority=3), RunHandle[str])


Limit(10, 20)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
Limit("mail", rate="100", per=60)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
