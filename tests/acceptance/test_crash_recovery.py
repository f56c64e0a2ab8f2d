"""After SIGKILL, finished steps are never executed again, and runs continue where they stopped.

Every step first appends to a file and syncs it. The tests check this file, not the database.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from polos import PolosClient, Run, RunHandle, StepSerializationError, runs, schedules

APP = """
    import asyncio
    import os
    import sys
    from datetime import timedelta

    from pydantic import BaseModel

    from polos import PolosClient, StepError, Worker, WorkflowContext, workflow

    LIFE, *HALTS = sys.argv[1:]

    class User(BaseModel):
        name: str
        email: str

    def note(line):
        file = os.open("executed.txt", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(file, f"{LIFE}: {line}\\n".encode())
        os.fsync(file)
        os.close(file)

    async def halt(place):
        if place in HALTS:
            print("at", place)
            await asyncio.Event().wait()

    async def fetch() -> User:
        note("fetch")
        await halt("in fetch")
        return User(name="Ada", email="ada@example.org")

    def generate(user: User):
        note("generate")
        return {"to": user, "lines": (1, 2)}

    async def send(report):
        note("send")
        await halt("in send")
        return report["to"].email

    @workflow(id="three-steps")
    async def three_steps(ctx: WorkflowContext):
        user = await ctx.step.run("fetch", fetch)
        await halt("after fetch")
        report = await ctx.step.run("generate", generate, user)
        await halt("after generate")
        address = await ctx.step.run("send", send, report)
        await halt("after send")
        return [type(user).__name__, user.email, type(report["to"]).__name__, address, ctx.attempt]

    async def work():
        async with Worker(PolosClient(), app="app", lease=2):
            print("ready")
            await asyncio.Event().wait()
"""

MAIN = """
    asyncio.run(work())
"""

FINISHED = ["User", "ada@example.org", "User", "ada@example.org", 1]


@pytest.fixture
def executed(tmp_path: Path) -> Callable[[], list[str]]:
    return lambda: (tmp_path / "executed.txt").read_text().splitlines()


@pytest.mark.parametrize(
    ("place", "done", "again"),
    [
        ("in fetch", ["fetch"], ["fetch", "generate", "send"]),
        ("after fetch", ["fetch"], ["generate", "send"]),
        ("after generate", ["fetch", "generate"], ["send"]),
        ("in send", ["fetch", "generate", "send"], ["send"]),
        ("after send", ["fetch", "generate", "send"], []),
    ],
)
async def test_a_killed_run_continues_from_its_first_unfinished_step(
    start: Any, client: PolosClient, executed: Any, place: str, done: list[str], again: list[str]
) -> None:
    first = start(APP + MAIN, "first", place)
    first.wait_for_line("ready")
    handle: RunHandle[Any] = await runs.invoke(client, "three-steps")
    first.wait_for_line(f"at {place}")
    first.kill()
    assert executed() == [f"first: {step}" for step in done]

    start(APP + MAIN, "second")
    assert await handle.result(30) == FINISHED
    assert executed()[len(done) :] == [f"second: {step}" for step in again]
    run = await runs.get(client, handle.id)
    assert [(step.name, step.status) for step in run.steps] == [
        ("fetch", "succeeded"), ("generate", "succeeded"), ("send", "succeeded"),
    ]  # fmt: skip


async def test_killed_twice_in_a_row_and_still_no_finished_step_is_repeated(
    start: Any, client: PolosClient, executed: Any
) -> None:
    first = start(APP + MAIN, "first", "after fetch")
    first.wait_for_line("ready")
    handle: RunHandle[Any] = await runs.invoke(client, "three-steps")
    first.wait_for_line("at after fetch")
    first.kill()
    second = start(APP + MAIN, "second", "in send")
    second.wait_for_line("at in send")
    second.kill()
    start(APP + MAIN, "third")
    assert await handle.result(30) == FINISHED
    assert executed() == ["first: fetch", "second: generate", "second: send", "third: send"]


async def test_another_live_worker_takes_over_within_the_lease(
    start: Any, client: PolosClient, executed: Any
) -> None:
    first = start(APP + MAIN, "first", "in send")
    first.wait_for_line("ready")
    handle: RunHandle[Any] = await runs.invoke(client, "three-steps")
    first.wait_for_line("at in send")
    second = start(APP + MAIN, "second")
    second.wait_for_line("ready")
    first.kill()
    assert await handle.result(30) == FINISHED
    assert executed() == ["first: fetch", "first: generate", "first: send", "second: send"]


async def test_a_client_in_another_process_waits_through_the_crash(
    start: Any, client: PolosClient
) -> None:
    first = start(APP + MAIN, "first", "in fetch")
    first.wait_for_line("ready")
    handle: RunHandle[Any] = await runs.invoke(client, "three-steps", idempotency_key="once")
    first.wait_for_line("at in fetch")
    first.kill()
    assert await handle.status() == "running"
    assert (await runs.invoke(client, "three-steps", idempotency_key="once")).id == handle.id
    start(APP + MAIN, "second")
    assert await handle.result(30) == FINISHED
    assert len(await runs.list(client)) == 1


# --- killed while waiting --------------------------------------------------------------------

SLEEPER = """
    @workflow(id="sleeper")
    async def sleeper(ctx: WorkflowContext):
        await ctx.step.run("before", note, "before")
        await ctx.step.sleep("nap", timedelta(seconds=1.5))
        await ctx.step.run("after", note, "after")
"""


async def test_a_durable_sleep_continues_while_the_process_is_down(
    start: Any, client: PolosClient, executed: Any, eventually: Any
) -> None:
    async def nap() -> Any:
        run = await runs.get(client, handle.id)
        return next((step for step in run.steps if step.name == "nap"), None)

    first = start(APP + SLEEPER + MAIN, "first")
    first.wait_for_line("ready")
    handle: RunHandle[Any] = await runs.invoke(client, "sleeper")
    asleep = await eventually(nap)
    first.kill()

    start(APP + SLEEPER + MAIN, "second")
    await handle.result(30)
    run = await runs.get(client, handle.id)
    after = run.steps[-1]
    assert executed() == ["first: before", "second: after"]
    assert after.started_at is not None
    assert after.started_at >= asleep.wakes_at


async def test_a_long_sleep_is_held_by_no_worker_and_survives_a_kill(
    start: Any, client: PolosClient, executed: Any, eventually: Any
) -> None:
    async def waits() -> bool:
        return await handle.status() == "waiting"

    sleeper = APP + SLEEPER.replace("seconds=1.5", "days=1") + MAIN
    first = start(sleeper, "first")
    first.wait_for_line("ready")
    handle: RunHandle[Any] = await runs.invoke(client, "sleeper")
    await eventually(waits)
    first.kill()
    second = start(sleeper, "second")
    second.wait_for_line("ready")
    assert await handle.status() == "waiting"
    assert await handle.cancel() == "cancelled"
    assert executed() == ["first: before"]


FLAKY = """
    def flaky():
        note("flaky")
        if LIFE == "first":
            raise ConnectionError("not yet")
        return "there"

    @workflow(id="flaky")
    async def retried(ctx: WorkflowContext):
        return await ctx.step.run("flaky", flaky, retries=50, backoff=timedelta(seconds=2))
"""


async def test_a_step_that_waits_for_its_retry_keeps_its_count_and_its_time(
    start: Any, client: PolosClient, executed: Any, eventually: Any
) -> None:
    async def waiting() -> Any:
        run = await runs.get(client, handle.id)
        return next((step for step in run.steps if step.status == "waiting"), None)

    first = start(APP + FLAKY + MAIN, "first")
    first.wait_for_line("ready")
    handle: RunHandle[Any] = await runs.invoke(client, "flaky")
    step = await eventually(waiting)
    assert step.error.message == "not yet"
    first.kill()

    start(APP + FLAKY + MAIN, "second")
    assert await handle.result(30) == "there"
    run = await runs.get(client, handle.id)
    lives = Counter(line.split(":")[0] for line in executed())
    assert lives["second"] == 1
    assert 2 <= run.steps[0].attempt <= lives["first"] + 1
    assert run.steps[0].started_at == step.started_at
    assert run.steps[0].finished_at is not None
    assert run.steps[0].finished_at >= step.wakes_at


CAUGHT = """
    def refuse():
        note("refuse")
        raise ValueError("no such user")

    @workflow(id="caught")
    async def caught(ctx: WorkflowContext):
        try:
            await ctx.step.run("refuse", refuse)
        except StepError as error:
            described = [str(error), type(error.__cause__).__name__, str(error.__cause__)]
        await halt("after refuse")
        return described
"""


async def test_a_recorded_failure_is_raised_again_and_not_tried_again(
    start: Any, client: PolosClient, executed: Any
) -> None:
    first = start(APP + CAUGHT + MAIN, "first", "after refuse")
    first.wait_for_line("ready")
    handle: RunHandle[Any] = await runs.invoke(client, "caught")
    first.wait_for_line("at after refuse")
    first.kill()
    start(APP + CAUGHT + MAIN, "second")
    described = await handle.result(30)
    assert described == [
        "step `refuse` failed once, last with ValueError: no such user",
        "ValueError",
        "no such user",
    ]
    assert executed() == ["first: refuse"]


# --- types that no annotation has ------------------------------------------------------------

UNDECLARED = """
    import logging
    from dataclasses import dataclass

    logging.basicConfig(stream=sys.stdout, format="%(message)s")

    @dataclass
    class Account:
        email: str

    ACCOUNT = Account("ada@example.org")

    async def undeclared():
        note("undeclared")
        return ACCOUNT

    @workflow(id="undeclared")
    async def reads(ctx: WorkflowContext):
        account = await ctx.step.run("fetch", undeclared)
        await halt("after fetch")
        return account.email

    if LIFE == "third":
        import polos

        polos.register_types(Account)
"""


async def test_a_type_that_nothing_mentions_is_named_at_once_and_can_be_registered_later(
    start: Any, client: PolosClient, executed: Any
) -> None:
    first = start(APP + UNDECLARED + MAIN, "first", "after fetch")
    first.wait_for_line("ready")
    handle: RunHandle[Any] = await runs.invoke(client, "undeclared")
    warning = first.wait_for_line("step `fetch` returned a")
    for part in (":Account`", "return annotation", "`polos.register_types`"):
        assert part in warning
    first.wait_for_line("at after fetch")
    first.kill()

    second = start(APP + UNDECLARED + MAIN, "second")
    with pytest.raises(StepSerializationError, match=r"step `fetch` was recorded.*register_types"):
        await handle.result(30)
    second.kill()

    third = start(APP + UNDECLARED + MAIN, "third")
    third.wait_for_line("ready")
    assert await runs.retry(client, handle.id) == "queued"
    assert await handle.result(30) == "ada@example.org"
    assert executed() == ["first: undeclared"]


# --- slots -----------------------------------------------------------------------------------

TICKER = """
    @workflow(id="ticker", schedule=True)
    async def ticker(ctx: WorkflowContext, payload):
        note(payload.timestamp.isoformat())
        print("tick")
        await halt(f"tick {ctx.attempt}")
"""


async def test_no_slot_is_lost_or_doubled_over_a_kill(
    start: Any, client: PolosClient, executed: Any
) -> None:
    first = start(APP + TICKER + MAIN, "first")
    first.wait_for_line("ready")
    schedule = await schedules.create(
        client, "ticker", every=timedelta(seconds=1), catch_up="all", overlap="buffer_all"
    )
    first.wait_for_line("tick")
    first.wait_for_line("tick")
    first.kill()
    second = start(APP + TICKER + MAIN, "second")
    for _ in range(4):
        second.wait_for_line("tick")
    second.kill()

    seen = [line.split(": ")[1] for line in executed()]
    entries = [e for e in await schedules.history(client, schedule) if e.status == "ran"]
    slots = sorted(entry.timestamp for entry in entries)
    assert slots == [slots[0] + timedelta(seconds=n) for n in range(len(slots))]
    assert len({entry.run_id for entry in entries}) == len(entries)
    # Only a run that a kill interrupted may have been executed twice, and each at least once.
    made: list[Run] = await runs.list(client, schedule=schedule)
    finished = {run.timestamp.isoformat() for run in made if run.status == "succeeded" and run.timestamp}  # fmt: skip # noqa: E501
    assert finished <= set(seen)
    assert len(seen) - len(set(seen)) <= 1


async def test_a_slot_whose_run_was_killed_is_the_same_run_afterwards(
    start: Any, client: PolosClient, executed: Any
) -> None:
    first = start(APP + TICKER + MAIN, "first", "tick 1")
    first.wait_for_line("ready")
    schedule = await schedules.create(client, "ticker", "@yearly")
    handle: RunHandle[Any] = await schedules.trigger(client, schedule)
    first.wait_for_line("at tick 1")
    first.kill()
    start(APP + TICKER + MAIN, "second")
    await handle.result(30)
    first_line, second_line = executed()
    assert first_line.removeprefix("first: ") == second_line.removeprefix("second: ")
