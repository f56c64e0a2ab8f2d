"""Schedules are addressed by id, as an object, or by workflow and key."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from polos import (
    InvalidArgumentError,
    InvalidScheduleError,
    PolosClient,
    Schedule,
    ScheduleNotFoundError,
    schedules,
    workflow,
)

Named = Callable[..., Awaitable[Any]]


@workflow(id="digest", schedule=True)
async def digest(ctx: Any) -> None:
    """Does nothing."""


async def make(client: PolosClient) -> tuple[Schedule, Schedule]:
    """Create schedules for two keys of one workflow."""
    ids = [await schedules.create(client, digest, "0 8 * * *", key=key) for key in ("ada", "bob")]
    ada, bob = [await schedules.get(client, id) for id in ids]
    return ada, bob


CALLS = [
    schedules.get,
    schedules.history,
    schedules.pause,
    schedules.reset,
    schedules.resume,
    schedules.skip,
    schedules.trigger,
    schedules.update,
    schedules.delete,
]


async def test_each_form_of_address_means_the_same_schedule(client: PolosClient) -> None:
    ada, bob = await make(client)
    names: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
        ((ada.id,), {}),
        ((ada,), {}),
        ((), {"id": ada}),
        ((), {"workflow": "digest", "key": "ada"}),
        ((), {"workflow": digest, "key": "ada"}),
    ]
    for number, (place, words) in enumerate(names):
        assert (await schedules.get(client, *place, **words)).id == ada.id
        note = f"note {number}"
        assert (await schedules.pause(client, *place, note=note, **words)).note == note
        assert (await schedules.resume(client, *place, **words)).status == "active"
        skipped = await schedules.skip(client, *place, **words)
        assert (await schedules.history(client, *place, **words))[0].status == "skipped"
        changed = await schedules.update(
            client, *place, **words, catch_up_window=timedelta(hours=1 + number)
        )
        assert changed.id == skipped.id == ada.id
        assert (await schedules.trigger(client, *place, **words)).id.startswith("run_")
    other = await schedules.get(client, bob.id)
    assert (other.note, other.upcoming, other.status) == (None, bob.upcoming, "active")
    await schedules.delete(client, workflow=digest, key="ada")
    await schedules.delete(client, bob)
    assert await schedules.list(client) == []


async def test_without_a_key_it_is_the_schedule_of_all(client: PolosClient) -> None:
    await make(client)
    id = await schedules.create(client, digest, "0 9 * * *")
    assert (await schedules.get(client, workflow=digest)).id == id


async def test_the_blocking_versions_take_the_same_addresses(client: PolosClient) -> None:
    ada, _ = await make(client)

    def in_a_thread() -> None:
        assert schedules.sync.get(client, workflow=digest, key="ada") == ada
        assert schedules.sync.pause(client, ada, "away").note == "away"

    await asyncio.to_thread(in_a_thread)


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.__name__)
async def test_what_names_no_schedule_is_refused(client: PolosClient, call: Named) -> None:
    ada, _ = await make(client)
    with pytest.raises(ScheduleNotFoundError, match="`digest` has no schedule with the key `eve`"):
        await call(client, workflow=digest, key="eve")
    with pytest.raises(ScheduleNotFoundError, match="`nothing` has no schedule"):
        await call(client, workflow="nothing")
    with pytest.raises(InvalidArgumentError, match="nothing given, expected a schedule's id"):
        await call(client)
    with pytest.raises(InvalidArgumentError, match="nothing given"):
        await call(client, key="ada")
    with pytest.raises(InvalidArgumentError, match="together with `workflow` or `key`"):
        await call(client, ada, workflow=digest)
    with pytest.raises(InvalidArgumentError, match="id: `7` given"):
        await call(client, 7)
    with pytest.raises(InvalidArgumentError, match="workflow: `7` given"):
        await call(client, workflow=7)
    with pytest.raises(InvalidArgumentError, match="key: `7` given"):
        await call(client, workflow=digest, key=7)
    assert await schedules.get(client, ada) == ada


async def test_a_key_cannot_be_changed_with_an_update(client: PolosClient) -> None:
    ada, _ = await make(client)
    with pytest.raises(InvalidScheduleError, match="a schedule's key cannot change"):
        await schedules.update(client, ada, key="eve")


async def test_a_deleted_schedule_is_found_only_by_its_id(client: PolosClient) -> None:
    ada, _ = await make(client)
    await schedules.skip(client, ada)
    await schedules.delete(client, ada)
    assert [entry.status for entry in await schedules.history(client, ada)] == ["skipped"]
    with pytest.raises(ScheduleNotFoundError):
        await schedules.history(client, workflow=digest, key="ada")


async def test_a_backfill_takes_the_object(client: PolosClient) -> None:
    ada, _ = await make(client)
    now = datetime.now().astimezone()
    slots = await schedules.backfill(client, ada, now - timedelta(days=2), now, dry_run=True)
    assert len(slots) == 2
