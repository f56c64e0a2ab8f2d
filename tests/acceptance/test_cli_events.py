"""`polos runs send`, and waiting runs in `polos runs show`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel

from polos import PolosClient, Worker, runs, workflow
from polos.runs import RunHandle

Command = Callable[..., Any]


class Approval(BaseModel):
    by: str


@pytest.fixture(autouse=True)
def handlers() -> None:
    @workflow(id="publish")
    async def publish(ctx):
        approval = await ctx.step.wait_event("approval", timeout=timedelta(days=3), type=Approval)
        await ctx.step.wait_event("never", timeout=0)
        return approval.by

    @workflow(id="open-ended")
    async def open_ended(ctx):
        await ctx.step.wait_event("signal")


async def waiting(client: PolosClient, eventually: Any, workflow: str) -> RunHandle[Any]:
    async with Worker(client):
        handle = await runs.invoke(client, workflow)

        async def waits() -> bool:
            return await handle.status() == "waiting"

        await eventually(waits)
    return handle


async def test_an_event_is_sent_to_a_run(
    command: Command, client: PolosClient, eventually: Any
) -> None:
    handle = await waiting(client, eventually, "publish")
    result = command("runs", "show", handle.id)
    assert f"event approval: polos runs send {handle.id} approval" in result.out
    assert "for this event until 20" in result.out
    result = command("runs", "send", handle.id, "approval", "--payload", '{"by": "ada"}')
    assert (result.code, result.out) == (0, f"{handle.id} has the event approval\n")
    result = command("runs", "send", "publish", "approval", "--payload", '{"by": "bob"}')
    assert result.code == 1
    assert "did not accept the event approval" in result.out
    async with Worker(client):
        assert await handle.result(30) == "ada"
    result = command("runs", "show", handle.id)
    assert "timed out: no event came" in result.out
    assert "waits for" not in result.out
    steps = {
        step["name"]: step
        for step in command("runs", "show", handle.id, "--json").objects[0]["steps"]
    }
    assert [steps[name]["timed_out"] for name in ("approval", "never")] == [False, True]
    result = command("runs", "send", handle.id, "approval")
    assert result.code == 1
    assert "takes no more events" in result.err


async def test_a_wait_without_a_deadline_is_shown_without_a_date(
    command: Command, client: PolosClient, eventually: Any
) -> None:
    handle = await waiting(client, eventually, "open-ended")
    shown = (("runs", "show", handle.id), ("runs", "list"), ("doctor",))
    for words in (*shown, ("runs", "show", handle.id, "--json")):
        assert "9999" not in command(*words).out, words
    output = command("runs", "show", handle.id).out
    assert f"event signal: polos runs send {handle.id} signal" in output
    assert "for this event" in output
    assert "until" not in output
    assert "continues" not in output
    assert command("runs", "cancel", handle.id).code == 0
    assert "the run ended before this event came" in command("runs", "show", handle.id).out
    assert command("runs", "retry", handle.id).code == 0
    assert command("runs", "send", handle.id, "signal").code == 0
    async with Worker(client):
        assert await handle.result(30) is None


async def test_an_event_is_sent_to_a_workflow_and_key(
    command: Command, client: PolosClient, eventually: Any
) -> None:
    handle = await waiting(client, eventually, "open-ended")
    assert "event signal" in command("runs", "show", handle.id).out
    send = ["runs", "send", "--workflow", "open-ended", "--key", "global", "signal"]
    result = command(*send, "--idempotency-key", "k", "--json")
    assert result.objects == [{"to": "open-ended global", "event": "signal", "accepted": True}]
    assert command(*send, "--idempotency-key", "k").code == 0
    assert command(*send).code == 1
    async with Worker(client):
        await handle.result(30)
    result = command(*send)
    assert (result.code, "no unfinished run of workflow `open-ended`" in result.err) == (3, True)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["run_1"], "expected RUN and EVENT"),
        (["--workflow", "w", "a"], "pass --workflow and --key together"),
        (["--key", "k", "a"], "pass --workflow and --key together"),
        (["--workflow", "w", "--key", "k", "run_1", "a"], "expected only EVENT"),
        (["run_1", "a", "--payload", "{by: ada}"], "isn't JSON"),
        (["run_1", "a", "--payload", "NaN"], "NaN is no JSON"),
    ],
)
def test_wrong_arguments_say_what_is_expected(
    command: Command, client: PolosClient, arguments: list[str], expected: str
) -> None:
    result = command("runs", "send", *arguments)
    assert result.code != 0
    assert expected in result.err
