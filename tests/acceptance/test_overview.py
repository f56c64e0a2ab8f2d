"""Overviews: workers, counts, upcoming and overdue slots."""

from __future__ import annotations

import os
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

import polos
from polos import (
    InvalidArgumentError,
    PolosClient,
    ScheduleNotFoundError,
    Worker,
    WorkflowContext,
    runs,
    schedules,
    workers,
    workflow,
)
from polos._core.instants import to_micros
from polos.testing._client import VirtualClient

FIRST = datetime(2026, 7, 1, 8, 0, tzinfo=timezone.utc)


@pytest.fixture
def jobs() -> Any:
    @workflow(id="report", schedule=True)
    async def report(ctx: WorkflowContext) -> str:
        return "done"

    @workflow(id="clean", schedule=True)
    async def clean(ctx: WorkflowContext) -> None:
        pass

    return report


async def test_a_worker_is_listed_while_it_is_registered(client: PolosClient, jobs: Any) -> None:
    assert await workers.list(client) == []
    async with Worker(client, app="web"):
        (found,) = await workers.list(client)
        assert (found.app, found.pid, found.held) == ("web", os.getpid(), 0)
        assert found.workflows == ("clean", "report")
        assert found.about["polos"] == polos.__version__
        assert found.id
        assert found.host
        assert not found.is_gone
        assert found.started_at.utcoffset() == timedelta(0)
        assert found.started_at <= found.seen_at
    assert workers.sync.list(client) == []


async def test_the_runs_of_a_worker_are_counted(client: PolosClient) -> None:
    @workflow(id="wait")
    async def wait(ctx: WorkflowContext) -> None:
        (found,) = await workers.list(client)
        assert found.held == 1
        (run,) = await runs.list(client, status="running")
        assert (run.id, run.worker) == (ctx.run_id, found.id)
        assert (await polos.overview(client)).runs["running"] == 1

    async with Worker(client, app="tests"):
        await wait.run(client, timeout=30)


async def test_an_empty_project_has_nothing(client: PolosClient) -> None:
    found = await polos.overview(client)
    assert found.schedules == {
        "active": 0, "paused": 0, "retired": 0, "finished": 0, "broken": 0,
    }  # fmt: skip
    assert found.runs == {"queued": 0, "running": 0, "waiting": 0}
    assert (found.overdue, found.oldest_due, found.counted_to) == (0, None, 10_000)
    assert abs(found.now - datetime.now(timezone.utc)) < timedelta(hours=1)


def test_there_is_a_blocking_twin(client: PolosClient, jobs: Any) -> None:
    schedules.sync.create(client, "report", "0 9 * * *")
    assert polos.overview.sync(client).schedules["active"] == 1


async def test_all_is_counted_up_to_the_bound(client: PolosClient, jobs: Any) -> None:
    many = [
        {"workflow": "report", "cron": "0 9 * * *", "key": f"user-{number}"} for number in range(7)
    ]
    ids = await schedules.create_many(client, many)
    for id in ids[:2]:
        await schedules.pause(client, id)
    for _ in range(3):
        await jobs.invoke(client)
    found = await polos.overview(client)
    assert (found.schedules["active"], found.schedules["paused"]) == (5, 2)
    assert found.runs["queued"] == 3
    found = await polos.overview(client, count_to=2)
    assert (found.schedules["active"], found.schedules["paused"]) == (2, 2)
    assert (found.runs["queued"], found.counted_to) == (2, 2)


@pytest.mark.parametrize("count_to", [-1, "10", True, None, 1.5])
async def test_a_bound_is_a_whole_number(client: PolosClient, count_to: Any) -> None:
    with pytest.raises(InvalidArgumentError, match=r"count_to: .* expected a whole number"):
        await polos.overview(client, count_to=count_to)


async def test_a_slot_is_overdue_when_no_worker_has_handled_it_for_a_few_seconds(jobs: Any) -> None:
    client = VirtualClient(FIRST, project_id="default")
    await schedules.create(client, "report", "0 9 * * *")
    slot = FIRST.replace(hour=9)

    async def late(passed: timedelta) -> tuple[int, datetime | None]:
        client._opened().advance_to(to_micros(slot + passed))
        found = await polos.overview(client)
        assert found.now == slot + passed
        return found.overdue, found.oldest_due

    assert await late(timedelta(0)) == (0, None)
    assert await late(timedelta(seconds=5)) == (0, None)
    assert await late(timedelta(seconds=5, microseconds=1)) == (1, slot)
    client.close()


