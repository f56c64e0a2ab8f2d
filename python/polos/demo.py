"""``polos demo``: demonstrates what the documentation promises, in less than a minute.

A smoke test as well: everything shown is checked, and a failed check makes the exit code 1.
"""

from __future__ import annotations

import asyncio
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from pydantic import BaseModel
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from polos import (
    PolosClient,
    PolosError,
    SchedulePayload,
    Worker,
    Workflow,
    WorkflowContext,
    schedules,
    workflow,
)
from polos._polos import __version__

__all__ = ["main"]

PERIOD = timedelta(seconds=3)
REPORT_ZONE = ZoneInfo("Asia/Kolkata")
USERS = {
    "aiko": ZoneInfo("Asia/Tokyo"),
    "bella": ZoneInfo("Europe/London"),
    "carlos": ZoneInfo("America/Los_Angeles"),
}

# If the end of a process is not detected at once, its lease expires after this time.
LEASE = timedelta(seconds=2)

# How long a part of the demo may take on a slow machine before it counts as failed.
TIMEOUT = 20.0

# Seconds reserved for stopping and for the tables at the end.
SHUTDOWN_RESERVE = 5.0


def main(seconds: int = 55) -> int:
    """Run the demo for at most about ``seconds``; return 0 if everything worked."""
    with tempfile.TemporaryDirectory(prefix="polos-demo-") as folder:
        return asyncio.run(_demonstrate(Path(folder), time.monotonic() + seconds))


# --- state -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fire:
    """A scheduled run, from its handler's view."""

    workflow: str
    key: str
    payload: SchedulePayload
    late_ms: float
    is_live: bool


class DemoState:
    """What has happened so far, and the console that shows it."""

    def __init__(self) -> None:
        self.console = Console(highlight=False, soft_wrap=True)
        self.fires: list[Fire] = []
        self.is_backfilling = False
        self._changed = asyncio.Event()

    def say(self, who: str, what: str, style: str = "") -> None:
        """Print a line with the time of day, ``who`` (padded), and ``what``."""
        now = datetime.now()
        clock = f"{now:%H:%M:%S}.{now.microsecond // 1000:03}"
        self.console.print(
            f"[dim]{clock}[/]  [cyan]{who:<13}[/] [{style or 'default'}]{escape(what)}[/]"
        )

    def head(self, text: str) -> None:
        """Print a heading."""
        self.console.print(f"\n[bold]{escape(text)}[/]")

    def fired(self, ctx: WorkflowContext, payload: SchedulePayload) -> None:
        """Note a fire; every scheduled handler calls this first."""
        late_ms = (datetime.now(timezone.utc) - payload.timestamp) / timedelta(milliseconds=1)
        is_live = not self.is_backfilling
        fire = Fire(ctx.workflow_id, payload.key, payload, late_ms, is_live)
        self.fires.append(fire)
        self._changed.set()
        slot = payload.timestamp
        text = f"slot {slot:%H:%M:%S %Z}"
        if ctx.workflow_id == "daily-report":
            text = f"slot {slot:%a %d %b %H:%M %Z}, cron {_cron(slot)}"
        elif ctx.workflow_id == "digest":
            text += f", user {payload.key}"
        self.say(ctx.workflow_id, text + (f", {late_ms:.1f} ms late" if is_live else ""))

    def of(self, workflow_id: str) -> list[Fire]:
        """Return the fires of a workflow."""
        return [fire for fire in self.fires if fire.workflow == workflow_id]

    async def until(self, is_true: Callable[[], bool], timeout: float = TIMEOUT) -> bool:
        """Wait until ``is_true()``, at most ``timeout`` seconds; return whether it is."""
        deadline = time.monotonic() + timeout
        while not is_true():
            self._changed.clear()
            try:
                await asyncio.wait_for(self._changed.wait(), deadline - time.monotonic())
            except (TimeoutError, asyncio.TimeoutError):
                return is_true()
        return True


state: DemoState


# --- the workflows ---------------------------------------------------------------------------


@workflow(id="heartbeat", schedule={"every": PERIOD})
async def heartbeat(ctx: WorkflowContext, payload: SchedulePayload) -> None:
    """Fires throughout the demo."""
    state.fired(ctx, payload)


