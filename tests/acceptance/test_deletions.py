"""The deletion of a schedule while workers are about to start its runs."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from polos import (
    LedgerEntry,
    PolosClient,
    Run,
    SchedulePayload,
    StoreUnavailableError,
    SyncWorkflowContext,
    Worker,
    runs,
    schedules,
    workflow,
)
from polos._runtime.active_run import ActiveRun

Start = Callable[..., Any]
Eventually = Callable[[Callable[[], Any]], Awaitable[Any]]

REFUSED = "refused before its entry: the schedule was deleted"

# A worker whose event loop, or whose only thread for handlers, is blocked until it gets a line. It
# records each start of `digest` in a file.
WORKER = """
    import asyncio
    import logging
    import sys
    from pathlib import Path

    import polos
    from polos import workflow

    logging.basicConfig(format="%(levelname)s %(message)s", level=logging.INFO)
    database, app, busy = sys.argv[1:4]

    def stand_still():
        print("busy")
        sys.stdin.readline()

    def note():
        Path(f"entered-by-{app}").touch()

    if busy == "loop":
        @workflow(id=f"keep_{app}_busy")
        async def keep_busy():
            stand_still()

        @workflow(schedule=True)
        async def digest():
            note()
    else:
        @workflow(id=f"keep_{app}_busy")
        def keep_busy():
            stand_still()

        @workflow(schedule=True)
        def digest():
            note()

    async def main():
        client = polos.PolosClient(database)
        async with polos.Worker(client, app=app, threads=1, drain=0.1):
            print("ready")
            await asyncio.Event().wait()

    asyncio.run(main())
