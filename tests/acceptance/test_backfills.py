"""Backfills with a limit and a concurrency; watching and cancelling them as a whole."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from polos import (
    BackfillNotFoundError,
    InvalidArgumentError,
    PolosClient,
    Worker,
    backfills,
    runs,
    schedules,
    workflow,
)

Command = Callable[..., Any]
DAY = timedelta(days=1)
START = datetime(2026, 1, 1, tzinfo=timezone.utc)


class Started:
    """The started runs. Each continues until the test ends it."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[tuple[str, asyncio.Future[None]]] = asyncio.Queue()

    async def handler(self, run_id: str) -> None:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.put_nowait((run_id, done))
        await done

    async def next(self) -> tuple[str, asyncio.Future[None]]:
        return await asyncio.wait_for(self._queue.get(), 60)

    def has_more(self) -> bool:
        return not self._queue.empty()


@pytest.fixture
def started() -> Started:
    return Started()


@pytest.fixture(autouse=True)
def digest(started: Started) -> None:
    @workflow(id="digest", schedule=True)
    async def digest(ctx: Any) -> None:
        await started.handler(ctx.run_id)


async def daily(client: PolosClient) -> str:
    return await schedules.create(client, "digest", "0 8 * * *", timezone="Asia/Tokyo")


async def test_two_workers_respect_the_concurrency_of_a_backfill(
    client: PolosClient, started: Started
) -> None:
    id = await daily(client)
    made = await schedules.backfill(client, id, START, START + 6 * DAY, concurrency=2)
    assert made.id is not None
    assert (len(made), made.left) == (6, 0)
    async with Worker(client), Worker(client):
        in_progress = [await started.next()]
        for done in range(5):
            in_progress.append(await started.next())
            assert not started.has_more()
            info = await backfills.get(client, made.id)
            assert (info.succeeded, info.running, info.waiting) == (done, 2, 4 - done)
            run_id, end = in_progress.pop(0)
            end.set_result(None)
            await runs.handle(client, run_id).result(timeout=60)
        in_progress[0][1].set_result(None)
        await runs.handle(client, in_progress[0][0]).result(timeout=60)
    info = await backfills.get(client, made.id)
    assert (info.done, info.total, started.has_more()) == (6, 6, False)


async def test_a_limit_is_continued_by_the_next_backfill(client: PolosClient) -> None:
    id = await daily(client)
    first = await schedules.backfill(client, id, START, START + 5 * DAY, limit=2)
    assert (len(first), first.left) == (2, 3)
    planned = await schedules.backfill(client, id, START, START + 5 * DAY, limit=2, dry_run=True)
    assert (planned.id, len(planned), planned.left) == (None, 2, 1)
    assert await planned.info() is None
    rest = await schedules.backfill(client, id, START, START + 5 * DAY)
    assert [slot.day for slot in first + rest] == [2, 3, 4, 5, 6]
    infos = [await first.info(), await rest.info()]
    assert [info and info.total for info in infos] == [2, 3]


def test_it_is_cancelled_as_a_whole_without_a_loop(client: PolosClient) -> None:
    id = schedules.sync.create(client, "digest", "0 8 * * *")
    made = schedules.sync.backfill(client, id, START, START + 4 * DAY, concurrency=3)
    other = schedules.sync.backfill(client, id, START + 4 * DAY, START + 6 * DAY)
    cancelled = made.sync.cancel()
    assert cancelled is not None
    assert (cancelled.cancelled, cancelled.done, cancelled.total) == (4, 4, 4)
    info = other.sync.info()
    assert info is not None
    assert (info.waiting, info.concurrency) == (2, None)
    assert len(schedules.sync.backfill(client, id, START, START + 6 * DAY)) == 0
    with pytest.raises(BackfillNotFoundError, match="there is no backfill `bf_x`"):
        backfills.sync.get(client, "bf_x")
    assert {run.origin for run in runs.sync.list(client)} == {"backfill"}


@pytest.mark.parametrize(
    "given", [{"limit": 0}, {"limit": "3"}, {"concurrency": 0}, {"concurrency": True}]
)
async def test_numbers_are_checked(client: PolosClient, given: Any) -> None:
    id = await daily(client)
    with pytest.raises(InvalidArgumentError, match=next(iter(given))):
        await schedules.backfill(client, id, START, START + DAY, **given)
    assert await runs.list(client) == []


def test_the_command_line_limits_watches_and_cancels(command: Command, client: PolosClient) -> None:
    async def registered() -> None:
        async with Worker(client):
            pass

    asyncio.run(registered())
    schedules.sync.create(client, "digest", "0 8 * * *")
    arguments = ["schedules", "backfill", "digest", "--from", "2026-01-01", "--to", "2026-01-06"]
    result = command(*arguments, "--limit", "3", "--dry-run")
    assert result.err == "would run 3 slots; 2 slots of the range left\n"
    result = command(*arguments, "--limit", "3", "--concurrency", "2", "--yes")
    assert result.code == 0, result.err
    assert len(result.lines) == 3
    [listed] = command("backfills", "list", "--json").objects
    assert f"polos backfills show {listed['id']}" in result.err
    assert (listed["waiting"], listed["concurrency"], listed["done"]) == (3, 2, 0)
    assert listed["id"] in command("backfills", "list").out
    assert "0 of 3" in command("backfills", "show", listed["id"]).out
    assert command("backfills", "cancel", listed["id"]).code != 0, "it asks first"
    result = command("backfills", "cancel", listed["id"], "--yes", "--json")
    assert result.objects[0]["cancelled"] == 3
    assert command("backfills", "show", "bf_nope").code == 3
