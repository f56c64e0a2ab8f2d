"""Limits: how many runs are in progress at once, on all workers together."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import pickle
import sqlite3
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import polos
import polos.testing
from polos import (
    InvalidArgumentError,
    InvalidStateError,
    Invocation,
    Limit,
    LimitNotFoundError,
    PolosClient,
    Worker,
    WorkflowContext,
    limits,
    runs,
    schedules,
    workflow,
)
from polos.testing import VirtualTime
from polos.workflow import isolated_registry

Command = Callable[..., Any]


class Handlers:
    """Counts the handlers in progress, and ends one at a time."""

    def __init__(self) -> None:
        self.running: dict[str, int] = {}
        self.most: dict[str, int] = {}
        self.started = 0
        self._permits = asyncio.Semaphore(0)

    async def __call__(self, name: str) -> None:
        self.started += 1
        self.running[name] = self.running.get(name, 0) + 1
        self.most[name] = max(self.most.get(name, 0), self.running[name])
        try:
            await self._permits.acquire()
        finally:
            self.running[name] -= 1

    def end(self, count: int = 1) -> None:
        """Let this many handlers return."""
        for _ in range(count):
            self._permits.release()


async def test_a_number_bounds_the_runs_of_all_workers(
    new_database: Any, database: Any, eventually: Any
) -> None:
    handlers = Handlers()

    @workflow(id="resize", concurrency=3)
    async def resize(ctx: Any) -> None:
        await handlers("resize")

    one, other = PolosClient(database), PolosClient(database)
    async with one, other, Worker(one), Worker(other):
        handles = [await resize.invoke(one) for _ in range(5)]
        handles += [await resize.invoke(other) for _ in range(5)]
        await eventually(lambda: handlers.started == 3)
        (limit,) = await limits.list(one)
        assert (limit.name, limit.max, limit.running, limit.queued) == ("resize", 3, 3, 7)
        assert limit.queued_since is not None
        for ended in range(1, 8):
            handlers.end()
            await eventually(lambda ended=ended: handlers.started == 3 + ended)
        handlers.end(3)
        await asyncio.gather(*(handle.result(30) for handle in handles))
    assert handlers.most == {"resize": 3}


async def test_a_shared_limit_lets_other_workflows_pass(
    client: PolosClient, eventually: Any
) -> None:
    handlers = Handlers()
    openai = Limit("openai", 1)

    @workflow(id="summarize", concurrency=openai)
    async def summarize(ctx: Any) -> None:
        await handlers("openai")

    @workflow(id="translate", concurrency=openai)
    async def translate(ctx: Any) -> None:
        await handlers("openai")

    @workflow(id="other")
    async def other(ctx: Any) -> int:
        return 7

    async with Worker(client):
        handles = [await w.invoke(client) for w in (summarize, translate, summarize)]
        await eventually(lambda: handlers.started == 1)
        assert await other.run(client, timeout=30) == 7
        handlers.end(3)
        await asyncio.gather(*(handle.result(30) for handle in handles))
    assert handlers.most == {"openai": 1}


async def test_an_operators_value_wins_until_it_is_reset(
    client: PolosClient, eventually: Any
) -> None:
    handlers = Handlers()

    @workflow(id="ask", concurrency=Limit("openai", 1))
    async def ask(ctx: Any) -> None:
        await handlers("ask")

    async with Worker(client):
        handles = [await ask.invoke(client) for _ in range(6)]
        await eventually(lambda: handlers.started == 1)
        await limits.set(client, "openai", 4)
        await eventually(lambda: handlers.started == 4)
        (limit,) = await limits.list(client)
        assert (limit.max, limit.declared["max"], limit.overridden) == (4, 1, True)
        await limits.reset(client, "openai")
        for running in (3, 2, 1):
            handlers.end()
            await eventually(lambda running=running: handlers.running["ask"] == running)
        handlers.end(3)
        await asyncio.gather(*(handle.result(30) for handle in handles))
    assert handlers.most == {"ask": 4}


async def test_an_operators_value_survives_a_restart(client: PolosClient) -> None:
    @workflow(id="ask", concurrency=Limit("openai", 1))
    async def ask(ctx: Any) -> None: ...

    async with Worker(client):
        await limits.set(client, "openai", 4, per_key=2)
    async with Worker(client):
        (limit,) = await limits.list(client)
    assert (limit.max, limit.per_key, limit.overridden) == (4, 2, True)


async def test_what_an_operator_does_not_set_follows_the_code(
    client: PolosClient, command: Command
) -> None:
    async def nothing(ctx: Any) -> None: ...

    async def deploy(limit: Limit) -> None:
        with isolated_registry():
            workflow(id="send", concurrency=limit)(nothing)
            async with Worker(client, drain=0):
                pass

    await deploy(Limit("mail", 20, rate=100, per=60))
    await limits.set(client, "mail", 5)
    await limits.set(client, "mail", per_key=2)
    await deploy(Limit("mail", 30, rate=10, per=60))
    found = await limits.get(client, "mail")
    assert (found.max, found.per_key, found.rate, found.per) == (5, 2, 10, timedelta(minutes=1))
    assert found.set_values == {"max": 5, "per_key": 2}
    shown = await asyncio.to_thread(command, "limits", "list")
    assert "5 at once, 2 per key, 10 in 60 s (declared: 30 at once" in shown.out
    assert "; set: 5 at once, 2 per key)" in shown.out
    shown = await asyncio.to_thread(command, "limits", "show", "mail")
    assert "set values  5 at once, 2 per key" in shown.out
    shown = await asyncio.to_thread(command, "doctor")
    assert "set by an operator: 5 at once, 2 per key" in shown.out
    await limits.set(client, "mail", rate=3)
    await deploy(Limit("mail", 30, rate=1, per=1))
    found = await limits.get(client, "mail")
    assert (found.rate, found.per) == (3, timedelta(minutes=1)), "three a second was never meant"
    await limits.reset(client, "mail")
    found = await limits.get(client, "mail")
    assert (found.max, found.rate, found.overridden, found.set_values) == (30, 1, False, {})


async def test_of_two_programs_the_last_declaration_counts_and_the_others_are_named(
    client: PolosClient, database: Any, command: Command, caplog: pytest.LogCaptureFixture
) -> None:
    @workflow(id="ask", concurrency=Limit("openai", 20))
    async def ask(ctx: Any) -> None: ...

    @workflow(id="tell", concurrency=Limit("openai", 5))
    async def tell(ctx: Any) -> None: ...

    def in_program(app: str, its: Any, own: PolosClient) -> Worker:
        return Worker(own, workflows=[its], app=app)

    other = PolosClient(database)
    async with other, in_program("shop", ask, client):
        assert (await limits.get(client, "openai")).declared_differently == ()
        async with in_program("mailer", tell, other):
            limit = await limits.get(client, "openai")
            assert (limit.max, limit.declared_differently) == (5, ("shop",))
            shown = await asyncio.to_thread(command, "limits", "show", "openai")
            assert "the declarations of live workers of shop" in shown.out
            result = await asyncio.to_thread(command, "doctor", "--json")
            (found,) = [it for it in result.objects[0]["checks"] if it["about"] == "limit"]
            assert found["level"] == "warning"
            assert "live workers of `shop` declare other values than 5 at once" in found["text"]
        # A worker of the first program that starts beside it logs that its value doesn't apply.
        async with in_program("mailer", tell, other), in_program("shop", ask, client):
            assert (await limits.get(client, "openai")).max == 5
            assert "are older than those of other live workers" in caplog.text
    # Without the other program, it applies again.
    async with in_program("shop", ask, client):
        assert (await limits.get(client, "openai")).max == 20


async def test_an_unknown_limit(client: PolosClient) -> None:
    with pytest.raises(LimitNotFoundError, match="there is no limit `openai`"):
        await limits.get(client, "openai")
    with pytest.raises(LimitNotFoundError, match="there is no limit `openai`"):
        await limits.set(client, "openai", 4)
    with pytest.raises(LimitNotFoundError, match="there is no limit `openai`"):
        await limits.reset(client, "openai")


@pytest.mark.polos_clock("2026-01-01T00:00Z")
async def test_a_parked_run_needs_a_permit_again(polos_clock: VirtualTime) -> None:
    @workflow(id="nap", concurrency=1)
    async def nap(ctx: Any) -> None:
        await ctx.step.sleep("nap", timedelta(hours=1))

    for _ in range(3):
        await nap.invoke(polos_clock.client)
    await polos_clock.advance(minutes=1)
    assert {run.status for run in await polos_clock.runs(workflow=nap)} == {"waiting"}
    await polos_clock.advance(hours=1)
    assert {run.status for run in await polos_clock.runs(workflow=nap)} == {"succeeded"}


@pytest.mark.polos_clock("2026-01-01T00:00Z")
async def test_a_parent_and_its_child_share_a_limit(polos_clock: VirtualTime) -> None:
    one = Limit("one", 1)

    @workflow(id="child", concurrency=one)
    async def child(ctx: Any) -> int:
        return 7

    @workflow(id="parent", concurrency=one)
    async def parent(ctx: Any) -> int:
        return int(await ctx.step.invoke(child))

    assert await parent.run(polos_clock.client, timeout=60) == 7


@pytest.mark.polos_clock("2026-01-01T00:00Z")
async def test_slots_that_come_due_at_once_run_one_after_another(
    polos_clock: VirtualTime,
) -> None:
    @workflow(id="digest", schedule=True, concurrency=2)
    async def digest(ctx: Any) -> None:
        await ctx.step.run("work", asyncio.sleep, 0)

    for user in range(10):
        await schedules.create(polos_clock.client, digest, cron="0 8 * * *", key=f"u{user}")
    await polos_clock.advance(days=1)
    found = await polos_clock.runs(workflow=digest)
    assert [run.status for run in found] == ["succeeded"] * 10


@pytest.mark.polos_clock("2026-01-01T00:00Z")
async def test_no_minute_holds_more_starts_than_the_rate(polos_clock: VirtualTime) -> None:
    started = []

    @workflow(id="send", concurrency=Limit("mail", rate=3, per=60))
    async def send(ctx: Any) -> None:
        started.append(polos_clock.now)

    for _ in range(9):
        await send.invoke(polos_clock.client)
    await polos_clock.advance(minutes=1)
    assert len(started) == 3
    await polos_clock.advance(minutes=5)
    assert len(started) == 9
    for first, fourth in zip(started, started[3:]):  # noqa: B905
        assert fourth - first >= timedelta(minutes=1)
    assert started[-1] - started[0] < timedelta(minutes=2, seconds=10)


@pytest.mark.polos_clock("2026-01-01T00:00Z")
@pytest.mark.files
async def test_a_clock_that_was_a_year_ahead_does_not_block_a_rate(tmp_path: Path) -> None:
    @workflow(id="send", concurrency=Limit("mail", rate=1, per=0.1))
    async def send(ctx: Any) -> str:
        return "sent"

    path = tmp_path / "limits.db"
    async with PolosClient(path) as client, Worker(client):
        assert await (await send.invoke(client)).result() == "sent"
    year = timedelta(days=365) // timedelta(microseconds=1)
    with contextlib.closing(sqlite3.connect(path)) as file, file:
        file.execute(
            "UPDATE run_limit SET taken = json_array(json_array(json(taken)->0->0 + ?, 1))", [year]
        )
    async with PolosClient(path) as client, Worker(client):
        assert [await (await send.invoke(client)).result() for _ in range(2)] == ["sent"] * 2


async def test_urgent_runs_start_first(polos_clock: VirtualTime) -> None:
    started = []
    one = Limit("one", rate=1, per=10)

    @workflow(id="low", concurrency=one)
    async def low(ctx: Any, payload: int) -> None:
        started.append(("low", payload))

    @workflow(id="high", concurrency=one, priority=9)
    async def high(ctx: Any, payload: int) -> None:
        started.append(("high", payload))

    for number in range(3):
        await low.invoke(polos_clock.client, number)
        await high.invoke(polos_clock.client, number)
    await polos_clock.advance(minutes=2)
    assert [name for name, _ in started] == ["high"] * 3 + ["low"] * 3


@pytest.mark.polos_clock("2026-01-01T00:00Z")
async def test_a_run_can_have_a_priority_of_its_own(polos_clock: VirtualTime) -> None:
    started = []

    @workflow(id="send", concurrency=Limit("one", rate=1, per=10), priority=3)
    async def send(ctx: Any, payload: str) -> None:
        started.append(payload)

    await polos_clock.advance(seconds=1)
    await send.invoke(polos_clock.client, "first")
    await send.invoke(polos_clock.client, "low", priority=0)
    await send.invoke_many(
        polos_clock.client, ["usual", Invocation("high", priority=9), Invocation("mid", priority=5)]
    )
    await polos_clock.advance(minutes=2)
    assert started[-1] == "low"
    assert [name for name in started if name != "first"] == ["high", "mid", "usual", "low"]


@pytest.mark.polos_clock("2026-01-01T00:00Z")
async def test_a_low_priority_does_not_starve(polos_clock: VirtualTime) -> None:
    started = []

    @workflow(id="send", concurrency=Limit("one", rate=1, per=60))
    async def send(ctx: Any, payload: str) -> None:
        started.append(payload)

    await polos_clock.advance(seconds=1)
    await send.invoke(polos_clock.client, "low")
    await send.invoke(polos_clock.client, "low")
    for minute in range(30):
        await send.invoke(polos_clock.client, f"high {minute}", priority=9)
        await polos_clock.advance(minutes=1)
    assert started.count("low") == 2, "after at most nine minutes of urgent runs"


@pytest.mark.polos_clock("2026-01-01T00:00Z")
async def test_a_burst_under_a_limit_delays_no_other_schedule(polos_clock: VirtualTime) -> None:
    @workflow(id="herd", concurrency=50)
    async def herd(ctx: Any) -> None:
        await ctx.step.sleep("work", timedelta(seconds=1))

    @workflow(id="tick", schedule={"every": timedelta(seconds=1)})
    async def tick(ctx: Any) -> None: ...

    await herd.invoke_many(polos_clock.client, [None] * 10_000)
    await polos_clock.advance(seconds=30)
    ticks = await polos_clock.runs(workflow=tick)
    late = [run for run in ticks if run.started_at is None or run.started_at != run.timestamp]
    assert late == []
    assert len(ticks) == 30
    herds = await polos_clock.runs(workflow=herd, status="succeeded")
    assert herds, "the burst is in progress"


# --- invalid values --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "output"),
    [
        (lambda: Limit(), "no value given"),
        (lambda: Limit("openai"), "no value given"),
        (lambda: Limit(-1), "max: -1 given, expected a whole number from 0"),
        (lambda: Limit(2.5), "max: 2.5 given"),  # type: ignore[call-overload]
        (lambda: Limit(True), "max: True given"),
        (lambda: Limit(3, 4), "name: 3 given, expected a text"),  # type: ignore[call-overload]
        (lambda: Limit("a", 3, per_key=0), "per_key: 0 given, expected a whole number from 1"),
        (lambda: Limit("a", rate=3), "`rate` and `per` belong together"),
        (lambda: Limit("a", per=3), "`rate` and `per` belong together"),
        (lambda: Limit("a", rate=0, per=3), "rate: 0 given"),
        (lambda: Limit("a", rate=3, per=0), "per: "),
        (lambda: Limit("a", rate=3, per=timedelta(days=400)), "at most 366 days"),
        (lambda: Limit("", 3), "name"),
        (lambda: workflow(id="w", concurrency=0)(handler), "concurrency: 0 given"),
        (lambda: workflow(id="w", concurrency="5")(handler), "concurrency: 5 given"),  # type: ignore[call-overload]
        (lambda: workflow(id="w", priority=10)(handler), "priority: 10 given, expected a whole"),
        (lambda: workflow(id="w", priority=-1)(handler), "priority: -1 given"),
    ],
)
def test_invalid_values_are_rejected_where_they_are_given(
    call: Callable[[], object], output: str
) -> None:
    with pytest.raises(InvalidArgumentError) as raised:
        call()
    assert output.replace("`", "") in str(raised.value).replace("`", "")


def handler(ctx: Any) -> None: ...


async def test_two_limits_with_one_name(client: PolosClient) -> None:
    @workflow(id="one", concurrency=Limit("openai", 1))
    async def one(ctx: Any) -> None: ...

    @workflow(id="two", concurrency=Limit("openai", 2))
    async def two(ctx: Any) -> None: ...

    with pytest.raises(InvalidArgumentError, match="declare two limits named `openai`"):
        async with Worker(client):
            pass


def test_a_limit_describes_itself() -> None:
    assert repr(Limit("openai", 20, per_key=1)) == "Limit('openai', 20, per_key=1)"
    assert Limit("a", rate=1, per=60) == Limit("a", rate=1, per=timedelta(minutes=1))
    assert len({Limit(3), Limit(3), Limit(4)}) == 2


@pytest.mark.parametrize(
    "limit", [Limit(3), Limit("openai", 20, per_key=1), Limit("mail", rate=100, per=60)]
)
def test_a_limit_can_be_copied_and_not_changed(limit: Limit) -> None:
    known = hash(limit)
    for name, value in [("max", -7), ("name", "other"), ("rate", 5), ("other", 1)]:
        with pytest.raises(AttributeError, match=rf"can't be changed \(`{name}`\): make another"):
            setattr(limit, name, value)
    with pytest.raises(AttributeError, match="`max`"):
        del limit.max
    assert hash(limit) == known
    for made in (copy.copy(limit), copy.deepcopy(limit), pickle.loads(pickle.dumps(limit))):
        assert (made, hash(made), repr(made)) == (limit, known, repr(limit))


def test_one_limit_without_a_name_for_two_workflows_is_warned_of_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def handler() -> None: ...

    unnamed, named = Limit(1), Limit("openai", 1)
    for id in ("a", "a", "b", "c"):
        workflow(id=id, concurrency=unnamed)(handler)
    for id in ("d", "e"):
        workflow(id=id, concurrency=named)(handler)
        workflow(id=f"{id}2", concurrency=2)(handler)
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert record.getMessage() == (
        "workflows `a` and `b` were given one Limit(1), which has no name, so each of them has a "
        "limit of its own; to share it, name it, as in `Limit('shared', 20)`"
    )
    assert polos.limits.Limit is Limit


# --- the command line ------------------------------------------------------------------------


async def test_the_command_line_lists_sets_and_resets(
    command: Command, client: PolosClient, eventually: Any
) -> None:
    handlers = Handlers()

    @workflow(id="ask", concurrency=Limit("openai", 1))
    async def ask(ctx: Any) -> None:
        await handlers("ask")

    async with Worker(client, workflows=[]):
        none = await asyncio.to_thread(command, "limits", "list")
    assert "has declared a limit" in none.err
    async with Worker(client):
        handles = [await ask.invoke(client) for _ in range(3)]
        await eventually(lambda: handlers.started == 1)
        result = await asyncio.to_thread(command, "limits", "list", "--json")
        (listed,) = result.objects
        waiting = await asyncio.to_thread(command, "runs", "show", handles[-1].id)
        assert "waits for" in waiting.out
        assert "the limit `openai` (1 at once): 1 in progress, 2 queued" in waiting.out
        assert (listed["name"], listed["max"], listed["running"]) == ("openai", 1, 1)
        assert (listed["queued"], listed["workflows"]) == (2, ["ask"])
        shown = await asyncio.to_thread(command, "limits", "show", "openai")
        assert "values     1 at once" in shown.out
        assert "queued     2" in shown.out
        result = await asyncio.to_thread(command, "limits", "set", "openai", "2")
        assert result.out.strip() == "openai: 2 at once"
        await eventually(lambda: handlers.started == 2)
        shown = await asyncio.to_thread(command, "limits", "list")
        assert "2 at once (declared: 1 at once)" in shown.out
        shown = await asyncio.to_thread(command, "limits", "show", "openai")
        assert "an operator; to restore the declared: polos limits reset openai" in shown.out
        shown = await asyncio.to_thread(command, "limits", "show", "openai", "--json")
        assert (shown.objects[0]["max"], shown.objects[0]["overridden"]) == (2, True)
        result = await asyncio.to_thread(command, "limits", "reset", "openai")
        assert result.out.strip() == "openai: 1 at once"
        handlers.end(3)
        await asyncio.gather(*(handle.result(30) for handle in handles))
    refused = command("limits", "set", "openai")
    assert refused.code == 2
    assert "no value given" in refused.err
    unknown = command("limits", "set", "nothing", "3")
    assert unknown.code != 0
    assert "there is no limit `nothing`" in unknown.err
    rate = command("limits", "set", "openai", "--rate", "5")
    assert rate.code != 0
    assert "give both `rate` and `per`" in rate.err


async def test_what_a_run_waits_for_is_exact(
    command: Command, client: PolosClient, eventually: Any
) -> None:
    async def waits_for(handle: Any) -> str:
        shown = await asyncio.to_thread(command, "runs", "show", handle.id)
        found: list[str] = [line for line in shown.out.splitlines() if line.startswith("waits for")]
        return " ".join(" ".join(found).split())

    with isolated_registry():
        handlers = Handlers()

        @workflow(id="ask", concurrency=Limit("openai", per_key=1))
        async def ask(ctx: Any) -> None:
            await handlers("ask")

        @workflow(id="send", concurrency=Limit("mail", rate=1, per=3600))
        async def send(ctx: Any) -> None: ...

        async with Worker(client, drain=0):
            await ask.invoke(client, key="ada")
            await eventually(lambda: handlers.started == 1)
            second = await ask.invoke(client, key="ada")
            assert "room for its key under the limit `openai` (1 per key)" in await waits_for(
                second
            )
            assert "1 with key `ada` in progress" in await waits_for(second)
            found = await limits.get(client, "openai", key="ada")
            assert (found.running, found.running_of_key) == (1, 1)
            await (await send.invoke(client)).result()
            third = await send.invoke(client)
            assert "none is left in this period, the next one comes in 3," in await waits_for(third)
            found = await limits.get(client, "mail")
            assert (found.starts_left, found.next_start_at is not None) == (0, True)
            await runs.cancel(client, third.id)
            handlers.end(2)
            await second.result()
        # No worker is alive, and the limits have room.
        for lone in (await ask.invoke(client, key="bob"), await ask.invoke(client, key="ada")):
            assert await waits_for(lone) == ""


async def test_a_parked_run_that_is_due_says_what_it_waits_for(
    command: Command, client: PolosClient, eventually: Any
) -> None:
    handlers = Handlers()
    limit = Limit("one", 1)

    @workflow(id="nap", concurrency=limit)
    async def nap(ctx: Any) -> str | None:
        answer: str | None = await ctx.step.wait_event("go")
        return answer

    @workflow(id="hold", concurrency=limit)
    async def hold(ctx: Any) -> None:
        await handlers("hold")

    async with Worker(client):
        parked = await nap.invoke(client)

        async def is_parked() -> bool:
            return bool(await parked.status() == "waiting")

        await eventually(is_parked)
        holding = await hold.invoke(client)
        await eventually(lambda: handlers.started == 1)
        shown = await asyncio.to_thread(command, "runs", "show", parked.id)
        assert "under the limit" not in shown.out, "it waits for the event"
        assert (await runs.get(client, parked.id)).due_at is None
        assert await runs.send(client, parked.id, "go", "gone")
        shown = await asyncio.to_thread(command, "runs", "show", parked.id)
        assert "room under the limit `one` (1 at once): 1 in progress" in shown.out
        handlers.end()
        await holding.result()
        assert await parked.result() == "gone"


async def test_doctor_names_limits_that_hold_runs_back(
    command: Command, client: PolosClient, eventually: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    handlers = Handlers()

    @workflow(id="ask", concurrency=Limit("openai", 2))
    async def ask(ctx: Any) -> None:
        await handlers("ask")

    monkeypatch.setattr("polos.cli.commands.doctor._LONG_QUEUED", timedelta(0))
    async with Worker(client):
        quiet = await asyncio.to_thread(command, "doctor", "--json")
        assert not [check for check in quiet.objects[0]["checks"] if check["about"] == "limit"]
        await limits.set(client, "openai", 1)
        handles = [await ask.invoke(client) for _ in range(3)]
        await eventually(lambda: handlers.started == 1)
        result = await asyncio.to_thread(command, "doctor", "--json")
        handlers.end(3)
        await asyncio.gather(*(handle.result(30) for handle in handles))
    (found,) = [check for check in result.objects[0]["checks"] if check["about"] == "limit"]
    assert found["level"] == "warning"
    assert "`openai` (1 at once; set by an operator) holds back 2 runs" in found["text"]
    assert "1 run in progress" in found["text"]
    assert "polos limits reset openai" in found["advice"]


@pytest.mark.parametrize(
    ("overlap", "held", "ended"),
    [
        ("allow", {"queued": 3}, {"succeeded": 3}),
        ("skip", {"queued": 1}, {"succeeded": 1}),
        ("buffer_one", {"queued": 2}, {"succeeded": 2}),
        ("buffer_all", {"queued": 3}, {"succeeded": 3}),
        ("cancel_running", {"queued": 1, "cancelled": 2}, {"succeeded": 1, "cancelled": 2}),
    ],
)
async def test_overlap_is_applied_before_the_limit(
    overlap: str, held: dict[str, int], ended: dict[str, int]
) -> None:
    at_once: list[int] = []

    @workflow(
        id="report",
        schedule={"every": 60, "overlap": overlap, "max_runs": 3},
        concurrency=Limit("one", 1),
    )
    async def report(ctx: WorkflowContext) -> None:
        at_once.append(len(await runs.list(t.client, status="running")))
        await ctx.step.sleep("in place", 4)

    async with polos.testing.clock("2026-01-01T00:00:00+00:00") as t:

        async def counts() -> dict[str, int]:
            return dict(Counter(run.status for run in await t.runs()))

        # A run that the limit holds back is unfinished, which is all that `overlap` asks about.
        await limits.set(t.client, "one", 0)
        await t.advance(minutes=5)
        assert await counts() == held
        await limits.reset(t.client, "one")
        # Shorter than to the next slot, but enough for three runs.
        await t.advance(seconds=30)
        assert await counts() == ended
        # Whatever `overlap` lets through, the limit bounds.
        assert at_once == [1] * ended["succeeded"]


async def test_slots_at_the_same_time_start_by_the_priority_of_their_schedules() -> None:
    order: list[str] = []

    @workflow(id="report", schedule=True, concurrency=1, priority=2)
    async def report(ctx: WorkflowContext) -> None:
        order.append(ctx.key)
        await ctx.step.sleep("in place", 4)

    async with polos.testing.clock("2026-01-01T00:00:00+00:00") as t:
        for key, priority in (("a", 0), ("b", 9), ("c", None), ("d", 5)):
            await schedules.create(t.client, report, cron="0 * * * *", key=key, priority=priority)
        await t.advance(hours=1, minutes=5)
    assert order == ["b", "d", "c", "a"]


async def test_a_limit_of_removed_code_is_deleted(client: PolosClient, command: Command) -> None:
    async def act(*arguments: str) -> Any:
        return await asyncio.to_thread(command, *arguments)

    async def doctor() -> list[Any]:
        checks = (await act("doctor", "--json")).objects[0]["checks"]
        return [check for check in checks if check["about"] == "limit"]

    with isolated_registry():

        @workflow(id="ask", concurrency=Limit("openai", 2))
        async def ask(ctx: Any) -> None: ...

        async with Worker(client, app="shop"):
            await limits.set(client, "openai", 1)
            with pytest.raises(InvalidStateError, match="a worker of `shop` declares it"):
                await limits.delete(client, "openai")
            refused = await act("limits", "delete", "openai")
            assert (refused.code, "a worker of `shop` declares it" in refused.err) == (1, True)
            (limit,) = await limits.list(client)
            assert limit.declared_by == ("shop",)
            assert (await doctor())[0]["advice"] is None
    handle = await runs.invoke(client, "ask")
    async with Worker(client, app="shop"):  # with code that has neither any more
        with pytest.raises(InvalidStateError, match="unfinished runs of the workflow `ask` count"):
            await limits.delete(client, "openai")
        await handle.cancel()
        (found,) = await doctor()
        assert found["level"] == "ok"
        assert (
            "no live worker declares it: delete it with `polos limits delete openai`"
            in (found["advice"])
        )
        shown = await act("limits", "show", "openai")
        assert "no live worker; if the code has it no more: polos limits delete openai" in shown.out
        assert (await act("limits", "delete", "openai")).lines == ["openai: deleted"]
        assert await limits.list(client) == []
        assert await doctor() == []
    with pytest.raises(LimitNotFoundError, match="there is no limit `openai`"):
        await limits.delete(client, "openai")
    with pytest.raises(LimitNotFoundError):
        await asyncio.to_thread(limits.sync.delete, client, "openai")


async def test_a_deleted_limit_counts_again_when_the_code_declares_it_again() -> None:
    @workflow(id="ask", concurrency=Limit("openai", 1))
    async def ask(ctx: WorkflowContext) -> None:
        await ctx.step.sleep("in place", 4)

    async with polos.testing.clock("2026-01-01T00:00Z") as t:
        await t.stop()
        await limits.delete(t.client, "openai")
        await t.restart()
        for _ in range(2):
            await ask.invoke(t.client)
        await t.advance(seconds=1)
        (limit,) = await limits.list(t.client)
        assert (limit.name, limit.workflows, limit.running, limit.queued) == (
            "openai",
            ("ask",),
            1,
            1,
        )


async def test_a_run_that_is_retried_manually_waits_for_a_permit(
    client: PolosClient, eventually: Any
) -> None:
    handlers = Handlers()
    fails = [True]

    @workflow(id="ask", concurrency=1)
    async def ask(ctx: Any) -> None:
        if fails and fails.pop():
            raise ValueError("once")
        await handlers("ask")

    async with Worker(client):
        first = await ask.invoke(client)

        async def has_failed() -> bool:
            return await first.status() == "failed"

        await eventually(has_failed)
        second = await ask.invoke(client)
        await eventually(lambda: handlers.started == 1)
        await runs.retry(client, first.id)
        assert await first.status() == "queued"
        handlers.end(2)
        await second.result(30)
        await first.result(30)
    assert handlers.most == {"ask": 1}
