"""What a type checker knows of workflows. Checked by mypy, never run."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from pydantic import BaseModel
from typing_extensions import assert_type

from polos._backoff import Backoff
from polos.models import LedgerEntry, Run, Schedule
from polos.payload import SchedulePayload
from polos.workflow import Workflow, registry, workflow


class Order(BaseModel):
    id: int


class Context:
    """Stands for any context class."""


@workflow
async def bare(ctx: Context, payload: Order) -> str:
    return ""


@workflow()
async def called(ctx: Context, payload: Order) -> str:
    return ""


@workflow(id="x", schedule="0 9 * * *", retries=2, backoff=1.5, timeout=timedelta(minutes=1))
async def scheduled(ctx: Context, payload: SchedulePayload) -> dict[str, str]:
    return {"status": payload.key}


@workflow(id="y", schedule={"every": timedelta(seconds=30), "overlap": "skip"}, backoff=Backoff(2))
def threaded(ctx: Context, payload: Order | None) -> int:
    return 1


@workflow(schedule=True)
async def without_payload(ctx: Context) -> int:
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


@workflow  # type: ignore[arg-type]
async def takes_three(ctx: Context, payload: Order, more: int) -> None: ...


@workflow(id=5)  # type: ignore[call-overload,untyped-decorator]
async def wrong_id(ctx: Context) -> None: ...


@workflow(scheduel="0 9 * * *")  # type: ignore[call-overload,untyped-decorator]
async def misspelt(ctx: Context) -> None: ...


@workflow(schedule=5)  # type: ignore[call-overload,untyped-decorator]
async def wrong_schedule(ctx: Context) -> None: ...


def statuses(schedule: Schedule, run: Run, entry: LedgerEntry) -> None:
    assert_type(schedule.status == "activ", bool)  # type: ignore[comparison-overlap]
    if run.status == "succeeded" and entry.status == "ran":
        pass
    run.status = "failed"  # type: ignore[misc]
    schedule.every = 30  # type: ignore[misc,assignment]


def backoffs() -> None:
    Backoff(timedelta(1), factor=1.5)
    Backoff(1, 2)  # type: ignore[call-arg]
    Backoff("1")  # type: ignore[arg-type]
    assert_type(Backoff().delay(1, 0.5), timedelta)
