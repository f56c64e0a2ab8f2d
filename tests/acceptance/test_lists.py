"""Lists that are longer than a page."""

from __future__ import annotations

from typing import Any

import pytest

from polos import PolosClient, Worker, runs, schedules, workflow
from polos._core.requests import Request


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("polos.runs._PAGE", 3)
    monkeypatch.setattr("polos.schedules._PAGE", 3)


@pytest.mark.parametrize("count", [2, 3, 4, 6, 7])
async def test_all_runs_are_listed_once_and_the_newest_first(
    client: PolosClient, count: int
) -> None:
    @workflow
    async def job() -> None: ...

    ids = [(await job.invoke(client)).id for _ in range(count)]
    assert [run.id for run in await runs.list(client, limit=None)] == ids[::-1]
    assert [run.id for run in await runs.list(client, limit=count - 1)] == ids[:0:-1]
    behind = await runs.list(client, limit=None, after=ids[-1])
    assert [run.id for run in behind] == ids[-2::-1]


async def test_runs_that_failed_with_an_error_are_counted_to_the_limit(
    client: PolosClient,
) -> None:
    @workflow
    async def job(ctx: object, payload: bool) -> None:
        raise KeyError("a") if payload else ValueError("b")

    handles = []
    async with Worker(client, app="tests"):
        for number in range(8):
            handles.append(await job.invoke(client, number % 2 == 0))
            with pytest.raises((KeyError, ValueError)):
                await handles[-1].result(30)
    ids = [handle.id for handle in handles[::2]][::-1]
    for limit in (None, 4, 3, 2, 1):
        found = await runs.list(client, error="KeyError", limit=limit)
        assert [run.id for run in found] == ids[:limit]


async def test_schedules_with_a_key_prefix_continue_after_the_last_key(client: PolosClient) -> None:
    @workflow(schedule=True)
    async def zebra() -> None: ...

    @workflow(schedule=True)
    async def ant() -> None: ...

    expected = []
    for key in ("user-1", "user-2", "user-3", "user-4"):
        for made in (ant, zebra):
            await schedules.create(client, made, "0 9 * * *", key=key)
            expected.append((key, made.id))
    await schedules.create(client, ant, "0 9 * * *", key="shop")
    found = await schedules.list(client, key_prefix="user-")
    assert [(schedule.key, schedule.workflow) for schedule in found] == expected
    assert len(await schedules.list(client)) == len(expected) + 1


async def test_a_list_continues_although_its_last_item_was_deleted(
    client: PolosClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    @workflow(schedule=True)
    async def job() -> None: ...

    keys = [f"user-{number}" for number in range(7)]
    for key in keys:
        await schedules.create(client, job, "0 9 * * *", key=key)
    ask = PolosClient._ask
    pages = 0

    async def delete_between_pages(self: PolosClient, request: Request[Any]) -> Any:
        nonlocal pages
        answer = await ask(self, request)
        if request.op == "list_schedules":
            pages += 1
            if pages == 1:
                await schedules.delete(client, answer[-1]["id"])
        return answer

    monkeypatch.setattr(PolosClient, "_ask", delete_between_pages)
    found = await schedules.list(client, key_prefix="user-")
    assert [schedule.key for schedule in found] == keys
    assert pages == 3