"""


async def claimed(client: PolosClient, schedule: str) -> list[Run]:
    """Return its claimed runs whose slots have passed. A deletion withdraws the others."""
    found = await runs.list(client, schedule=schedule, status="running")
    now = datetime.now(timezone.utc)
    return [run for run in found if run.timestamp is not None and run.timestamp < now]


async def refusals(client: PolosClient, schedule: str) -> list[LedgerEntry]:
    history = await schedules.history(client, schedule)
    return [entry for entry in history if entry.reason == REFUSED]


@pytest.mark.parametrize("busy", ["loop", "threads"])
async def test_no_run_starts_after_the_deletion_of_its_schedule_has_returned(
    database: Path | str, client: PolosClient, start: Start, eventually: Eventually, tmp_path: Path,
    busy: str,
) -> None:  # fmt: skip
    workers = {
        app: start(WORKER, str(database), app, busy, name=f"{app}.py") for app in ("one", "two")
    }
    for app, worker in workers.items():
        worker.wait_for_line("ready")
        await runs.invoke(client, f"keep_{app}_busy")
        worker.wait_for_line("busy")
    schedule = await schedules.create(client, "digest", every=1)
    await eventually(lambda: claimed(client, schedule))
    await schedules.delete(client, schedule)
    for worker in workers.values():
        worker.send_line("continue")
    await eventually(lambda: refusals(client, schedule))
    assert not await claimed(client, schedule)
    assert entries(tmp_path) == []
    output = "".join(worker.errors for worker in workers.values())
    assert f"of workflow `digest` was {REFUSED} ({schedule})" in output


def entries(folder: Path) -> list[Path]:
    return list(folder.glob("entered-by-*"))


class Confirmations:
    """The confirmations that a worker requests before it starts runs; the first ones fail."""

    def __init__(self, worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self.is_away = True
        ask = worker.client._ask_once

        async def answered(request: Any) -> Any:
            if "may_enter" in request.text:
                self.count += 1
                if self.is_away:
                    raise StoreUnavailableError("the database is down in this test")
            return await ask(request)

        monkeypatch.setattr(worker.client, "_ask_once", answered)


@pytest.mark.parametrize("is_deleted", [True, False])
async def test_a_late_start_waits_for_the_database(
    database: Path | str, client: PolosClient, eventually: Eventually,
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, is_deleted: bool,
) -> None:  # fmt: skip
    caplog.set_level(logging.INFO, "polos.worker")
    busy, proceed = threading.Event(), threading.Event()
    entered: list[str] = []

    @workflow
    def keep_busy() -> None:
        busy.set()
        proceed.wait()

    @workflow(schedule=True)
    def digest() -> None:
        entered.append("digest")

    async with Worker(PolosClient(database), threads=1) as worker:
        asked = Confirmations(worker, monkeypatch)
        executor = worker._executor
        assert executor is not None
        await runs.invoke(client, keep_busy)
        await eventually(busy.is_set)
        schedule = await schedules.create(client, digest, every=1)
        await eventually(lambda: claimed(client, schedule))
        if is_deleted:
            await schedules.delete(client, schedule)

        def is_too_late() -> bool:
            waiting = [a for a in list(executor.active.values()) if a.workflow.id == "digest"]
            return bool(waiting) and all(a.entry_is_unconfirmed() for a in waiting)

        await eventually(is_too_late)
        proceed.set()
        await eventually(lambda: asked.count > 1)
        assert entered == []
        asked.is_away = False
        if is_deleted:
            await eventually(lambda: refusals(client, schedule))
            assert entered == []
        else:
            await eventually(lambda: entered)
            await schedules.delete(client, schedule)
    worker.client.close()


async def test_an_async_handler_does_not_start_while_the_database_is_down(
    database: Path | str, client: PolosClient, eventually: Eventually,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    entered: list[str] = []

    @workflow(schedule=True)
    async def digest() -> None:
        entered.append("digest")

    begin = ActiveRun.__init__

    def begin_late(active: ActiveRun, *args: Any) -> None:
        begin(active, *args)
        # As if the loop had been busy since the confirmation of the claim.
        active.confirmed_at = None

    monkeypatch.setattr(ActiveRun, "__init__", begin_late)
    async with Worker(PolosClient(database)) as worker:
        asked = Confirmations(worker, monkeypatch)
        await schedules.create(client, digest, every=1)
        await eventually(lambda: asked.count > 1)
        assert entered == []
        asked.is_away = False
        await eventually(lambda: entered)
    worker.client.close()


async def test_a_handler_in_progress_finishes_after_the_deletion_of_its_schedule(
    database: Path | str, client: PolosClient, eventually: Eventually
) -> None:
    proceed = asyncio.Event()
    entered = asyncio.Event()

    @workflow(schedule=True)
    async def digest() -> str:
        entered.set()
        await proceed.wait()
        return "done"

    async with Worker(PolosClient(database)) as worker:
        schedule = await schedules.create(client, digest, every=1)
        await entered.wait()
        await schedules.delete(client, schedule)
        (run,) = await claimed(client, schedule)
        proceed.set()
        ended = await eventually(lambda: finished(client, run.id))
        assert (ended.status, ended.result) == ("succeeded", "done")
    worker.client.close()


async def finished(client: PolosClient, id: str) -> Any:
    run = await runs.get(client, id)
    return run if run.status == "succeeded" else None


async def test_runs_of_other_schedules_start_however_late(
    database: Path | str, client: PolosClient, eventually: Eventually
) -> None:
    """Runs that wait for the only thread are confirmed and started one after the other."""
    busy, proceed = threading.Event(), threading.Event()
    entered: list[str] = []

    @workflow
    def keep_busy() -> None:
        busy.set()
        proceed.wait()

    @workflow(schedule=True)
    def digest(ctx: SyncWorkflowContext, payload: SchedulePayload) -> None:
        entered.append(payload.key)

    keys = [f"user-{number}" for number in range(20)]
    async with Worker(PolosClient(database), threads=1) as worker:
        executor = worker._executor
        assert executor is not None
        await runs.invoke(client, keep_busy)
        await eventually(busy.is_set)
        for key in keys:
            await schedules.create(client, digest, every=1, key=key, max_runs=1)

        def are_too_late() -> bool:
            waiting = [a for a in list(executor.active.values()) if a.workflow.id == "digest"]
            return len(waiting) == len(keys) and all(a.entry_is_unconfirmed() for a in waiting)

        await eventually(are_too_late)
        proceed.set()
        await eventually(lambda: len(entered) == len(keys))
        assert sorted(entered) == sorted(keys)
    worker.client.close()
