"""What is pruned, and when."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import polos.testing
from polos import WorkflowContext, schedules, workflow

START = "2026-01-01T00:30+00:00"


async def test_runs_and_history_are_kept_for_the_retention_and_the_last_ten_for_ever() -> None:
    @workflow(id="daily", schedule="0 9 * * *")
    async def daily() -> None: ...

    @workflow(id="monthly", schedule="0 9 1 * *")
    async def monthly() -> None: ...

    @workflow(id="often", schedule={"every": timedelta(hours=12), "max_runs": 20})
    async def often() -> None: ...

    async with polos.testing.clock(START, retention=timedelta(days=30)) as t:
        await t.advance(days=400)
        kept = {name: await t.runs(workflow=name) for name in ("daily", "monthly", "often")}
        history = await t.ledger(workflow="daily")
    assert len(kept["daily"]) in (30, 31)
    assert len(kept["monthly"]) == 10
    assert len(kept["often"]) == 10, "finished long ago, but its last ten runs are kept"
    assert len(history) == len(kept["daily"])
    oldest = kept["daily"][0].finished_at
    assert oldest is not None
    assert oldest > datetime(2027, 1, 5, tzinfo=timezone.utc)


async def test_without_retention_everything_is_kept() -> None:
    @workflow(id="daily", schedule="0 9 * * *")
    async def daily() -> None: ...

    async with polos.testing.clock(START, retention=None) as t:
        await t.advance(days=100)
        assert len(await t.runs()) == 100


async def test_a_run_that_was_claimed_ahead_of_its_slot_did_not_start_before_it() -> None:
    @workflow(id="daily", schedule="0 9 * * *")
    async def daily() -> None: ...

    async with polos.testing.clock(START) as t:
        await t.advance(days=1)
        (run,) = await t.runs()
        (entry,) = await t.ledger(workflow=daily)
    assert run.started_at == run.timestamp
    assert entry.late_by == timedelta(0)


async def test_fired_one_off_schedules_leave_nothing_behind() -> None:
    ran: list[str] = []

    @workflow(id="remind", schedule=True)
    async def remind(ctx: WorkflowContext) -> None:
        ran.append(ctx.key)

    @workflow(id="daily", schedule="0 9 * * *")
    async def daily() -> None: ...

    async with polos.testing.clock(START, retention=timedelta(days=1)) as t:
        at = t.now + timedelta(minutes=5)
        for first in range(0, 2_000, 500):
            keys = range(first, first + 500)
            await schedules.create_many(
                t.client,
                [{"workflow": remind, "key": str(n), "at": at, "timezone": "UTC"} for n in keys],
            )
        later = t.now + timedelta(days=30)
        await schedules.create(t.client, remind, at=later, timezone="UTC", key="later")
        await t.advance(hours=1)
        assert len(ran) == 2_000
        await t.advance(days=2)
        assert await t.runs(workflow="remind") == []
        [left] = await schedules.list(t.client, workflow=remind)
        assert left.key == "later"
