"""The types of `polos.testing`. Checked by mypy and pyright, never run."""

from __future__ import annotations

from datetime import datetime, timedelta

from typing_extensions import assert_type

import polos.testing
from polos import LedgerEntry, Run, Schedule, StepInfo
from polos.testing import BlockingVirtualTime, Fault, VirtualTime


async def awaited() -> None:
    async with polos.testing.clock("2026-01-01T00:00Z", concurrency=1) as t:
        assert_type(t, VirtualTime)
        await t.advance(days=1)
        await t.advance(timedelta(days=1))
        assert_type(t.now, datetime)
        assert_type(await t.runs(workflow="x"), list[Run])
        assert_type(await t.steps(), list[StepInfo])
        assert_type(await t.ledger(status="ran"), list[LedgerEntry])
        assert_type(await t.schedules(), list[Schedule])
        fault = t.crash_at("x", when="after_commit")
        assert_type(fault, Fault)
        assert_type(fault.happened, int)
        with t.outage():
            await t.restart(elsewhere=True, lease=3)
        t.crash_at("x", when="sometime")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # error: no such moment
        t.fail_step("x", error="oops")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # error: not an exception
        await t.ledger(status="succeeded")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # error: no outcome of a slot
        await t.advance_to(5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # error: no instant
        polos.testing.clock("2026-01-01T00:00Z", concurency=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]  # error: misspelt


def blocking() -> None:
    with polos.testing.clock(datetime.now().astimezone()) as t:
        assert_type(t, BlockingVirtualTime)
        t.advance(hours=2)
        assert_type(t.runs(), list[Run])
        assert_type(t.steps(), list[StepInfo])
        t.crash_at("x", when="sometime")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # error: no such moment
