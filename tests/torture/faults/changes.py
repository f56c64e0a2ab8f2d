"""Faults of change: missing workflows, unusual names, concurrent changes of schedules while they are
due, overlapping runs, changed code.
"""

from __future__ import annotations

import itertools
import json
import random
import sys
import threading
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from functools import partial
from typing import Any

from checker import OracleReader, check_file, history
from faults.clock import in_virtual_time
from faults.handlers import check_alive, close, handler_worker, wait_for_completion
from programs import Program

import polos.testing
from harness import SECOND, Bench, now, until
from polos import (
    InvalidCronError,
    InvalidScheduleError,
    InvalidTimezoneError,
    RunHandle,
    runs,
    schedules,
    workflow,
)
from polos.models import RunStatus

MINUTE = timedelta(minutes=1)
UTC = timezone.utc


def f33b(bench: Bench) -> None:
    """The workflow of schedules is registered by no worker, then by one again."""
    verdict = bench.verdict
    for number in range(bench.times(30)):
        worker = handler_worker(bench)
        gone = schedules.sync.create(bench.client, "digest", every=SECOND, key=f"gone-{number}")
        there = schedules.sync.create(
            bench.client, "slow", every=SECOND, key=f"there-{number}", input=0.0
        )
        for id in (gone, there):
            verdict.expect("I7", bench.wait_for_slot(id, now()), f"{id} has no new slot")
        worker.term()
        left = bench.last_slot(gone)
        worker = handler_worker(bench, "--without", "digest")
        bench.injections += 1
        verdict.expect("I7", bench.wait_for_slot(there, now()), "another schedule has no new slot")
        found = schedules.sync.get(bench.client, gone)
        verdict.expect(
            "I12", not found.worker_available, "`worker_available` is true without a worker"
        )
        verdict.expect("I1", bench.last_slot(gone) == left, "it got a slot without a worker")
        # Some slots must pass without a worker.
        assert left is not None
        bench.wait_for_slot(there, left + 4 * SECOND)
        worker.term()
        worker = handler_worker(bench)
        comes = until(partial(is_on_time, bench, gone), 20)
        verdict.expect("I7", comes, "it doesn't continue with its workflow")
        for id in (gone, there):
            schedules.sync.pause(bench.client, id)
        for id in (gone, there):
            check_every_second(bench, id)
        caught_up = [entry for entry in history(bench.client, gone) if entry.status == "missed"]
        verdict.expect("I12", caught_up, "the history doesn't have the missed slots")
        close_worker(bench, worker)
    bench.client.close()
    check_file(verdict, bench.database)


def is_on_time(bench: Bench, id: str) -> bool:
    upcoming = schedules.sync.get(bench.client, id).upcoming
    return upcoming is not None and upcoming > now() - SECOND


def close_worker(bench: Bench, worker: Program) -> None:
    check_alive(bench, worker, "what was changed")
    worker.term()


def check_every_second(bench: Bench, id: str) -> None:
    """I1: each second from the first slot on has exactly one outcome."""
    slots = [
        entry.timestamp + SECOND * number
        for entry in history(bench.client, id)
        for number in range(entry.count)
    ]
    span = (max(slots) - min(slots)) // SECOND + 1
    twice = [slot for slot, count in Counter(slots).items() if count > 1]
    bench.verdict.expect("I1", not twice, f"{id}: two outcomes of {twice[:5]}")
    bench.verdict.expect("I1", len(slots) == span, f"{id}: {len(slots)} outcomes of {span} slots")


# --- invalid input -------------------------------------------------------------------------------

