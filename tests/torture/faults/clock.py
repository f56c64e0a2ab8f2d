"""Faults of time: clocks that jump, differ, and start wrong; clock changes; new zone data.

Most of them run in virtual time, where a clock can be set. Real workers get a false clock from
libfaketime. The machine's clock is never changed.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import shutil
import time
import warnings
from collections.abc import Coroutine, Iterable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from checker import EPOCH, OracleReader, check_file, history
from programs import Program

import polos.testing
from harness import LATE, SECOND, Bench, NotRunError, now
from polos import LedgerEntry, ScheduleFrequencyWarning, runs, schedules, workflow
from polos.workflow import isolated_registry

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
UTC = timezone.utc


def in_virtual_time(scenario: Coroutine[Any, Any, None]) -> None:
    with isolated_registry(), warnings.catch_warnings():
        warnings.simplefilter("ignore", ScheduleFrequencyWarning)

        @workflow(id="tick", schedule=True)
        async def tick() -> None: ...

        asyncio.run(scenario)


def slots_of(entries: list[LedgerEntry], period: timedelta) -> Iterator[datetime]:
    """Yield all slots that the entries cover."""
    for entry in entries:
        for number in range(entry.count):
            yield entry.timestamp + period * number


# --- clocks that are set ---------------------------------------------------------------------


def f9(bench: Bench) -> None:
    """The wall clock is set forward by two hours, a day, and ten years."""
    in_virtual_time(_forward(bench))


def f9b(bench: Bench) -> None:
    """The wall clock of a real worker is set forward by two hours and a day."""
    with_real_worker(bench, [timedelta(hours=2), DAY])


async def _forward(bench: Bench) -> None:
    verdict = bench.verdict
    count = max(20, round(10_000 * min(1.0, bench.scale)))
    most = {"latest": 1, "all": 100, "none": 0}
    for jump in (timedelta(hours=2), DAY, timedelta(days=3_652)):
        async with polos.testing.clock("2026-01-01T00:00:30+00:00") as t:
            ids = {}
            for number in range(count):
                policy: Any = list(most)[number % 3]
                id = await schedules.create(
                    t.client, "tick", "* * * * *", key=f"{number}", catch_up=policy
                )
                ids[id] = policy
            await t.advance(minutes=2)
            before = len(await t.runs())
            begun = time.perf_counter()
            await t.set_to(t.now + jump)
            took = time.perf_counter() - begun
            made = len(await t.runs()) - before
            late = math.inf if jump > DAY * 2 else jump / MINUTE
            most_made = sum(min(most[policy], late) for policy in ids.values())
            verdict.expect("I1", made == most_made, f"{jump}: {made} late runs, not {most_made}")
            # A bound for a busy machine. Most of this time is spent in the handlers of late slots.
            per_schedule = took / count
            verdict.expect("I7", per_schedule < 0.02, f"{jump}: {took:.2f} s for {count} schedules")
            bench.remarks.append(f"{jump}: {count} schedules settled in {took:.2f} s")
            await t.advance(minutes=2)
            after = len(await t.runs()) - before - made
            verdict.expect(
                "I1", after == 2 * count, f"{jump}: {after} more runs instead of {2 * count}"
            )
            for id in list(ids)[: 3 * 3]:
                entries = await t.ledger(id)
                slots = sum(entry.count for entry in entries)
                expected = (t.now - entries[0].timestamp) // MINUTE + 1
                verdict.expect("I1", slots == expected, f"{jump}: {slots} outcomes of {expected}")
                found = await schedules.get(t.client, id)
                right = (t.now - EPOCH) // MINUTE * MINUTE + EPOCH + MINUTE
                verdict.expect("I1", found.upcoming == right, f"{jump}: next {found.upcoming}")
            bench.injections += 1


def f10(bench: Bench) -> None:
    """The wall clock is set back by a second, an hour, and a day, while runs wait."""
    in_virtual_time(_back(bench))


def f10b(bench: Bench) -> None:
    """The wall clock of a real worker is set back by an hour, then corrected."""
    with_real_worker(bench, [-HOUR])


async def _back(bench: Bench) -> None:
    verdict = bench.verdict

    @workflow(id="limited", timeout=30)
    async def limited() -> None:
        await asyncio.Event().wait()

    @workflow(id="retrying", retries=3, backoff=polos.Backoff(initial=20, factor=1, jitter=0))
    async def retrying(ctx: polos.WorkflowContext) -> int:
        if ctx.attempt < 3:
            raise ValueError("not yet")
        return ctx.attempt

    @workflow(id="napping")
    async def napping(ctx: polos.WorkflowContext) -> str:
        await ctx.step.sleep("nap", timedelta(seconds=4))
        return "awake"

    for back in (SECOND, HOUR, DAY):
        for into in range(0, 60, 60 // bench.times(30, 3)):
            async with polos.testing.clock("2026-01-05T00:00:30+00:00") as t:
                id = await schedules.create(t.client, "tick", "* * * * *")
                every = await schedules.create(t.client, "tick", every=MINUTE, key="every")
                await t.advance(minutes=5, seconds=into)
                set_at = t.now
                hanging = await limited.invoke(t.client)
                nap = await napping.invoke(t.client)
                retried = await retrying.invoke(t.client)
                await t.set_to(set_at - back)
                bench.injections += 1
                what = f"set back by {back}"
                # Measured by the monotonic clock: as long as if the clock had not been set.
                await t.advance(seconds=5)
                status = await nap.status()
                verdict.expect("I4", status == "succeeded", f"{what}: a nap is {status}")
                await t.advance(seconds=26)
                status = await hanging.status()
                verdict.expect("I4", status == "failed", f"{what}: a timeout is {status}")
                await t.advance(seconds=20)
                status = await retried.status()
                if back == SECOND:
                    verdict.expect("I4", status == "succeeded", f"{what}: a retry is {status}")
                await t.advance(back + 2 * MINUTE)
                status = await retried.status()
                verdict.expect("I4", status == "succeeded", f"{what}: a retry is {status}")
                for schedule in (id, every):
                    slots = [run.timestamp for run in await t.runs(schedule=schedule)]
                    text = f"{what}: slots {slots}"
                    verdict.expect("I1", len(slots) == len(set(slots)), text)
                    first = datetime(2026, 1, 5, 0, 1, tzinfo=UTC)
                    all_of_them = [first + MINUTE * n for n in range((t.now - first) // MINUTE + 1)]
                    verdict.expect("I1", slots == all_of_them, f"{what}: {slots}, {all_of_them}")


def faked(bench: Bench, name: str, offset: float) -> tuple[Path, dict[str, str]]:
    """Make a file with the error of a process's wall clock; return it and the environment."""
    library = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
    if library is None:
        raise NotRunError("libfaketime isn't installed (package `faketime`)")
    file = bench.folder / f"{name}.clock"
    set_clock(file, offset)
    return file, {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(file),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }


