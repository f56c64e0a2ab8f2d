"""Operators override declared schedules; which declaration applies."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from polos import InvalidStateError, PolosClient, Schedule, Worker, schedules, workflow
from polos.workflow import isolated_registry


@asynccontextmanager
async def program(
    client: PolosClient, cron: str | None, version: str | None = None
) -> AsyncIterator[None]:
    """Start a process whose code declares the schedule of ``report``, or nothing."""
    with isolated_registry():
        if cron is not None:

            @workflow(id="report", schedule=cron)
            async def report(ctx: Any) -> None: ...

        @workflow(id="other")
        async def other(ctx: Any) -> None: ...

        async with Worker(client, app="shop", version=version):
            yield


async def restart(client: PolosClient, cron: str | None, version: str | None = None) -> None:
    async with program(client, cron, version):
        pass


async def report(client: PolosClient) -> Schedule:
    (found,) = await schedules.list(client, workflow="report")
    return found


async def test_an_update_is_kept_across_restarts_until_it_is_reset(
    client: PolosClient, caplog: pytest.LogCaptureFixture
) -> None:
    await restart(client, "0 9 * * *")
    id = (await report(client)).id
    changed = await schedules.update(client, id, cron="0 10 * * *")
    assert (changed.cron, changed.overridden) == ("0 10 * * *", True)
    caplog.clear()
    await restart(client, "0 9 * * *")
    kept = await report(client)
    assert (kept.id, kept.cron, kept.overridden) == (id, "0 10 * * *", True)
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len([text for text in warnings if "report" in text and "reset" in text]) == 1
    back = await schedules.reset(client, id)
    assert (back.cron, back.overridden) == ("0 9 * * *", False)
    again = await schedules.reset(client, id)
    assert (again.cron, again.upcoming) == (back.cron, back.upcoming)


async def test_create_with_the_key_of_the_code_overrides_it_too(client: PolosClient) -> None:
    await restart(client, "0 9 * * *")
    id = (await report(client)).id
    async with program(client, "0 9 * * *"):
        assert await schedules.create(client, "report", cron="30 6 * * *") == id
    await restart(client, "0 9 * * *")
    kept = await report(client)
    assert (kept.cron, kept.overridden) == ("30 6 * * *", True)


async def test_an_override_ends_when_the_declaration_changes(client: PolosClient) -> None:
    await restart(client, "0 9 * * *")
    await schedules.update(client, (await report(client)).id, cron="0 10 * * *")
    await restart(client, "0 7 * * *")
    after = await report(client)
    assert (after.cron, after.overridden) == ("0 7 * * *", False)


async def test_a_schedule_of_the_code_can_be_paused_and_not_deleted(client: PolosClient) -> None:
    await restart(client, "0 9 * * *")
    id = (await report(client)).id
    with pytest.raises(InvalidStateError, match=r"`report` in `shop`.*pause it"):
        await schedules.delete(client, id)
    assert (await schedules.pause(client, id)).status == "paused"


async def test_a_pause_and_its_note_survive_retirement_and_return(client: PolosClient) -> None:
    await restart(client, "0 9 * * *")
    id = (await report(client)).id
    await schedules.pause(client, id, note="until the audit is over")
    await restart(client, None)
    assert (await report(client)).status == "retired"
    await restart(client, "0 9 * * *")
    back = await report(client)
    assert (back.id, back.status, back.note) == (id, "paused", "until the audit is over")


@pytest.mark.parametrize(("old", "new"), [("2026.9.1", "2026.10.1"), (None, None)])
async def test_an_old_process_that_restarts_beside_new_ones_restores_nothing(
    old: str | None, new: str | None, client: PolosClient
) -> None:
    await restart(client, "0 9 * * *", old)
    async with program(client, "0 8 * * *", new):
        before = await report(client)
        assert before.cron == "0 8 * * *"
        for _ in range(5):
            await restart(client, "0 9 * * *", old)
            after = await report(client)
            assert (after.cron, after.status) == ("0 8 * * *", "active")
            assert (after.upcoming, after.overridden) == (before.upcoming, False)
        assert await schedules.history(client, before.id) == []