async def test_what_comes_is_ordered_by_slot(client: PolosClient, jobs: Any) -> None:
    now = datetime.now(timezone.utc)
    for hours, name, key in [(3, "report", "c"), (1, "clean", "a"), (2, "report", "b")]:
        at = now + timedelta(hours=hours)
        await schedules.create(client, name, at=at, key=key)
    paused = await schedules.create(client, "clean", at=now + timedelta(hours=1), key="paused")
    await schedules.pause(client, paused)
    tomorrow = now + timedelta(days=1)
    found = await schedules.coming(client, until=tomorrow)
    assert [schedule.key for schedule in found] == ["a", "b", "c"]
    assert [schedule.upcoming for schedule in found] == [schedule.at for schedule in found]
    found = await schedules.coming(client, until=tomorrow, limit=2)
    assert [schedule.key for schedule in found] == ["a", "b"]
    found = schedules.sync.coming(client, until=now + timedelta(hours=2.5))
    assert [schedule.key for schedule in found] == ["a", "b"]
    with pytest.raises(InvalidArgumentError, match=r"until: .* has no time zone"):
        await schedules.coming(client, until=datetime(2026, 7, 1))


async def test_keys_are_found_by_how_they_begin(client: PolosClient, jobs: Any) -> None:
    names = ["eu/1", "eu/10", "eu/2", "EU/1", "eu", "us/1", "eu%", "eu_1"]
    for name in names:
        await schedules.create(client, "report", "0 9 * * *", key=name)
    await schedules.create(client, "clean", "0 9 * * *", key="eu/1")

    async def found(**filters: Any) -> list[tuple[str, str]]:
        listed = await schedules.list(client, **filters)
        return [(schedule.key, schedule.workflow) for schedule in listed]

    in_order = [("eu/1", "clean"), ("eu/1", "report"), ("eu/10", "report"), ("eu/2", "report")]
    assert await found(key_prefix="eu/") == in_order
    assert await found(key_prefix="eu/", workflow="clean") == in_order[:1]
    assert await found(key_prefix="eu/", limit=2) == in_order[:2]
    second = (await schedules.list(client, key_prefix="eu/"))[1]
    assert await found(key_prefix="eu/", after=second.id) == in_order[2:]
    assert await found(key_prefix="eu%") == [("eu%", "report")]
    assert await found(key_prefix="nobody") == []
    assert await found(key_prefix="eu/", status="paused") == []
    await schedules.pause(client, (await schedules.list(client, key_prefix="eu/10"))[0].id)
    await schedules.pause(client, (await schedules.list(client, key_prefix="us"))[0].id)
    assert await found(key_prefix="eu/", status="paused") == [("eu/10", "report")]
    first = (await schedules.list(client, key_prefix="eu/", workflow="report"))[0]
    assert await found(key_prefix="eu/", workflow="report", after=first.id) == in_order[2:]
    await schedules.delete(client, second.id)
    with pytest.raises(ScheduleNotFoundError, match=second.id):
        await schedules.list(client, key_prefix="eu/", after=second.id)
    with pytest.raises(InvalidArgumentError, match="key_prefix"):
        await schedules.list(client, key_prefix=7)  # type: ignore[arg-type]


async def test_pages_of_keys_join_without_a_gap(
    client: PolosClient, jobs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = [
        {"workflow": "report", "cron": "0 9 * * *", "key": f"user-{number:02}"}
        for number in range(25)
    ]
    await schedules.create_many(client, many)
    monkeypatch.setattr(schedules, "_PAGE", 4)
    found = await schedules.list(client, key_prefix="user-")
    assert [schedule.key for schedule in found] == [f"user-{number:02}" for number in range(25)]


async def test_failed_runs_are_listed_by_themselves(client: PolosClient) -> None:
    @workflow(id="fail", retries=0)
    async def fail(ctx: WorkflowContext, payload: bool) -> None:
        if payload:
            raise ValueError("no")

    async with Worker(client, app="tests"):
        handles = [await fail.invoke(client, number % 2 == 0) for number in range(6)]
        for handle in handles:
            if handle in handles[::2]:
                with pytest.raises(ValueError, match="no"):
                    await handle.result(timeout=30)
            else:
                await handle.result(timeout=30)
    expected = [handle.id for handle in handles[::2]][::-1]
    assert [run.id for run in await runs.list(client, status="failed")] == expected
    page = await runs.list(client, status="failed", limit=1, after=expected[0])
    assert [run.id for run in page] == expected[1:2]
    assert len(await runs.list(client, status=["failed", "succeeded"])) == 6