def set_clock(file: Path, offset: float) -> None:
    """Set another wrong time. It applies at once: each reading of the clock reads the file."""
    new = file.with_suffix(".new")
    new.write_text(f"{offset:+.3f}\n")
    os.replace(new, file)


def with_real_worker(bench: Bench, jumps: list[timedelta]) -> None:
    """Set the clock of a real worker while it works."""
    verdict = bench.verdict
    file, env = faked(bench, "clock", 0.0)
    worker = Program(
        bench, "worker.py", bench.database, bench.oracle, "--lease", 2, "--ticks", 2, env=env
    ).ready()
    offset = timedelta(0)
    for jump in jumps:
        ticks = schedules.sync.list(bench.client, owner="torture")
        for schedule in ticks:
            verdict.expect(
                "I7",
                bench.wait_for_slot(schedule.id, now() + offset),
                f"{schedule.workflow} has no new slot",
            )
        before = {schedule.id: bench.last_slot(schedule.id) for schedule in ticks}
        count = len(runs.sync.list(bench.client, limit=None))
        offset += jump
        set_clock(file, offset.total_seconds())
        bench.injections += 1
        if jump > timedelta(0):
            for schedule in ticks:
                comes = bench.wait_for_slot(schedule.id, now() + offset)
                verdict.expect(
                    "I7", comes, f"set forward by {jump}: {schedule.workflow} has no new slot"
                )
        else:
            # Set back: nothing is repeated, and work that needs no wall clock continues.
            # By a client with the same clock, as on the same machine.
            caller = Program(bench, "invoke_job.py", bench.database, env=env)
            job = caller.line()
            caller.ends(0)
            bench.jobs.add(job)
            verdict.expect(
                "I4", bench.wait_for_success(job, 20), f"set back by {-jump}: {job} hangs"
            )
            for schedule in ticks:
                same = bench.last_slot(schedule.id)
                before_jump = before[schedule.id]
                assert before_jump is not None
                assert same is not None
                is_same = same <= before_jump + LATE
                verdict.expect("I1", is_same, f"set back by {-jump}: {same} after {before_jump}")
            offset -= jump
            set_clock(file, offset.total_seconds())
            for schedule in ticks:
                comes = bench.wait_for_slot(schedule.id, now() + offset)
                verdict.expect("I7", comes, f"corrected: {schedule.workflow} has no new slot")
        made = len(runs.sync.list(bench.client, limit=None)) - count
        verdict.expect("I1", made < 120, f"{jump}: a burst of {made} runs")
    worker.term()
    for schedule in schedules.sync.list(bench.client, owner="torture"):
        slots = list(slots_of(list(history(bench.client, schedule.id)), SECOND))
        text = f"{schedule.workflow}: {len(slots)} outcomes of {len(set(slots))} slots"
        verdict.expect("I1", len(slots) == len(set(slots)), text)
        span = (max(slots) - min(slots)) // SECOND + 1
        verdict.expect("I1", len(slots) == span, f"{schedule.workflow}: {len(slots)} of {span}")
    bench.client.close()
    check_file(verdict, bench.database)


