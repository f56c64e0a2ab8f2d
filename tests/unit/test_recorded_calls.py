"""Recorded hook calls: when one counts as made."""

from __future__ import annotations

import asyncio
from datetime import datetime, timezone
from typing import Any

import pytest

from polos import SkippedSlots, StoreError
from polos._runtime.hook_calls import HookCalls, WorkerHooks
from polos._runtime.hook_runs import start_run
from polos._runtime.recorded_calls import make_calls
from polos._runtime.threads import ThreadPool
from polos.workflow import Workflow

NOW = datetime(2026, 3, 1, tzinfo=timezone.utc)

CALL: dict[str, Any] = {
    "id": "skipped:sch_1:60000000",
    "event": "skipped",
    "workflow": "report",
    "schedule_id": "sch_1",
    "key": "global",
    "first": 60_000_000,
    "last": 60_000_000,
    "count": 1,
    "reason": "skipped on request",
    "due_at": 0,
    "run_id": None,
    "run": None,
}


def _hooks(is_closing: bool = False, **given: Any) -> HookCalls:
    loop, threads = asyncio.get_running_loop(), ThreadPool(1, "test")
    return HookCalls(loop, threads, WorkerHooks((), **given), None, lambda: is_closing)


def _report(**options: Any) -> dict[str, Workflow[Any, Any]]:
    return {"report": Workflow(lambda: None, id="report", **options)}


async def test_a_call_is_made_when_all_of_its_hooks_have_returned() -> None:
    first, second = asyncio.Event(), asyncio.Event()
    made: list[str] = []

    async def slow(_: Any) -> None:
        await second.wait()

    async def failing(_: Any) -> None:
        await first.wait()
        raise OSError("no route to the pager")

    hooks = _hooks(on_skipped=slow)
    make_calls([CALL], _report(on_skipped=failing), hooks, made.append)
    tasks = set(hooks.tasks)
    first.set()
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    assert made == []
    second.set()
    await asyncio.wait(tasks)
    await asyncio.sleep(0)
    assert made == [CALL["id"]]


async def test_a_call_without_a_hook_is_made_at_once() -> None:
    made: list[str] = []
    make_calls([CALL], _report(), _hooks(), made.append)
    make_calls([CALL], {}, _hooks(on_skipped=made.append), made.append)
    assert made == [CALL["id"]] * 2


@pytest.mark.parametrize("is_closing", [True, False])
async def test_a_hook_is_called_again_only_if_the_end_of_its_loop_cancelled_it(
    is_closing: bool, caplog: pytest.LogCaptureFixture
) -> None:
    made: list[str] = []

    async def endless(_: Any) -> None:
        await asyncio.Event().wait()

    hooks = _hooks(is_closing)
    make_calls([CALL], _report(on_skipped=endless), hooks, made.append)
    (task,) = hooks.tasks
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})
    await asyncio.sleep(0)
    assert made == ([] if is_closing else [CALL["id"]])
    assert ("on_skipped of workflow `report` was cancelled" in caplog.text) is not is_closing


async def test_the_run_of_a_hook_is_started_once_the_database_answers(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[dict[str, Any]] = []
    delays: list[float] = []

    async def invoke(*_: Any, **options: Any) -> None:
        asked.append(options)
        if len(asked) < 4:
            raise StoreError("the database does not answer")

    async def sleep(seconds: float) -> None:
        delays.append(seconds)

    monkeypatch.setattr("polos.runs.invoke", invoke)
    monkeypatch.setattr("asyncio.sleep", sleep)
    event = SkippedSlots("report", "sch_1", "global", NOW, NOW, 1, "skipped on request")
    notify: Any = Workflow(lambda ctx, event: None, id="notify")
    client: Any = None
    await start_run(client, notify, event, CALL["id"], "on_skipped of workflow `report`")
    assert (len(asked), delays) == (4, [1, 2, 4])
    assert {each["idempotency_key"] for each in asked} == {f"hook:{CALL['id']}"}
    assert caplog.text.count("could not start its run yet") == 1
