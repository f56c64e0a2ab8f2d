"""The types of runs and schedules. Checked by mypy and pyright, never run."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime, timedelta, timezone
from typing import Any

from pydantic import BaseModel
from typing_extensions import assert_type

import polos
from polos import (
    Debounce,
    Invocation,
    PolosClient,
    Progress,
    Run,
    RunHandle,
    Schedule,
    SchedulePayload,
    SyncWorkflowContext,
    Worker,
    Workflow,
    WorkflowContext,
    runs,
    schedules,
    workflow,
)


class Order(BaseModel):
    id: int


class Rush(Order):
    hours: int


@workflow
async def fulfil(ctx: WorkflowContext, order: Order) -> list[str]:
    return []


@workflow(id="optional")
async def optional(ctx: WorkflowContext, order: Order | None) -> int:
    return 0


@workflow(schedule="0 9 * * *")
async def digest(ctx: WorkflowContext, payload: SchedulePayload) -> float:
    return 0.0


@workflow
def lone(ctx: SyncWorkflowContext) -> bytes:
    return b""


@workflow
async def untyped(ctx, payload):  # type: ignore[no-untyped-def]  # pyright: ignore[reportUnknownParameterType, reportMissingParameterType]
    return payload  # pyright: ignore[reportUnknownVariableType]


async def running(client: PolosClient) -> None:
    assert_type(await fulfil.run(client, Order(id=1)), list[str])
    assert_type(await fulfil.run(client, Rush(id=1, hours=2), timeout=3), list[str])
    assert_type(await fulfil.invoke(client, Order(id=1)), RunHandle[list[str]])
    assert_type(await lone.run(client), bytes)
    assert_type(await lone.invoke(client, idempotency_key="x"), RunHandle[bytes])
    assert_type(await optional.run(client), int)
    assert_type(await optional.run(client, Order(id=1)), int)
    await untyped.run(client)  # pyright: ignore[reportUnknownMemberType]
    await untyped.run(client, {"any": "thing"})  # pyright: ignore[reportUnknownMemberType]

    handle = await fulfil.invoke(client, Order(id=1))
    assert_type(await handle.result(timedelta(seconds=1)), list[str])
    assert_type(handle.sync.result(), list[str])
    assert_type(handle.id, str)
    assert_type(await handle, list[str])
    assert_type(await runs.handle(client, handle.id, fulfil), list[str])
    assert_type(await runs.handle(client, handle.id), Any)
    assert_type(runs.sync.handle(client, handle.id, fulfil).result(), list[str])
    await fulfil.invoke(client, Order(id=1), delay=timedelta(minutes=5), key="u7")
    await fulfil.invoke(client, Order(id=1), at=datetime.now(timezone.utc))
    debounce = Debounce("u7", delay=2, at_most=timedelta(minutes=1))
    assert_type(await fulfil.invoke(client, Order(id=1), debounce=debounce), RunHandle[list[str]])
    inside = await fulfil.invoke_in(object(), client, Order(id=1), key="u7", delay=5)
    assert_type(inside, RunHandle[list[str]])
    assert_type(await lone.invoke_in(object(), client), RunHandle[bytes])
    assert_type(runs.sync.invoke_in(object(), client, fulfil, Order(id=1)).id, str)
    assert_type(await schedules.create_in(object(), client, "a", "* * * * *", key="u7"), str)
    assert_type(schedules.sync.create_in(object(), client, digest, every=60), str)
    many = await fulfil.invoke_many(
        client, [Order(id=1), Rush(id=2, hours=3), Invocation(Order(id=3), delay=5)]
    )
    assert_type(many, list[RunHandle[list[str]]])
    assert_type(await lone.invoke_many(client, [None, None]), list[RunHandle[bytes]])
    assert_type(await runs.get(client, handle.id), Run)
    assert_type((await runs.get(client, handle.id)).priority, int)
    assert_type(await handle.progress(), Progress | None)
    assert_type(handle.sync.progress(), Progress | None)


async def reports(ctx: WorkflowContext, sync_ctx: SyncWorkflowContext) -> None:
    ctx.progress(0.4)
    ctx.progress(None, "page 12 of 30")
    sync_ctx.progress(1, "done")
    ctx.progress("40%")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # error: from 0 to 1
    ctx.progress(0.4, 12)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # error: a text


async def mistakes(client: PolosClient) -> None:
    await fulfil.run(client)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]  # error: it needs its order
    await fulfil.run(client, {"id": 1})  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # error: not a dict
    await lone.run(client, Order(id=1))  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]  # error: takes no payload
    await digest.run(client)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]  # error: `schedules.trigger` starts it with a payload
    await fulfil.run()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]  # error: no client
    await fulfil.invoke(client, Order(id=1), idempotency_key=7)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # error: a key is text
    await fulfil.invoke(client, Order(id=1), delay="5 min")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # error: seconds or a timedelta
    await fulfil.invoke(client, Order(id=1), debounce="u7")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # error: not a `Debounce`
    await fulfil.invoke_in(object(), client, Order(id=1), debounce=Debounce("u7", delay=2))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # error: not in a transaction
    await schedules.create_in(object(), client, digest, evry=60)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]  # error: no such option
    await fulfil.invoke_many(client, [Order(id=1), 2])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]  # error: not an order
    fulfil.run(client, Order(id=1)).append("")  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]  # error: not awaited


@workflow  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator]  # error: a sync handler gets a `SyncWorkflowContext`
def wrong_context(ctx: WorkflowContext) -> None: ...


def takes_orders(some: Workflow[Rush, list[str]]) -> None: ...


takes_orders(fulfil)  # a function of any order accepts a rush order


async def scheduling(client: PolosClient) -> None:
    id = await schedules.create(client, digest, cron="0 8 * * *", key="ada", overlap="skip")
    assert_type(id, str)
    assert_type(await schedules.put(client, digest, cron="0 8 * * *"), schedules.PutResult)
    assert_type(schedules.sync.put(client, digest, every=60.0), schedules.PutResult)
    assert_type(await schedules.get(client, id), Schedule)
    assert_type(await schedules.get(client, workflow=digest, key="ada"), Schedule)
    assert_type(await schedules.pause(client, await schedules.get(client, id)), Schedule)
    assert_type(await schedules.skip(client, id, n=3), Schedule)
    assert_type(await schedules.unskip(client, workflow=digest), Schedule)
    await schedules.resume(client, id, catch_up="none")
    await schedules.resume(client, id, catch_up="never")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # error: no policy
    assert_type(await schedules.list(client), list[Schedule])
    assert_type(await schedules.trigger(client, id), RunHandle[Any])
    assert_type(schedules.sync.get(client, id), Schedule)
    await schedules.create(client, digest, every="30")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # error: text
    await schedules.create(client, digest, ["0 8 * * *"], days="and", weeks=2)
    await schedules.create(client, digest, "0 8 * * *", days="both")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # error: neither
    await schedules.create(client, digest, cron="0 8 * * *", overlap="never")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # error: no policy
    await schedules.create(client, digest, cron="0 8 * * *", overlaps="skip")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]  # error: misspelt
    schedules.sync.create(client)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]  # error: no workflow


async def working(client: PolosClient) -> None:
    async with Worker(client, concurrency=5, drain=timedelta(0)) as worker:
        assert_type(worker, Worker)
    polos.run(client, concurrency=5)
    polos.lifespan(client, lease=20)
    Worker(client, concurency=5)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]  # error: misspelt
    polos.run(client, concurency=5)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]  # error: misspelt
    polos.lifespan(client, lease="20")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]  # error: no text


@asynccontextmanager
async def own(app: Order) -> AsyncGenerator[dict[str, int], None]:
    yield {}


def web_application(client: PolosClient) -> None:
    assert_type(
        polos.lifespan(client, own, concurrency=2),
        Callable[[Order], AbstractAsyncContextManager[dict[str, int]]],
    )
    polos.lifespan(client, 5)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]  # error: no lifespan