def f11(bench: Bench) -> None:
    """Workers on one database have clocks that differ by up to five minutes.

    On SQLite, each worker fires by its own clock. On PostgreSQL, all fire by the server's clock.
    """
    verdict = bench.verdict
    fires_by_own_clock = isinstance(bench.database, Path)
    offsets = [300.0, -300.0, 0.0, 2.0, -2.0]
    programs = []
    for number in range(max(3, bench.times(5))):
        offset = offsets[number % len(offsets)]
        _, env = faked(bench, f"clock-{number}", offset)
        program = Program(
            bench, "worker.py", bench.database, bench.oracle, "--lease", 2, "--ticks", 4, env=env
        )
        programs.append((offset, program.ready()))
        bench.injections += 1
    fastest = timedelta(seconds=max(offset for offset, _ in programs) if fires_by_own_clock else 0)
    ticks = schedules.sync.list(bench.client, owner="torture")
    for _ in range(bench.times(10, 2)):
        for schedule in ticks:
            comes = bench.wait_for_slot(schedule.id, now() + fastest)
            verdict.expect("I7", comes, f"{schedule.workflow} has no new slot")
        job = bench.invoke()
        verdict.expect("I4", bench.wait_for_success(job, 20), f"{job} hangs")
        # A killed worker is replaced after its lease by a worker with the same wrong clock.
        offset, worker = programs.pop(bench.random.randrange(len(programs)))
        worker.kill()
        _, env = faked(bench, f"clock-again-{bench.injections}", offset)
        program = Program(
            bench, "worker.py", bench.database, bench.oracle, "--lease", 2, "--ticks", 4, env=env
        )
        programs.append((offset, program.ready()))
        bench.injections += 1
    end = now() + fastest
    for _, worker in programs:
        worker.term()
    for schedule in ticks:
        slots = list(slots_of(list(history(bench.client, schedule.id)), SECOND))
        verdict.expect(
            "I1", len(slots) == len(set(slots)), f"{schedule.workflow}: a slot has two outcomes"
        )
        span = (max(slots) - min(slots)) // SECOND + 1
        verdict.expect("I1", len(slots) == span, f"{schedule.workflow}: {len(slots)} of {span}")
        # A slot may be early by the error of the fastest clock, but not more.
        is_bounded = max(slots) <= end + LATE
        verdict.expect("I1", is_bounded, f"{schedule.workflow}: slot {max(slots)} ran at {end}")
    executed = OracleReader(bench.oracle).read()
    recorded: set[tuple[str, str]] = set()
    for line in executed:
        if line.kind == "before":
            is_first = (line.run, line.step) not in recorded
            verdict.expect("I3", is_first, f"{line.run}: {line.step} began again")
        elif line.kind == "ack":
            recorded.add((line.run, line.step))
    bench.client.close()
    check_file(verdict, bench.database)