CRON_ERRORS: tuple[Any, ...] = (
    "", " ", "* * * *", "* * * * * *", "60 * * * *", "-1 * * * *", "* 24 * * *", "* * 0 * *",
    "* * 32 * *", "* * * 0 *", "* * * 13 *", "* * * * 8", "0 0 31 2 *", "0 0 30 2 *",
    "*/0 * * * *", "*/-1 * * * *", "1-0 * * * *", "1,,2 * * * *", ",1 * * * *", "1, * * * *",
    "a * * * *", "* * * FOO *", "* * * * MOON", "MON * * * *", "@never", "@reboot", "@", "? * * * *",
    "1.5 * * * *", "1e1 * * * *", "0x1 * * * *", "+1 * * * *", "** * * * *", "*/* * * * *",
    "1-2-3 * * * *", "1/2/3 * * * *", "* * L-32 * *", "* * 32W * *", "* * * * 1#6", "* * * * 1#0",
    "* * * * 8L", "٣ * * * *", "１ * * * *", "*\0* * * *", "* * * * *\0", "* * * * *; DROP TABLE schedule",
    "0 9 * * * # comment", "0" * 1_000_000, "* " * 500_000, "*," * 500_000, "\ud800 * * * *",
    "99999999999999999999 * * * *", 5, 5.0, True, b"* * * * *", ["*"] * 5, {}, object(),
    datetime(2026, 1, 1), timedelta(hours=1),
)  # fmt: skip
ZONE_ERRORS: tuple[Any, ...] = (
    "", " ", "PDT", "EDT", "IST", "+02:00", "UTC+2", "GMT+2", "utc ", "europe/paris", "Europe/Pariss",
    "../../etc/passwd", "/etc/localtime", "localtime", "posix/UTC", "Europe", "Europe/", "\0", "UTC\0",
    "Mars/Olympus", "'; DROP TABLE schedule; --", "x" * 1_000_000, "\ud800", 2, 2.0, b"UTC", [],
    timezone(timedelta(hours=2)), object(),
)  # fmt: skip
KEY_ERRORS: tuple[Any, ...] = (
    "", " ", " a", "a ", "a\0b", "a\nb", "a\tb", "\ud800", "k" * 256, "k" * 1_000_000, 7, 7.0, True,
    b"key", [], object(), "\x7f", "a\x1bb",
)  # fmt: skip


def f34(bench: Bench) -> None:
    """Invalid expressions, zones, and keys, in `create`, `update`, and the decorator."""
    verdict = bench.verdict
    worker = handler_worker(bench)
    kept = schedules.sync.create(bench.client, "digest", "0 0 1 1 *", key="kept")
    before = schedules.sync.get(bench.client, kept)
    tables: tuple[tuple[str, tuple[Any, ...], type[Exception]], ...] = (
        ("cron", CRON_ERRORS, InvalidCronError),
        ("timezone", ZONE_ERRORS, InvalidTimezoneError),
        ("key", KEY_ERRORS, InvalidScheduleError),
    )
    slowest = 0.0
    for _ in range(bench.times(50)):
        for field, values, kind in tables:
            for value in values:
                spec: dict[str, Any] = {"cron": "0 9 * * *", "key": "new", field: value}
                slowest = max(
                    slowest,
                    check_refused(bench, field, value, kind, partial(create, bench, spec)),
                    check_refused(bench, field, value, kind, partial(declare, spec)),
                )
                if field != "key":
                    changed = {name: spec[name] for name in ("cron", field)}
                    check_refused(bench, field, value, kind, partial(update, bench, kept, changed))
                bench.injections += 1
    verdict.expect("I7", slowest < 1.0, f"one refusal took {slowest:.3f} s")
    bench.remarks.append(f"the slowest refusal took {slowest * 1000:.1f} ms")
    found = schedules.sync.list(bench.client)
    verdict.expect("I10", found == [before], f"{len(found)} schedules instead of one")
    check_alive(bench, worker, "what was refused")
    close(bench, worker)


def create(bench: Bench, spec: dict[str, Any]) -> None:
    schedules.sync.create(bench.client, "digest", **spec)


def update(bench: Bench, id: str, spec: dict[str, Any]) -> None:
    schedules.sync.update(bench.client, id, **spec)


def declare(spec: dict[str, Any]) -> None:
    async def handler() -> None: ...

    workflow(id="declared", schedule=spec)(handler)


def check_refused(
    bench: Bench, field: str, value: Any, kind: type[Exception], act: Callable[[], None]
) -> float:
    """I12: expect a short ``ValueError`` that names the field; return how long it took."""
    shown = repr(value)[:60]
    begun = time.perf_counter()
    try:
        act()
    except ValueError as error:
        took = time.perf_counter() - begun
        text = str(error)
        bench.verdict.expect("I12", isinstance(error, kind), f"{field}={shown}: {type(error)}")
        names = field in text or (field == "timezone" and "time zone" in text)
        bench.verdict.expect("I12", names, f"{field}={shown}: {text[:200]}")
        bench.verdict.expect("I12", len(text) < 3_000, f"{field}={shown}: {len(text)} characters")
        return took
    except Exception as error:
        bench.verdict.expect(
            "I12", False, f"{field}={shown}: {type(error).__name__}: {error}"[:300]
        )
    else:
        bench.verdict.expect("I12", False, f"{field}={shown} was accepted")
    return 0.0