@workflow(id="digest", schedule=True)
async def digest(ctx: WorkflowContext, payload: SchedulePayload) -> None:
    """Has a schedule for each user."""
    state.fired(ctx, payload)


@workflow(id="daily-report", schedule=True)
async def daily_report(ctx: WorkflowContext, payload: SchedulePayload) -> None:
    """Has a cron schedule."""
    state.fired(ctx, payload)


class Greeting(BaseModel):
    """The result of ``greet``."""

    text: str
    at: datetime


@workflow(id="greet")
async def greet(ctx: WorkflowContext, payload: str) -> Greeting:
    """Is invoked directly."""
    return Greeting(text=f"hello, {payload}", at=await ctx.step.now("now"))


@workflow(id="prices")
async def prices(ctx: WorkflowContext) -> int:
    """Has a step that fails the first time."""
    calls: list[int] = []

    def download() -> int:
        calls.append(1)
        if len(calls) == 1:
            state.say("prices", "step download: the server answers 503", "yellow")
            raise ConnectionError("503 from the price server")
        state.say("prices", "step download: retried, 1,200 prices")
        return 1_200

    await ctx.step.run("download", download, retries=3, backoff=0.5)
    return len(calls)


@workflow(id="order")
async def order(ctx: WorkflowContext, payload: str) -> str:
    """Is executed by another process, which is killed in the middle of the run."""
    await ctx.step.run("charge", _print_step, "charge")
    await ctx.step.run("pack", _pack, payload)
    await ctx.step.run("ship", _print_step, "ship")
    return "shipped"


def _print_step(step: str) -> None:
    print(step, flush=True)  # noqa: T201 - the other end of the pipe counts these


async def _pack(permission: str) -> None:
    _print_step("pack")
    if not os.path.exists(permission):  # noqa: ASYNC240 - a lookup in a temporary folder
        await asyncio.Event().wait()


# --- the demo --------------------------------------------------------------------------------


async def _demonstrate(folder: Path, end: float) -> int:
    global state
    state = DemoState()
    begun = time.monotonic()
    state.console.print(
        f"[bold]polos {__version__}[/], Python {platform.python_version()}; "
        f"everything below is stored in one SQLite file, {escape(str(folder / 'polos.db'))}, for "
        "now"
    )
    checks: list[tuple[bool, str]] = []
    async with PolosClient(folder / "polos.db") as client:
        report_id, report_at, digest_ids = await _schedule(client)
        workflows: list[Workflow[Any, Any]] = [heartbeat, digest, daily_report, greet, prices]
        async with Worker(client, app="demo", workflows=workflows):
            checks += [
                await _seen(_by_hand, client),
                await _seen(_retried, client),
                await _seen(_killed, client, folder),
                await _seen(_users, digest_ids),
                await _seen(_report, client, report_id, report_at, end),
            ]
            await _between_heartbeats()
        checks.append(await _heartbeats(client))
    state.head("What happened")
    _table()
    for has_happened, text in checks:
        mark = "[green]ok[/]    " if has_happened else "[bold red]FAILED[/]"
        state.console.print(f"  {mark}  {escape(text)}")
    took = time.monotonic() - begun
    if not all(has_happened for has_happened, _ in checks):
        state.console.print(f"\n[bold red]Not everything worked[/] (in {took:.0f} s).")
        return 1
    _try_next(took)
    return 0


async def _seen(
    part: Callable[..., Coroutine[Any, Any, tuple[bool, str]]], *arguments: Any
) -> tuple[bool, str]:
    """Return the result of a part; an exception counts as a failure."""
    try:
        return await part(*arguments)
    except (PolosError, TimeoutError, asyncio.TimeoutError) as error:
        what = part.__name__.strip("_").replace("_", " ")
        return False, f"{what}: {type(error).__name__}: {error}"