def f12(bench: Bench) -> None:
    """A machine boots with a wrong clock, which is corrected a minute later."""
    in_virtual_time(_wrong_boot(bench))


async def _wrong_boot(bench: Bench) -> None:
    verdict = bench.verdict
    right = datetime(2026, 6, 1, 12, 0, 30, tzinfo=UTC)
    wrong = [datetime(1970, 1, 1, 0, 0, 5, tzinfo=UTC), datetime(2001, 9, 9, tzinfo=UTC)]
    wrong += [datetime(2099, 1, 1, tzinfo=UTC), datetime(2286, 11, 21, tzinfo=UTC)]
    for boot in wrong:
        for seconds in (1, 59, 60 + bench.random.random() * 600):
            async with polos.testing.clock(right - DAY, retention=timedelta(days=30)) as t:
                old = await schedules.create(t.client, "tick", "* * * * *", key="old")
                await t.advance(hours=1)
                kept = {run.id for run in await t.runs()}
                await t.set_to(boot)
                new = await schedules.create(t.client, "tick", "* * * * *", key="new")
                await t.advance(seconds=seconds)
                await t.set_to(right)
                bench.injections += 1
                what = f"booted in {boot.year} for {seconds:.0f} s"
                await t.advance(minutes=3)
                # The first prune comes at least an hour after the start.
                await t.advance(hours=2)
                left = {run.id for run in await t.runs()}
                verdict.expect("I10", kept <= left, f"{what}: {len(kept - left)} runs were pruned")
                for id in (old, new):
                    schedule = await schedules.get(t.client, id)
                    text = f"{what}: schedule `{schedule.key}` comes next at {schedule.upcoming}"
                    upcoming = schedule.upcoming
                    verdict.expect("I7", upcoming and upcoming <= t.now + MINUTE, text)
                    slots = [run.timestamp for run in await t.runs(schedule=id)]
                    recent = [slot for slot in slots if slot and right < slot <= t.now]
                    count = (t.now - right) // MINUTE
                    verdict.expect("I1", len(recent) == count, f"{what}: {len(recent)} of {count}")
                    text = f"{what}: slots of `{schedule.key}` ran twice"
                    verdict.expect("I1", len(slots) == len(set(slots)), text)


# --- clock changes -----------------------------------------------------------------------------

ZONES = (
    "America/New_York",
    "Europe/London",
    "Australia/Lord_Howe",
    "America/Santiago",
    "Africa/Casablanca",
    "America/Los_Angeles",
    "America/Chicago",
    "America/Denver",
    "America/Halifax",
    "America/St_Johns",
    "America/Havana",
    "America/Sao_Paulo",
    "Europe/Paris",
    "Europe/Dublin",
    "Asia/Kolkata",
    "Asia/Jerusalem",
    "Australia/Sydney",
    "Pacific/Auckland",
    "Pacific/Chatham",
    "UTC",
)
CRONS = (
    "* * * * *",
    "*/17 * * * *",
    "30 2 * * *",
    "0,30 2 * * *",
    "0 2,3 * * *",
    "30 1 * * *",
    "15 0 * * *",
    "0 */2 * * *",
    "*/17 1-3 * * *",
)