ODD_NAMES = (
    "'; DROP TABLE schedule; --", '"; DELETE FROM run; --', "a' OR '1'='1", "%", "_", "%%", "a%b_c",
    "\\", "\\'", "`", "${HOME}", "$(touch canary)", "{}", "{0}", "%s", "%(x)s", "\u202eabc", "\u200b",
    "\ufeff", "😀" * 60, "é", "e\u0301", "ſ", "İ", "ß", "NULL", "null", "0", "-1", "a/b", "../a", "a:b",
    "run_x", "sch_x", "*", "?", "[a]", "a,b", "a;b", "a|b", "x" * 255, "\U0010ffff", "ａ", "A", "a",
)  # fmt: skip


def f35(bench: Bench) -> None:
    """Names that look like SQL, patterns, formats, or each other."""
    verdict = bench.verdict
    worker = handler_worker(bench)
    tables = table_list(bench)
    names = list(ODD_NAMES)
    alphabet = "".join(ODD_NAMES)
    for _ in range(bench.times(2_000, 60)):
        size = bench.random.randint(1, 12)
        names.append("".join(bench.random.choice(alphabet) for _ in range(size)))
    taken: dict[str, str] = {}
    keyed: dict[str, str] = {}
    for name in dict.fromkeys(names):
        bench.injections += 1
        try:
            taken[name] = schedules.sync.create(bench.client, "digest", "0 0 1 1 *", key=name)
            handle: RunHandle[Any] = runs.sync.invoke(
                bench.client, "echo", name, idempotency_key=name
            )
            keyed[name] = handle.id
        except ValueError as error:
            verdict.expect("I10", name not in taken, f"{name!r}: {error}")
    count = len(set(taken.values()))
    verdict.expect("I10", count == len(taken), f"{len(taken)} keys have {count} schedules")
    everything = {s.key: s.id for s in schedules.sync.list(bench.client)}
    verdict.expect(
        "I10", everything == taken, "the list of all schedules differs from what was created"
    )
    for name, id in taken.items():
        found = schedules.sync.list(bench.client, key=name)
        keys = [schedule.key for schedule in found]
        verdict.expect("I10", keys == [name], f"by key {name!r}: {keys}")
        verdict.expect("I10", schedules.sync.get(bench.client, id).key == name, f"{name!r}")
        again = runs.sync.invoke(bench.client, "echo", "another", idempotency_key=name).id
        verdict.expect("I10", again == keyed[name], f"{name!r}: the key returned another run")
        for call in (schedules.sync.get, runs.sync.get):
            try:
                call(bench.client, name)
                verdict.expect("I10", False, f"{name!r} is accepted as an id")
            except LookupError:
                verdict.expect("I12", True, "")
            except ValueError:  # not a valid id
                verdict.expect("I12", True, "")
    for name, id in keyed.items():
        verdict.expect(
            "I5",
            wait_for_completion(bench, id).result == name,
            f"{name!r} was not returned unchanged",
        )
    verdict.expect("I6", table_list(bench) == tables, "the tables have changed")
    verdict.expect("I5", not (bench.folder / "canary").exists(), "a name was executed as SQL")
    check_alive(bench, worker, "odd names")
    close(bench, worker)