async def _schedule(client: PolosClient) -> tuple[str, datetime, list[str]]:
    state.head("Schedules")
    state.console.print(f"  heartbeat      every {PERIOD.seconds} s, by its decorator")
    now = datetime.now(timezone.utc)
    # A schedule that is created in its own slot would have to wait for the next one.
    report_at = (now + timedelta(seconds=61)).replace(second=0, microsecond=0)
    cron = _cron(report_at.astimezone(REPORT_ZONE))
    report_id = await schedules.create(
        client, workflow=daily_report, cron=cron, timezone=REPORT_ZONE.key
    )
    wait = (report_at - now).total_seconds()
    state.console.print(
        f"  daily-report   cron {cron} in {REPORT_ZONE.key}: once a day, at the next full minute "
        f"here, in {wait:.0f} s"
    )
    ids = []
    first = now.replace(microsecond=0) + timedelta(seconds=3)
    for number, (user, zone) in enumerate(USERS.items()):
        at = (first + timedelta(seconds=number)).astimezone(zone)
        ids.append(
            await schedules.create(client, workflow="digest", key=user, at=at, timezone=zone.key)
        )
        state.console.print(f"  digest         for {user}, once, at {at:%H:%M:%S} in {zone.key}")
    return report_id, report_at, ids


def _cron(slot: datetime) -> str:
    return f"{slot.minute} {slot.hour} * * *"


async def _by_hand(client: PolosClient) -> tuple[bool, str]:
    state.head("A run that is invoked: started durably, awaited, with a typed result")
    result = await greet.run(client, "world", timeout=TIMEOUT)
    state.say("greet", f"{result!r}")
    return result.text == "hello, world", "an invoked run returned its result with its type"


async def _retried(client: PolosClient) -> tuple[bool, str]:
    state.head("A step that fails and is retried after at most half a second")
    calls = await prices.run(client, timeout=TIMEOUT)
    return calls == 2, "a step that failed once was retried, and its run succeeded"


async def _killed(client: PolosClient, folder: Path) -> tuple[bool, str]:
    state.head(
        "A worker process that is killed (kill -9) in the middle of a run with three steps; its "
        "step `pack` hangs, so that there is time to kill it"
    )
    permission = folder / "pack-may-finish"
    executed: list[str] = []
    handle = await order.invoke(client, str(permission))
    async with _worker_process(folder) as (number, steps):
        async for step in steps:
            executed.append(step)
            state.say("order", f"process {number} executes step {step}")
            if step == "pack":
                break
    state.say(
        "order", f"process {number} is killed; the order is charged and not yet packed", "red"
    )
    permission.touch()
    dead = number
    async with _worker_process(folder) as (number, steps):
        state.say(
            "order", f"process {number} starts, finds that {dead} is dead, and takes over the run"
        )
        async for step in steps:
            executed.append(step)
            state.say("order", f"process {number} executes step {step}")
            if step == "ship":
                break
        result = await handle.result(timeout=TIMEOUT)
    charged, packed, shipped = (_times(executed.count(step)) for step in ("charge", "pack", "ship"))
    state.say(
        "order",
        f"{result}: charged {charged}, packed {packed} (it was in progress), shipped {shipped}",
    )
    return (
        executed == ["charge", "pack", "pack", "ship"] and result == "shipped",
        "after kill -9 the run continued in another process; its finished step was not repeated",
    )


def _times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count} times")