def numbers(text: str, least: int, most: int) -> set[int]:
    """Parse a field of the expressions above. A second implementation, to check the real one."""
    found = set()
    for part in text.split(","):
        span, _, step = part.partition("/")
        low, _, high = span.partition("-")
        first = least if span == "*" else int(low)
        last = most if span == "*" else int(high or low)
        found |= set(range(first, last + 1, int(step or 1)))
    return found


def expected_slots(cron: str, zone: str, start: datetime, end: datetime) -> list[datetime]:
    """Return the slots in ``(start, end]`` by the rules of Debian's cron, minute by minute.

    An expression whose minute or hour begins with ``*`` fires whenever the wall clock shows its
    time. Others fire when the wall clock first reaches or skips their time.
    """
    minute_text, hour_text, *_ = cron.split(" ")
    minutes, hours = numbers(minute_text, 0, 59), numbers(hour_text, 0, 23)
    is_wild = minute_text.startswith("*") or hour_text.startswith("*")
    place = ZoneInfo(zone)

    def wall(instant: datetime) -> datetime:
        return instant.astimezone(place).replace(tzinfo=None, fold=0)

    def matches(shown: datetime) -> bool:
        return shown.minute in minutes and shown.hour in hours

    slots = []
    latest = max(wall(start - MINUTE * n) for n in range(180))
    instant = start + MINUTE
    while instant <= end:
        shown = wall(instant)
        if is_wild:
            if matches(shown):
                slots.append(instant)
        elif shown > latest:
            passed = (latest + MINUTE * n for n in range(1, (shown - latest) // MINUTE + 1))
            if any(matches(at) for at in passed):
                slots.append(instant)
        latest = max(latest, shown)
        instant += MINUTE
    return slots


def changes(zone: str, year: int) -> list[datetime]:
    """Return the days on which a zone's offset changes; if there are none, America's."""
    place = ZoneInfo(zone)
    found = []
    day = datetime(year, 1, 1, tzinfo=UTC)
    while day.year == year:
        if day.astimezone(place).utcoffset() != (day + DAY).astimezone(place).utcoffset():
            found.append(day)
        day += DAY
    return found or [datetime(year, 3, 8, tzinfo=UTC), datetime(year, 11, 1, tzinfo=UTC)]


def f13(bench: Bench) -> None:
    """Clocks change while the scheduler works, and while the machine is suspended."""
    zones = ZONES[: bench.times(len(ZONES), 4)]
    american = [datetime(2026, 3, 8, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC)]
    for zone in zones:
        for day in sorted({*changes(zone, 2026)[:2], *american}):
            in_virtual_time(_change(bench, zone, day, is_asleep=False))
            in_virtual_time(_change(bench, zone, day, is_asleep=True))
            bench.injections += 2


async def _change(bench: Bench, zone: str, day: datetime, *, is_asleep: bool) -> None:
    verdict = bench.verdict
    start, end = day - 2 * HOUR, day + 28 * HOUR
    async with polos.testing.clock(start) as t:
        made = {}
        for number, cron in enumerate(CRONS):
            made[cron] = await schedules.create(
                t.client,
                "tick",
                cron,
                timezone=zone,
                key=f"{number}",
                catch_up="all",
                max_catch_up=10_000,
                catch_up_window=timedelta(days=3),
            )
        every = await schedules.create(
            t.client,
            "tick",
            every=17 * MINUTE,
            timezone=zone,
            catch_up="all",
            max_catch_up=10_000,
            catch_up_window=timedelta(days=3),
        )
        if is_asleep:
            await t.set_to(end + MINUTE / 2)
        else:
            await t.advance_to(end)
        for cron, id in made.items():
            what = f"`{cron}` in {zone} around {day:%d %B}{', asleep' if is_asleep else ''}"
            slots = in_utc(run.timestamp for run in await t.runs(schedule=id))
            right = expected_slots(cron, zone, start, end)
            verdict.expect("I1", slots == right, f"{what}: {difference(slots, right)}")
            previewed = in_utc(schedules.preview(cron, zone, count=len(right) + 1, after=start))[
                :-1
            ]
            verdict.expect(
                "I1", previewed == right, f"{what}, preview: {difference(previewed, right)}"
            )
            entries = await t.ledger(id)
            ran = in_utc(entry.timestamp for entry in entries if entry.status == "ran")
            verdict.expect("I1", ran == right and len(entries) == len(ran), f"{what}: history")
        slots = in_utc(run.timestamp for run in await t.runs(schedule=every))
        first = EPOCH + ((start - EPOCH) // (17 * MINUTE) + 1) * 17 * MINUTE
        right = [first + 17 * MINUTE * n for n in range((end - first) // (17 * MINUTE) + 1)]
        verdict.expect("I1", slots == right, f"every 17 min in {zone}: {difference(slots, right)}")


def in_utc(instants: Iterable[datetime | None]) -> list[datetime]:
    """Convert to UTC: ambiguous local times don't compare equal across zones."""
    return [instant.astimezone(UTC) for instant in instants if instant is not None]


def difference(found: list[Any], right: list[datetime]) -> str:
    """Describe the difference briefly."""
    extra = sorted(set(found) - set(right))[:3]
    lacking = sorted(set(right) - set(found))[:3]
    return f"{len(found)} slots, not {len(right)}; extra {extra}, lacking {lacking}"


# --- zone data that changes ----------------------------------------------------------------------

TABLES = (("Etc/GMT-1", "Etc/GMT-2"), ("Etc/GMT-1", "UTC"), ("Europe/Paris", "Asia/Kolkata"))


def f14(bench: Bench) -> None:
    """The data of a time zone changes between two starts of the worker."""
    verdict = bench.verdict
    system = next(Path(path) for path in ("/usr/share/zoneinfo",) if Path(path).is_dir())
    for number in range(bench.times(30, len(TABLES))):
        old, new = TABLES[number % len(TABLES)]
        place = bench.folder / f"zones-{number}"
        database = bench.folder / f"zones-{number}.db"
        answers = []
        for version, content in (("2026a", old), ("2026b", new)):
            folder = place / version
            target = folder / "Test" / "Moved"
            target.parent.mkdir(parents=True)
            shutil.copy(system / content, target)
            shutil.copy(system / "UTC", folder / "UTC")
            (folder / "tzdata.zi").write_text(f"# version {version}\n")
            hour = (now().hour + number) % 24
            answers.append(zone_program(bench, folder, database, f"30 {hour} * * *"))
        bench.injections += 1
        before, after = answers
        what = f"{old} became {new}"
        verdict.expect("I1", before["upcoming"] == before["preview"], f"{what}: {before}")
        verdict.expect("I1", after["upcoming"] == after["preview"], f"{what}: {after}")
        verdict.expect("I10", after["id"] == before["id"], f"{what}: the schedule's id changed")


def zone_program(bench: Bench, folder: Path, database: Path, cron: str) -> dict[str, str]:
    """Run a worker with this zone data; return what it reports about a schedule."""
    program = Program(bench, "zone_worker.py", database, cron, env={"PYTHONTZPATH": str(folder)})
    output: dict[str, str] = json.loads(program.line())
    program.ends(0)
    return output


FAULTS = {
    "F9": f9,
    "F9b": f9b,
    "F10": f10,
    "F10b": f10b,
    "F11": f11,
    "F12": f12,
    "F13": f13,
    "F14": f14,
}
