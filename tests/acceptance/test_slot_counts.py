"""Counts of a schedule's slots by outcome: they equal its history."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

import polos.testing
from polos import (
    SchedulePayload,
    SlotCounts,
    WorkflowContext,
    schedules,
    workflow,
)
from polos.testing import VirtualTime

START = "2026-01-01T00:30+00:00"


@pytest.fixture(autouse=True)
def job() -> None:
    @workflow(id="job", schedule=True)
    async def job(ctx: WorkflowContext, payload: SchedulePayload) -> None: ...


async def counted(t: VirtualTime, id: str) -> SlotCounts:
    """What the schedule has counted, which its history says too."""
    counts = (await schedules.get(t.client, id)).counts
    sums = {"ran": 0, "skipped": 0, "missed": 0}
    for entry in await t.ledger(id):
        sums[entry.status] += entry.count
    assert counts == SlotCounts(**sums)
    return counts


async def test_outcomes_are_counted_through_every_change() -> None:
    async with polos.testing.clock(START) as t:
        id = await schedules.create(t.client, "job", "0 * * * *", catch_up="none")
        assert await counted(t, id) == SlotCounts()
        await t.advance(hours=3)
        assert await counted(t, id) == SlotCounts(ran=3)
        assert (await schedules.skip(t.client, id, n=2)).counts == SlotCounts(ran=3, skipped=2)
        assert (await schedules.unskip(t.client, id)).counts == SlotCounts(ran=3)
        await schedules.skip(t.client, id)
        await t.advance(hours=1)
        assert await counted(t, id) == SlotCounts(ran=3, skipped=1)
        await schedules.pause(t.client, id)
        await t.advance(hours=5)
        await schedules.resume(t.client, id)
        await t.advance(hours=1)
        assert await counted(t, id) == SlotCounts(ran=4, skipped=1, missed=5)
        start = datetime(2025, 12, 31, tzinfo=timezone.utc)
        await schedules.backfill(t.client, id, start, start.replace(hour=2))
        assert await counted(t, id) == SlotCounts(ran=6, skipped=1, missed=5)
        assert await schedules.create(t.client, "job", "30 * * * *") == id
        assert await counted(t, id) == SlotCounts(ran=6, skipped=1, missed=5)
        await schedules.delete(t.client, id)
        again = await schedules.create(t.client, "job", "30 * * * *")
        assert await counted(t, again) == SlotCounts()
