"""The types of steps. Checked by mypy and pyright, never run."""

from __future__ import annotations

from collections.abc import Coroutine
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

from pydantic import BaseModel
from typing_extensions import assert_type

from polos import (
    Backoff,
    PolosClient,
    SyncWorkflowContext,
    Workflow,
    WorkflowContext,
    runs,
    workflow,
)


class Order(BaseModel):
    id: int


class Mailer:
    async def send(self, to: str, *, copy: bool = False) -> float:
        return 0.0


async def fetch(number: int, unit: str = "") -> Order:
    return Order(id=number)


async def charge(amount: int, *, idempotency_key: str) -> bytes:
    return b""


def total(numbers: list[int]) -> int:
    return sum(numbers)


def deferred(number: int) -> Coroutine[Any, Any, Order]:
    return fetch(number)


@workflow
async def child(ctx: WorkflowContext, payload: Order) -> str:
    return ""


@workflow
async def lone_child() -> int:
    return 1


async def events(ctx: WorkflowContext) -> None:
    assert_type(await ctx.step.wait_event("a", type=Order), Order)
    assert_type(await ctx.step.wait_event("a", timeout=3.5, type=Order), Order | None)
    assert_type(await ctx.step.wait_event("a", timeout=timedelta(days=3), type=Order), Order | None)
    assert_type(await ctx.step.wait_event("a"), Any)
    assert_type(await ctx.step.wait_event("a", timeout=3), Any)
    assert_type(await ctx.step.wait_event("a", type=list[Order]), list[Order])
    await ctx.step.wait_event("a", timeout="3 days")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]


def sync_events(ctx: SyncWorkflowContext) -> None:
    assert_type(ctx.step.wait_event("a", type=Order), Order)
    assert_type(ctx.step.wait_event("a", timeout=timedelta(days=3), type=Order), Order | None)
    assert_type(ctx.step.wait_event("a"), Any)


async def sent(client: PolosClient) -> None:
    assert_type(await runs.send(client, "run_1", "a", Order(id=1), idempotency_key="k"), bool)
    assert_type(await runs.send(client, workflow=child, key="k", name="a", payload=1), bool)
    assert_type(runs.sync.send(client, "run_1", "a"), bool)
    assert_type(runs.sync.send(client, workflow="w", key="k", name="a"), bool)
    await runs.send(client, name="a")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]


async def results(ctx: WorkflowContext) -> None:
    assert_type(await ctx.step.run("a", fetch, 1), Order)
    assert_type(await ctx.step.run("a", fetch, 1, "kg"), Order)
    assert_type(await ctx.step.run("a", fetch, 1, unit="kg"), Order)
    assert_type(await ctx.step.run("a", fetch, number=1), Order)
    assert_type(await ctx.step.run("a", total, [1, 2]), int)
    assert_type(await ctx.step.run("a", deferred, 1), Order)
    assert_type(await ctx.step.run("a", Mailer().send, "ada", copy=True), float)
    assert_type(await ctx.step.run("a", lambda: fetch(1)), Order)
    assert_type(await ctx.step.run("a", lambda: 1), int)
    assert_type(await ctx.step.run("a", len, [1, 2]), int)
    assert_type(await ctx.step.run("a", partial(charge, 1, idempotency_key="x")), bytes)
    await ctx.step.run("a", print, "x", sep="")


def is_temporary(error: Exception) -> bool:
    return True


async def with_options(ctx: WorkflowContext) -> None:
    assert_type(await ctx.step.run("a", fetch, 1, retries=2), Order)
    assert_type(await ctx.step.run("a", fetch, 1, timeout=timedelta(seconds=1)), Order)
    assert_type(await ctx.step.run("a", fetch, 1, timeout=3, retries=2), Order)
    assert_type(await ctx.step.run("a", fetch, 1, unit="kg", retries=2, backoff=Backoff(2)), Order)
    assert_type(await ctx.step.run("a", charge, 1, idempotency_key="x", timeout=3), bytes)
    assert_type(await ctx.step.run("a", total, [1], retries=2, retry_on=OSError), int)
    assert_type(await ctx.step.run("a", fetch, 1, retries=2, retry_on=(OSError, KeyError)), Order)
    assert_type(await ctx.step.run("a", fetch, 1, retries=2, retry_on=is_temporary), Order)
    assert_type(await ctx.step.run("a", total, [1], retries=2, retry_on=is_temporary), int)
    assert_type(await ctx.step.run("a", total, [1], timeout=2.5), int)
    assert_type(await ctx.step.run("a", lambda: fetch(1), retries=4, backoff=0.5), Order)
    assert_type(await ctx.step.run("a", fetch, 1, process=True), Order)
    assert_type(await ctx.step.run("a", total, [1], process=True, memory="1G", timeout=60), int)
    assert_type(await ctx.step.run("a", total, [1], process=True, retries=2, memory=1 << 30), int)
    assert_type(await ctx.step.run("a", partial(charge, 1, idempotency_key="x"), retries=2), bytes)


