"""`polos runs`: listing, showing, watching, cancelling, and retrying runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import fields
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

import polos
from polos import PermanentError, PolosClient, Run, StepError, Worker, runs, schedules, workflow

Command = Callable[..., Any]

# In tracebacks: the files of polos itself.
PACKAGE = str(Path(polos.__file__).parent)
# Fields that are read for one run, but not for lists.
WITH_DETAILS = ["payload", "input", "parent", "last_timestamp", "upcoming"]


@pytest.fixture(autouse=True)
def handlers() -> None:
    @workflow(id="add", schedule=True)
    async def add(ctx, payload):
        await ctx.step.run("first", sum, [1, 2])
        return await ctx.step.run("second", sum, [3, 4])

    @workflow(id="fail")
    async def fail(ctx):
        await ctx.step.run("fetch", lambda: {}["key"])

    @workflow(id="nap")
    async def nap(ctx):
        await ctx.step.sleep("nap", timedelta(hours=1))


async def ended(client: PolosClient, workflow: str) -> str:
    """Start a run and wait for its completion."""
    async with Worker(client):
        handle = await runs.invoke(client, workflow)
        with suppress(PermanentError, StepError):
            await handle.result(30)
    return handle.id


async def waiting(client: PolosClient, eventually: Any) -> str:
    async with Worker(client):
        handle = await runs.invoke(client, "nap")

        async def waits() -> bool:
            return await handle.status() == "waiting"

        await eventually(waits)
    return handle.id


async def test_a_list_has_the_newest_first(command: Command, client: PolosClient) -> None:
    first, second = await ended(client, "add"), await ended(client, "fail")
    result = command("runs", "list")
    assert [line.split()[0] for line in result.lines] == ["RUN", second, first]
    assert "StepError: step `fetch` failed once, last with KeyError: 'key'" in result.lines[1]
    for filters in (["-w", "add"], ["-s", "succeeded"], ["--status", "queued,succeeded"]):
        assert [run["id"] for run in command("runs", "list", "--json", *filters).objects] == [first]
    assert command("runs", "list", "--since", "in 1h").out == ""
    assert len(command("runs", "list", "--since", "1h ago", "--json").objects) == 2


async def test_a_list_continues_after_the_last_item(command: Command, client: PolosClient) -> None:
    for _ in range(3):
        await runs.invoke(client, "add")
    result = command("runs", "list", "-n", "2", "--json")
    after = result.err.split("--after ")[1].split()[0]
    rest = command("runs", "list", "--after", after, "--json")
    assert [run["id"] for run in result.objects + rest.objects] == [
        run.id for run in await runs.list(client)
    ]
    assert rest.err == ""


async def test_runs_of_one_schedule(command: Command, client: PolosClient) -> None:
    ids = [
        await schedules.create(client, "add", cron="0 8 * * *", key=key) for key in ("ada", "bob")
    ]
    ada, bob = [(await schedules.trigger(client, id)).id for id in ids]
    result = command("runs", "list", "--schedule", "add/ada", "--json")
    assert [run["id"] for run in result.objects] == [ada]
    assert command("runs", "show", "add/bob", "--json").objects[0]["id"] == bob
    assert command("runs", "show", ids[1], "--json").objects[0]["id"] == bob


async def test_a_run_is_shown_with_its_steps(command: Command, client: PolosClient) -> None:
    id = await ended(client, "add")
    result = command("runs", "show", id)
    assert result.code == 0
    steps = result.out.split("steps\n")[1].splitlines()
    assert [line.split()[0] for line in steps] == ["STEP", "first", "second"]
    assert [line.split()[-1] for line in steps[1:]] == ["3", "7"]
    assert ["result", "7"] in [line.split() for line in result.lines]


async def test_a_failed_run_shows_the_applications_frames_and_none_of_ours(
    command: Command, client: PolosClient
) -> None:
    id = await ended(client, "fail")
    result = command("runs", "show", "fail")
    assert id in result.out
    assert "KeyError: 'key'" in result.out
    assert "test_cli_runs.py" in result.out
    assert PACKAGE not in result.out.split("error\n", 1)[1]
    (shape,) = command("runs", "show", id, "--json").objects
    assert shape["error"]["cause"]["type"] == "KeyError"
    assert "step_execution.py" in shape["error"]["traceback"]


async def test_a_run_says_why_it_was_not_retried(command: Command, client: PolosClient) -> None:
    @workflow(id="permanent", retries=3)
    async def permanent():
        raise PermanentError("the card was declined")

    id = await ended(client, "permanent")
    result = command("runs", "show", id)
    assert "not retried  it is a `PermanentError`" in result.out
    (shape,) = command("runs", "show", id, "--json").objects
    assert shape["error"]["not_retried"] == "it is a `PermanentError`"
    assert "not retried" not in command("runs", "show", await ended(client, "fail")).out

    @workflow(id="caught")
    async def caught(ctx):
        with suppress(StepError):
            await ctx.step.run("charge", lambda: {}["key"], retries=2, retry_on=OSError)

    shown = command("runs", "show", await ended(client, "caught")).out
    assert "not retried  step `charge`: `retry_on` does not include `KeyError`" in shown


async def test_the_shape_of_a_run_in_json(command: Command, client: PolosClient) -> None:
    id = await ended(client, "add")
    (shape,) = command("runs", "show", id, "--json").objects
    (step, _) = shape.pop("steps")
    details = [shape.pop(name) for name in WITH_DETAILS]
    assert list(step) == [
        "name", "status", "attempt", "started_at", "finished_at", "wakes_at", "awaits_event",
        "timed_out", "result", "error",
    ]  # fmt: skip
    assert command("runs", "list", "--json").objects == [shape]
    assert list(shape) == [
        "id", "workflow", "key", "schedule_id", "timestamp", "status", "attempt", "priority",
        "interruptions", "note", "progress", "origin", "worker", "created_at", "due_at",
        "started_at", "finished_at", "result", "error",
    ]  # fmt: skip
    assert details == [None] * len(details)
    assert {*shape, *WITH_DETAILS, "steps"} == {field.name for field in fields(Run)}
    assert (shape["id"], shape["result"], shape["origin"]) == (id, 7, "invoke")
    assert datetime.fromisoformat(shape["created_at"]) <= datetime.now(timezone.utc)


async def test_cancel_and_retry(command: Command, client: PolosClient, eventually: Any) -> None:
    id = await waiting(client, eventually)
    assert "continues" in command("runs", "show", id).out
    result = command("runs", "cancel", id)
    assert (result.code, result.out) == (0, f"{id} is cancelled\n")
    result = command("runs", "retry", "nap", "--json")
    assert result.objects[0]["status"] == "queued"
    assert command("runs", "cancel", "-", stdin=f"{id}\n").code == 0


async def test_what_has_succeeded_isnt_retried(command: Command, client: PolosClient) -> None:
    id = await ended(client, "add")
    result = command("runs", "retry", id)
    assert result.code == 1
    assert f"the run `{id}` is succeeded; only a failed or cancelled run can be" in result.err
    several = command("runs", "retry", id, "run_nope")
    assert several.code == 1
    assert several.err.count("polos: ") == 2


async def test_watching_a_run_shows_its_steps_and_ends_with_it(
    command: Command, client: PolosClient
) -> None:
    async with Worker(client):
        handle = await runs.invoke(client, "add")
        good = await asyncio.to_thread(command, "runs", "watch", handle.id)
        await runs.invoke(client, "fail")
        bad = await asyncio.to_thread(command, "runs", "watch", "fail", "--json")
    assert good.code == 0
    assert "step first  succeeded" in good.out
    assert "step second  succeeded" in good.out
    assert good.lines[-1].endswith("succeeded  7")
    assert bad.code == 1
    assert bad.objects[-1]["status"] == "failed"
    assert bad.objects[-1]["steps"][0]["name"] == "fetch"


async def test_progress_is_shown_and_followed(
    command: Command, client: PolosClient, eventually: Any
) -> None:
    seen = asyncio.Event()

    @workflow(id="read")
    async def read(ctx):
        ctx.progress(0.4, "page 12\x1b of 30")
        await seen.wait()
        raise RuntimeError

    async with Worker(client):
        handle = await runs.invoke(client, "read")
        await eventually(handle.progress)
        result = await asyncio.to_thread(command, "runs", "show", handle.id)
        (shape,) = (await asyncio.to_thread(command, "runs", "show", handle.id, "--json")).objects
        watching = asyncio.create_task(asyncio.to_thread(command, "runs", "watch", handle.id))
        seen.set()
        with suppress(RuntimeError):
            await handle.result(30)
        watched = await watching
    (line,) = [line for line in result.lines if line.startswith("progress")]
    assert "40%, page 12" in line
    assert "\x1b" not in result.out + watched.out
    assert shape["progress"]["fraction"] == 0.4
    assert datetime.fromisoformat(shape["progress"]["timestamp"])
    assert [line for line in watched.lines if "40%, page 12" in line]
