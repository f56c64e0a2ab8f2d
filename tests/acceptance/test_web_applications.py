"""Workers in real web applications that have their own startup and shutdown."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fastapi import FastAPI, Request
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

import polos
from polos import InvalidArgumentError, PolosClient, SchedulePayload, schedules, workflow


@pytest.fixture
def events() -> list[str]:
    return []


def own_lifespan(events: list[str]) -> Any:
    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[dict[str, Any]]:
        events.append("pool opened")
        yield {"pool": "the pool"}
        events.append("pool closed")

    return lifespan


async def test_fastapi_with_its_own_lifespan(
    client: PolosClient, events: list[str], served: Any
) -> None:
    @workflow(schedule=True)
    async def digest(ctx: Any, payload: SchedulePayload) -> str:
        events.append(f"digest for {payload.key}")
        return payload.key

    app = FastAPI(lifespan=polos.lifespan(client, own_lifespan(events), concurrency=3))

    @app.put("/users/{user}/digest")
    async def subscribe(request: Request, user: str) -> dict[str, Any]:
        id = await schedules.create(client, digest, cron="0 8 * * *", key=user)
        result = await (await schedules.trigger(client, id)).result(timeout=30)
        return {"result": result, "pool": request.state.pool}

    async with served(app) as web:
        answer = await web.put("/users/ada/digest")
        assert answer.json() == {"result": "ada", "pool": "the pool"}
    assert events == ["pool opened", "digest for ada", "pool closed"]


async def test_starlette_without_one(client: PolosClient, served: Any) -> None:
    @workflow
    async def job() -> int:
        return 7

    async def run(request: Any) -> JSONResponse:
        return JSONResponse(await job.run(client))

    app = Starlette(routes=[Route("/", run)], lifespan=polos.lifespan(client))
    for _ in range(2):  # an application may be started again
        async with served(app) as web:
            assert (await web.get("/")).json() == 7


async def test_handlers_end_before_what_they_use_is_closed(
    client: PolosClient, events: list[str]
) -> None:
    begun = asyncio.Event()

    @workflow
    async def slow(ctx: Any) -> None:
        events.append("begun")
        begun.set()
        await ctx.step.run("wait", asyncio.sleep, 0.05)
        events.append("ended")

    context = polos.lifespan(client, own_lifespan(events))
    async with context(None) as state:
        assert state == {"pool": "the pool"}
        handle = await slow.invoke(client)
        await begun.wait()
    assert events == ["pool opened", "begun", "ended", "pool closed"]
    assert await handle.status() == "succeeded"


async def test_if_the_application_fails_to_start_no_worker_starts(client: PolosClient) -> None:
    @asynccontextmanager
    async def broken(app: Any) -> AsyncIterator[None]:
        raise OSError("no pool")
        yield

    with pytest.raises(OSError, match="no pool"):
        async with polos.lifespan(client, broken)(None):
            raise AssertionError("it started")


async def test_if_the_worker_fails_to_start_the_application_closes(
    events: list[str], tmp_path: Any
) -> None:
    (tmp_path / "no.db").mkdir()
    with pytest.raises(polos.StoreError):
        async with polos.lifespan(PolosClient(tmp_path / "no.db"), own_lifespan(events))(None):
            raise AssertionError("it started")
    assert events == ["pool opened"], "like any error in a lifespan, it is raised at its yield"


def test_a_wrong_lifespan_is_named(client: PolosClient) -> None:
    with pytest.raises(InvalidArgumentError, match="lifespan: `8` given, expected the app"):
        polos.lifespan(client, 8)  # type: ignore[call-overload]
    with pytest.raises(InvalidArgumentError, match="asynccontextmanager"):
        polos.lifespan(client, own_lifespan([])(None))
