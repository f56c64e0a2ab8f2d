"""What a type checker knows of workflows. Checked by mypy, never run."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from pydantic import BaseModel
from typing_extensions import assert_type

from polos import SyncWorkflowContext, WorkflowContext
from polos._runtime.backoff import Backoff
from polos.models import LedgerEntry, Run, Schedule
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


@workflow(max_interruptions=3)
def patched_in_a_thread(ctx: SyncWorkflowContext) -> None:
    assert_type(ctx.patched("label"), bool)


@workflow(on_code_change="wait")  # type: ignore[call-overload,untyped-decorator]  # pyright: ignore[reportArgumentType]
async def wrong_policy(ctx: WorkflowContext) -> None: ...