def table_list(bench: Bench) -> str:
    import subprocess

    script = (
        "import sqlite3, sys; print(sqlite3.connect(sys.argv[1])"
        ".execute('SELECT name, sql FROM sqlite_schema ORDER BY name').fetchall())"
    )
    command = [sys.executable, "-c", script, str(bench.database)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


# --- concurrency ---------------------------------------------------------------------------------


def f36(bench: Bench) -> None:
    """16 threads and 4 processes change the same schedules while they are due."""
    verdict = bench.verdict
    worker = handler_worker(bench, "--lease", 2)
    seconds = max(2.0, 60 * bench.scale)
    keys = [f"key-{number}" for number in range(3)]
    others = [
        Program(
            bench,
            "schedule_changes.py",
            bench.database,
            bench.random.randrange(10**9),
            seconds,
            *keys,
        )
        for _ in range(4)
    ]
    log: list[dict[str, Any]] = []
    lock = threading.Lock()

    def change(seed: int) -> None:
        from apps.schedule_changes import changes

        for done in changes(bench.client, random.Random(seed), seconds, keys):
            with lock:
                log.append(done)

    threads = [
        threading.Thread(target=change, args=(bench.random.randrange(10**9),)) for _ in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for other in others:
        while (output := other.line()) != "done":
            log.append(json.loads(output))
        other.ends(0)
    bench.injections += len(log)
    replay(bench, log)
    # After all are deleted, nothing starts.
    for key in keys:
        for schedule in schedules.sync.list(bench.client, key=key):
            schedules.sync.delete(bench.client, schedule.id)
    deleted_at = time.time()
    job = wait_for_completion(bench, bench.invoke("echo", "after"))
    verdict.expect("I7", job.result == "after", "the worker doesn't execute runs any more")
    until(lambda: now().timestamp() > deleted_at + 2.5, 10)
    late = [
        line
        for line in OracleReader(bench.oracle).read()
        if line.kind == "slot" and line.time > deleted_at
    ]
    verdict.expect("I1", not late, f"after all were deleted: {late}")
    check_alive(bench, worker, "changes by many")
    close(bench, worker)


def replay(bench: Bench, log: list[dict[str, Any]]) -> None:
    """Check each answer against what must be true in any order of the overlapping requests."""
    verdict = bench.verdict
    for entry in log:
        text = entry.get("unexpected")
        verdict.expect("I7", text is None, f"{entry['op']} of {entry['key']}: {text}")
    for key in {entry["key"] for entry in log}:
        mine = [entry for entry in log if entry["key"] == key]
        deletes = sorted(
            (entry for entry in mine if entry["op"] == "delete" and entry["id"]),
            key=lambda entry: entry["end"],
        )
        creates = [entry for entry in mine if entry["op"] == "create" and entry["id"]]
        # P7: between two deletions all creations return one id, and never that of a deleted schedule.
        creations: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for entry in creates:
            creations[entry["id"]].append(entry)
        for id, made in creations.items():
            gone = [entry["end"] for entry in deletes if entry["id"] == id]
            text = f"{key}: {id} was created again after it was deleted"
            is_gone = bool(gone) and max(entry["begin"] for entry in made) > min(gone)
            verdict.expect("I10", not is_gone, text)
        # It existed from the answer to its first creation until its deletion was requested.
        surely = sorted(
            (
                min(entry["end"] for entry in made),
                min((d["begin"] for d in deletes if d["id"] == id), default=float("inf")),
                id,
            )
            for id, made in creations.items()
        )
        spans = [span for span in surely if span[0] < span[1]]
        for (_, until_then, one), (since, _, other) in itertools.pairwise(spans):
            text = f"{key}: {one} and {other} at once"
            verdict.expect("I10", until_then <= since, text)
        found = schedules.sync.list(bench.client, key=key)
        verdict.expect("I10", len(found) <= 1, f"{key}: {len(found)} rows")
        # An update applies entirely: its fields change together.
        for entry in (*mine, *({"seen": shape(s)} for s in found)):
            seen = entry.get("seen")
            if seen is not None:
                verdict.expect("I10", seen[0] == seen[1], f"{key}: a partial update: {seen}")


def shape(schedule: Any) -> list[Any]:
    from apps.schedule_changes import shape as shape_of

    return shape_of(schedule)


# --- around the instant ----------------------------------------------------------------------------


def f37(bench: Bench) -> None:
    """A schedule is changed just before, at, and just after the instant at which it is due."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        in_virtual_time(_around_the_instant(bench))
    _around_real_instants(bench)


MICRO = timedelta(microseconds=1)


async def _around_the_instant(bench: Bench) -> None:
    verdict = bench.verdict
    due = datetime(2026, 5, 4, 8, 0, tzinfo=UTC)
    offsets = [-SECOND, -SECOND / 10, -MICRO, 0 * SECOND, MICRO, SECOND / 10, SECOND]
    offsets += [SECOND * bench.random.uniform(-1, 1) for _ in range(bench.times(200))]
    for offset in offsets:
        for how in ("update", "create", "pause", "delete", "skip"):
            async with polos.testing.clock(due - MINUTE) as t:
                id = await schedules.create(t.client, "tick", "0 8 * * *")
                await t.advance_to(due + offset)
                bench.injections += 1
                if how == "update":
                    await schedules.update(t.client, id, cron="0 15 * * *")
                elif how == "create":
                    again = await schedules.create(t.client, "tick", "0 15 * * *")
                    verdict.expect("I10", again == id, f"{how}: the id changed")
                elif how == "pause":
                    await schedules.pause(t.client, id)
                elif how == "skip":
                    await schedules.skip(t.client, id)
                else:
                    await schedules.delete(t.client, id)
                await t.advance_to(due.replace(hour=23))
                slots = [run.timestamp.hour for run in await t.runs() if run.timestamp]
                old = [8] if offset >= timedelta(0) else []
                new = [15] if how in ("update", "create") else []
                text = f"{how} at {offset}: ran at {slots}, not {old + new}"
                verdict.expect("I1", slots == old + new, text)


def _around_real_instants(bench: Bench) -> None:
    """The same with a real worker, which claims slots early."""
    verdict = bench.verdict
    worker = handler_worker(bench, "--lease", 2)
    for number in range(bench.times(200, 8)):
        id = schedules.sync.create(bench.client, "digest", every=SECOND, key=f"edge-{number}")
        due = schedules.sync.get(bench.client, id).upcoming
        assert due is not None
        shifted = due + SECOND * 0.5
        offset = bench.random.choice([-0.08, -0.05, -0.04, -0.02, -0.005, 0.0, 0.005, 0.05])
        wait_until(due.timestamp() + offset)
        is_deletion = number % 2 == 0
        if is_deletion:
            schedules.sync.delete(bench.client, id)
        else:
            schedules.sync.update(bench.client, id, every=SECOND, start_at=shifted)
        answered = time.time()
        bench.injections += 1
        if is_deletion:
            wait_until(due.timestamp() + 1.2)
        else:
            verdict.expect("I7", bench.wait_for_slot(id, due), f"changed by {offset}: no new slot")
            schedules.sync.delete(bench.client, id)
        made = runs.sync.list(bench.client, schedule=id, limit=None)
        started = [line.time for line in recorded_slots(bench, {run.id for run in made})]
        if is_deletion:
            # A handler that was called before the change may execute its first line after it.
            given = [run.started_at.timestamp() for run in made if run.started_at]
            is_silent = (
                not started if answered < due.timestamp() else max(given, default=0) <= answered
            )
            what = f"deleted {offset:+.3f} s, answered at {answered}"
            verdict.expect("I1", is_silent, f"{what}: claimed at {given}, started at {started}")
        slots = [run.timestamp for run in made]
        verdict.expect("I1", len(slots) == len(set(slots)), f"changed {offset:+.3f} s: {slots}")
    close(bench, worker)


def wait_until(instant: float) -> None:
    """Wait for a time of the real clock: the fault is the instant of a change."""
    while (rest := instant - time.time()) > 0:
        time.sleep(min(rest, 0.05))


def recorded_slots(bench: Bench, ids: set[str]) -> list[Any]:
    return [
        line
        for line in OracleReader(bench.oracle).read()
        if line.kind == "slot" and line.run in ids
    ]


def f38(bench: Bench) -> None:
    """Runs take three times their schedule's period, with each overlap policy."""
    verdict = bench.verdict
    worker = handler_worker(bench, "--lease", 5)
    made = {}
    for policy in ("buffer_one", "skip", "buffer_all", "cancel_running", "allow"):
        for number in range(bench.times(20)):
            key = f"{policy}-{number}"
            made[
                schedules.sync.create(
                    bench.client,
                    "slow",
                    every=SECOND,
                    key=key,
                    overlap=policy,
                    input=3.0,
                )
            ] = policy
            bench.injections += 1
    quick = schedules.sync.create(bench.client, "digest", every=SECOND, key="quick")
    begun = now()
    until(lambda: now() > begun + 12 * SECOND, 20)
    for id in (*made, quick):
        schedules.sync.pause(bench.client, id)
    for id, policy in made.items():
        for run in runs.sync.list(bench.client, schedule=id, status="queued", limit=None):
            runs.sync.cancel(bench.client, run.id)
        until(partial(is_finished, bench, id), 60)
        check_overlap(bench, id, policy)
        check_every_second(bench, id)
    check_every_second(bench, quick)
    entries = list(history(bench.client, quick))
    not_run = [entry for entry in entries if entry.status != "ran"]
    verdict.expect("I1", len(not_run) <= 1, f"a quick schedule beside slow ones: {not_run}")
    check_alive(bench, worker, "overlapping runs")
    close(bench, worker)


def is_finished(bench: Bench, id: str) -> bool:
    """Cancel queued runs; return whether all runs of the schedule have completed."""
    for run in runs.sync.list(bench.client, schedule=id, status="queued", limit=None):
        runs.sync.cancel(bench.client, run.id)
    left: tuple[RunStatus, ...] = ("queued", "running", "waiting")
    return not runs.sync.list(bench.client, schedule=id, status=left, limit=1)


def check_overlap(bench: Bench, id: str, policy: str) -> None:
    """I5: runs at the same time, by the oracle. I12: the outcomes in the ledger."""
    verdict = bench.verdict
    found = {run.id: run for run in runs.sync.list(bench.client, schedule=id, limit=None)}
    begin: dict[str, float] = {}
    spans = []
    for line in OracleReader(bench.oracle).read():
        if line.run in found and line.kind == "before":
            begin[line.run] = line.time
    for run_id, at in begin.items():
        finished = found[run_id].finished_at
        assert finished is not None
        spans.append((at, finished.timestamp()))
    most = max(sum(a <= at < b for a, b in spans) for at, _ in spans)
    statuses = Counter(run.status for run in found.values())
    outcomes = Counter(
        {
            status: sum(e.count for e in history(bench.client, id) if e.status == status)
            for status in ("ran", "skipped")
        }
    )
    what = f"{policy}: {most} at once, {dict(statuses)}, {dict(outcomes)}"
    if policy == "allow":
        verdict.expect("I5", 2 <= most <= 5, what)
        verdict.expect("I12", outcomes["skipped"] == 0, what)
    else:
        verdict.expect("I5", most == 1, what)
    if policy in ("buffer_one", "skip"):
        verdict.expect("I12", outcomes["skipped"] >= 5, what)
    if policy == "buffer_all":
        verdict.expect("I12", outcomes["skipped"] == 0, what)
    if policy == "cancel_running":
        verdict.expect("I4", statuses["cancelled"] >= 5, what)
    done = [run for run in found.values() if run.status == "succeeded"]
    for run in done:
        assert run.started_at is not None
        assert run.finished_at is not None
        took = (run.finished_at - run.started_at).total_seconds()
        verdict.expect("I4", took > 2.9, f"{policy}: a run took {took:.1f} s of 3")


# --- changed code ----------------------------------------------------------------------------------


CODES: dict[str, tuple[list[str], str | None]] = {
    # The steps of the new code, of which a and b were recorded by the old code; the expected error.
    "the-same": (["a", "b", "c"], None),
    "one-added-behind": (["a", "b", "c", "d"], None),
    "last-one-renamed": (["a", "b", "x"], None),
    "first-one-renamed": (["x", "b", "c"], "`a`"),
    "second-one-renamed": (["a", "x", "c"], "`b`"),
    "one-removed": (["a", "c"], "`b`"),
    "all-removed": ([], "`a`"),
    "one-put-before": (["x", "a", "b", "c"], "`a`"),
    "turned-around": (["c", "b", "a"], "`a`"),
    "done-ones-turned-around": (["b", "a", "c"], None),
}


def f43(bench: Bench) -> None:
    """A run that a crash interrupted continues with changed code."""
    verdict = bench.verdict
    for number in range(bench.times(50)):
        for name, (steps, expected) in CODES.items():
            oracle = bench.folder / f"code-{number}-{name}.txt"
            before = Program(
                bench, "chosen_steps.py", bench.database, oracle, name, "hold", "a", "b", "c"
            )
            run = before.line()
            verdict.expect("I4", before.line() == "in c", f"{name}: it doesn't reach step c")
            before.kill()
            bench.injections += 1
            after = Program(bench, "chosen_steps.py", bench.database, oracle, name, run, *steps)
            verdict.expect("I11", after.line() == "ended", f"{name}: it doesn't complete")
            after.ends(0)
            found = runs.sync.get(bench.client, run)
            text = f"{name}: {found.status}, {found.error and found.error.message}"
            if expected is None:
                verdict.expect("I4", found.status == "succeeded", text)
            else:
                verdict.expect("I4", found.status == "failed", text)
                error = found.error
                is_right = error is not None and "CodeChanged" in error.type
                verdict.expect("I12", is_right and error and expected in error.message, text)
                verdict.expect("I5", found.attempt == 1, f"{name}: tried {found.attempt} times")
            executed = Counter(oracle.read_text().split())
            again = [step for step in ("a", "b") if executed[step] != 1]
            verdict.expect("I3", not again, f"{name}: executed {dict(executed)}")
    bench.client.close()
    check_file(verdict, bench.database)


FAULTS = {
    "F33b": f33b,
    "F34": f34,
    "F35": f35,
    "F36": f36,
    "F37": f37,
    "F38": f38,
    "F43": f43,
}
