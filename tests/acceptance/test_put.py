"""``schedules.put`` returns what it did, which the store decides."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from polos import InvalidScheduleError, PolosClient, schedules, workflow
from polos.schedules import PutResult


@pytest.fixture(autouse=True)
def job() -> Any:
    return workflow(id="job", schedule=True)(print)


async def test_put_returns_whether_it_created_updated_or_changed_nothing(
    client: PolosClient, job: Any
) -> None:
    first = await schedules.put(client, job, "0 9 * * *", key="ada")
    again = await schedules.put(client, "job", "0 9 * * *", key="ada", overlap="buffer_one")
    other = await schedules.put(client, job, "0 9 * * *", key="ada", overlap="skip")
    without = await schedules.put(client, job, "0 9 * * *", key="ada")
    outcomes = [result.outcome for result in (first, again, other, without)]
    assert outcomes == ["created", "unchanged", "updated", "updated"]
    assert {first.id, again.id, other.id, without.id} == {first.id}
    assert (await schedules.get(client, first.id)).overlap == "buffer_one", "all is replaced"
    await schedules.delete(client, first.id)
    assert (await schedules.put(client, job, "0 9 * * *", key="ada")).outcome == "created"


async def test_of_concurrent_puts_one_creates(database: Path | str, job: Any) -> None:
    clients = [PolosClient(database) for _ in range(3)]
    same = [schedules.put(client, job, every=60) for client in clients for _ in range(5)]
    outcomes = Counter(result.outcome for result in await asyncio.gather(*same))
    assert outcomes == {"created": 1, "unchanged": 14}
    keys = [
        schedules.put(client, job, every=60, key=f"u{n}") for n in range(20) for client in clients
    ]
    results = await asyncio.gather(*keys)
    assert Counter(result.outcome for result in results) == {"created": 20, "unchanged": 40}
    assert len({result.id for result in results}) == 20
    for client in clients:
        client.close()


def test_put_without_a_loop(client: PolosClient, job: Any) -> None:
    result = schedules.sync.put(client, job, every=60)
    assert result == PutResult(id=result.id, outcome="created")
    assert schedules.sync.get(client, result.id).every is not None


async def test_put_raises_what_create_raises(client: PolosClient, job: Any) -> None:
    with pytest.raises(InvalidScheduleError, match="exactly one of"):
        await schedules.put(client, job)
    assert await schedules.list(client) == []