@asynccontextmanager
async def _worker_process(folder: Path) -> AsyncIterator[tuple[int, AsyncIterator[str]]]:
    """Start a worker process; yield its process id and its steps. Kill it at the end."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "polos.demo", str(folder / "polos.db")),
        cwd=folder,
        env={**os.environ, "PYTHONPATH": _import_path()},
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        yield process.pid, _lines(process.stdout)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def _import_path() -> str:
    """Return a `PYTHONPATH` with which a process in another folder imports the same modules."""
    return os.pathsep.join(os.path.abspath(place) for place in sys.path if place)


async def _lines(stream: asyncio.StreamReader) -> AsyncIterator[str]:
    while line := await asyncio.wait_for(stream.readline(), TIMEOUT):
        yield line.decode().strip()


def _run_order_worker(database: str) -> None:
    """Execute orders, in the process that is killed."""
    asyncio.run(Worker(PolosClient(database), app="shop", workflows=[order], lease=LEASE).run())


async def _users(ids: list[str]) -> tuple[bool, str]:
    done = await state.until(lambda: len(state.of("digest")) >= len(ids))
    fires = state.of("digest")
    in_own_zone = all(fire.payload.timestamp.tzinfo == USERS[fire.key] for fire in fires)
    return (
        done and sorted(fire.key for fire in fires) == sorted(USERS) and in_own_zone,
        "each of three users got the digest once, with the time in the user's own zone",
    )


async def _report(client: PolosClient, id: str, at: datetime, end: float) -> tuple[bool, str]:
    wait = (at - datetime.now(timezone.utc)).total_seconds()
    if time.monotonic() + wait < end - SHUTDOWN_RESERVE:
        if not state.of("daily-report"):
            state.head(f"The daily report, at the full minute, in {wait:.0f} s")
        done = await state.until(lambda: bool(state.of("daily-report")), max(wait, 0) + 5)
        slots = [fire.payload.timestamp for fire in state.of("daily-report")]
        return done and slots == [at], "the cron schedule fired at its minute, once"
    state.head(
        f"The daily report is due in {wait:.0f} s, after the end of this demo, so its last "
        f"three days are backfilled (schedules.backfill)"
    )
    state.is_backfilling = True
    now = datetime.now(timezone.utc)
    slots = await schedules.backfill(client, id, start=now - timedelta(days=3), end=now)
    done = await state.until(lambda: len(state.of("daily-report")) >= len(slots))
    ran = [fire.payload.timestamp for fire in state.of("daily-report")]
    again = await schedules.backfill(client, id, start=now - timedelta(days=3), end=now)
    return (
        done and ran == slots and len(slots) == 3 and not again,
        "the cron schedule was backfilled with three days, oldest first, and no slot twice",
    )


async def _between_heartbeats() -> None:
    """Wait until a run has just ended: a worker that stops as a slot comes due would miss it."""
    fires = state.of("heartbeat")
    now = datetime.now(timezone.utc)
    if len(fires) < 3 or now - fires[-1].payload.timestamp > PERIOD / 3:
        wanted = max(3, len(fires) + 1)
        await state.until(lambda: len(state.of("heartbeat")) >= wanted)


async def _heartbeats(client: PolosClient) -> tuple[bool, str]:
    payloads = [fire.payload for fire in state.of("heartbeat")]
    (schedule,) = await schedules.list(client, workflow=heartbeat)
    ledger = await schedules.history(client, schedule.id)
    ran = sum(entry.count for entry in ledger if entry.status == "ran")
    others = sum(entry.count for entry in ledger) - ran
    slots = (payloads[-1].timestamp - payloads[0].timestamp) // PERIOD + 1
    text = f"heartbeat: {slots} slots, {len(payloads)} runs, none twice, none lost"
    if others:  # the machine was suspended for seconds; the ledger records the missed slots
        is_whole = ran == len(payloads) and ran + others == slots
        return is_whole, f"{text}; {others} missed, as recorded"
    has_next = all(a.upcoming == b.timestamp for a, b in pairwise(payloads))
    is_whole = has_next and ran == len(payloads) == slots
    return is_whole, f"{text}; and each knew the time of the next"


# --- the end ---------------------------------------------------------------------------------


def _table() -> None:
    table = Table("workflow", "fires", "late, median", "late, at most", box=None, padding=(0, 2))
    for column in table.columns[1:]:
        column.justify = "right"
    for name in ("heartbeat", "digest", "daily-report"):
        late = [fire.late_ms for fire in state.of(name) if fire.is_live]
        if late:
            median = f"{statistics.median(late):.1f} ms"
            table.add_row(name, str(len(late)), median, f"{max(late):.1f} ms")
    state.console.print(table)
    state.console.print("  [dim](late: from the slot to the first line of the handler)[/]\n")


def _try_next(took: float) -> None:
    command = "polos" if shutil.which("polos") else _nearby(sys.argv[0])
    example = Path("examples", "every_30_seconds.py")
    state.console.print(f"\n[bold]Done in {took:.0f} s. What to try next[/]")
    state.console.print(f"  [cyan]{escape(command)} explain '30 2 * * *' --tz America/New_York[/]")
    if example.exists():
        state.console.print(f"  [cyan]{escape(command)} run {example}[/]")
    else:
        state.console.print(f"  [cyan]{escape(command)} run[/] with a file that has a workflow")


def _nearby(path: str) -> str:
    relative = os.path.relpath(path)
    return path if relative.startswith(os.pardir) else relative


if __name__ == "__main__":
    _run_order_worker(sys.argv[1])