async def mistakes(ctx: WorkflowContext) -> None:
    await ctx.step.run("a", fetch, "1")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    await ctx.step.run("a", fetch)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    await ctx.step.run("a", total, [1], [2])  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    await ctx.step.run("a", fetch, 1, retrys=2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await ctx.step.run("a", fetch, 1, retries="2")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await ctx.step.run("a", fetch, 1, process=True, memory=[])  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await ctx.step.run("a", fetch, 1, retries=2, retry_on="OSError")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await ctx.step.run("a", fetch, 1, backoff=2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await ctx.step.run("a", partial(charge, "1"), retries=2)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await ctx.step.run(1, fetch, 1)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    await ctx.step.run("a", 5)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    ctx.step.run("a", fetch, 1).id  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]


def blocking(ctx: SyncWorkflowContext) -> None:
    assert_type(ctx.step.run("a", fetch, 1), Order)
    assert_type(ctx.step.run("a", total, [1]), int)
    assert_type(ctx.step.run("a", total, [1], retries=2), int)
    assert_type(ctx.step.run("a", total, [1], process=True, memory="1G"), int)
    assert_type(ctx.step.run("a", total, [1], retries=2, retry_on=is_temporary), int)
    assert_type(ctx.step.run("a", fetch, 1, retries=2, retry_on=(OSError, KeyError)), Order)
    assert_type(ctx.step.run("a", charge, 1, idempotency_key="x", timeout=3), bytes)
    assert_type(ctx.step.invoke(child, Order(id=1)), str)
    assert_type(ctx.step.invoke(child, Order(id=1), key="u7", priority=3), str)
    assert_type(ctx.step.now("a"), datetime)
    assert_type(ctx.step.uuid("a"), UUID)
    assert_type(ctx.step.random("a"), float)
    ctx.step.sleep("a", timedelta(1))
    ctx.step.run("a", fetch, "1")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    ctx.step.sleep("a", "1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def children(ctx: WorkflowContext, some: Workflow[Order, list[int]]) -> None:
    assert_type(await ctx.step.invoke(child, Order(id=1)), str)
    assert_type(await ctx.step.invoke(lone_child, name="again"), int)
    assert_type(await ctx.step.invoke(some, Order(id=1)), list[int])
    assert_type(await ctx.step.invoke("elsewhere", {"id": 1}), Any)
    assert_type(await ctx.step.invoke(child, Order(id=1), name="a", key="u7", priority=3), str)
    assert_type(await ctx.step.invoke(lone_child, key="u7"), int)
    assert_type(await ctx.step.invoke("elsewhere", {"id": 1}, priority=3), Any)
    await ctx.step.invoke(child, 5)  # type: ignore[misc]  # pyright: ignore[reportCallIssue, reportArgumentType]
    await ctx.step.invoke(child)  # type: ignore[arg-type]  # pyright: ignore[reportCallIssue, reportArgumentType]


async def others(ctx: WorkflowContext) -> None:
    assert_type(await ctx.step.now("a"), datetime)
    assert_type(await ctx.step.uuid("a"), UUID)
    assert_type(await ctx.step.random("a"), float)
    await ctx.step.sleep("a", timedelta(1))
    await ctx.step.sleep("a", "1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await ctx.step.sleep_until("a", "noon")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert_type(ctx.key, str)
    assert_type(ctx.schedule_id, str | None)
    assert_type(ctx.attempt, int)
