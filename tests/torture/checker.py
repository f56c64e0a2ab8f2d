"""Checks the invariants: compares what the steps recorded with what the public API says."""

from __future__ import annotations

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

from polos import LedgerEntry, PolosClient, Run, Schedule, runs, schedules

STEPS = ("a", "b", "c")
WITHOUT_STEPS = ("blocker", "light", "limited", "paced")
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
PAGE = 1_000
MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True)
class Line:
    """One line of the oracle."""

    place: int
    kind: str
    run: str
    step: str
    attempt: int
    pid: int
    time: float
    token: str


@dataclass(frozen=True)
class Phase:
    """A time during which a schedule of whole seconds has one known period."""

    period: timedelta
    since: datetime
    until: datetime


def periods_at(phases: Sequence[Phase], slot: datetime) -> set[timedelta]:
    """The period of the phase that contains ``slot``; between two phases, those of both."""
    within = {phase.period for phase in phases if phase.since <= slot <= phase.until}
    before = [phase for phase in phases if phase.until < slot][-1:]
    after = [phase for phase in phases if phase.since > slot][:1]
    return within or {phase.period for phase in (*before, *after)}


class OracleReader:
    """Reads the oracle's file while it grows."""

    def __init__(self, oracle: Path) -> None:
        self._oracle = oracle
        self._offset = 0
        self._place = 0

    def read(self) -> list[Line]:
        """Return the lines since the last call, in the order in which they were written."""
        if not self._oracle.exists():
            return []
        with self._oracle.open("rb") as file:
            file.seek(self._offset)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._offset += len(whole)
        lines: list[Line] = []
        for line in whole.decode().splitlines():
            kind, run, step, attempt, pid, time, token = line.split(" ")
            place = self._place + len(lines)
            lines.append(Line(place, kind, run, step, int(attempt), int(pid), float(time), token))
        self._place += len(lines)
        return lines


class Verdict:
    """Counts the checks of each invariant, and collects the violations."""

    def __init__(self) -> None:
        self.checked: Counter[str] = Counter()
        self.violations: list[str] = []

    def expect(self, invariant: str, holds: object, text: str) -> None:
        """Count a check; record a violation if it doesn't hold."""
        self.checked[invariant] += 1
        if not holds:
            self.violations.append(f"{invariant}: {text}")


def history(client: PolosClient, schedule: str) -> Iterator[LedgerEntry]:
    """Yield all entries, newest first."""
    before = None
    while True:
        page = schedules.sync.history(client, schedule, limit=PAGE, before=before)
        yield from page
        if len(page) < PAGE:
            return
        before = page[-1].timestamp


def check_slots(
    verdict: Verdict,
    schedule: Schedule,
    entries: list[LedgerEntry],
    until: datetime,
    phases: Sequence[Phase] = (),
) -> None:
    """I1: each slot from creation until ``until`` has exactly one outcome. I2: nothing else has.

    :param phases: the phases of a schedule whose period changed. Between two phases, an instant
        that both periods contain is a slot, and one that neither contains isn't.
    """
    assert schedule.every is not None
    phases = phases or [Phase(schedule.every, schedule.created_at - schedule.every, until)]

    def are_slots(instant: datetime) -> list[bool]:
        """Return, for each period that may apply at the instant, whether the instant is a slot."""
        periods = periods_at(phases, instant)
        return [(instant - EPOCH) % period == timedelta(0) for period in periods]

    outcomes: Counter[datetime] = Counter()
    for entry in entries:
        first, last = entry.timestamp, entry.until
        fitting = [
            period
            for period in periods_at(phases, first) | periods_at(phases, last)
            if last == first + period * (entry.count - 1)
        ]
        verdict.expect("I1", fitting, f"{schedule.key}: {entry} covers no whole number of slots")
        for number in range(entry.count if fitting else 0):
            outcomes[first + fitting[0] * number] += 1
        verdict.expect(
            "I2",
            any(are_slots(entry.timestamp))
            # Slots count from the request, which is some milliseconds before the row was written.
            and entry.timestamp > schedule.created_at - phases[0].period,
            f"{schedule.workflow} {schedule.key}: {entry.timestamp} is not a slot of this schedule",
        )
    step = min(phase.period for phase in phases)
    slot = schedule.created_at - (schedule.created_at - EPOCH) % step + step
    while slot < until:
        verdict.expect(
            "I1",
            outcomes[slot] == 1 or not all(are_slots(slot)),
            f"{schedule.workflow} {schedule.key}: slot {slot} has {outcomes[slot]} outcomes",
        )
        slot += step
    for slot, count in outcomes.items():
        verdict.expect("I1", count == 1, f"{schedule.workflow}: slot {slot} has {count} outcomes")


def check_runs(
    verdict: Verdict,
    found: list[Run],
    known: dict[str, Schedule],
    ledgers: dict[str, list[LedgerEntry]],
    gone: Collection[str],
) -> None:
    """I1: a slot that ran has a run. I2: each run has its slot. I4: each run has completed.

    A run of a workflow that no worker has may still be queued. So may a run that was claimed by the
    last worker with its code, which gave the run back when it closed.
    """
    ran = {
        (id, entry.timestamp): entry.run_id
        for id, entries in ledgers.items()
        for entry in entries
        if entry.status == "ran"
    }
    slots: Counter[tuple[str, datetime]] = Counter()
    for run in found:
        is_left = run.workflow in gone and run.status == "queued"
        ended = run.finished_at is not None or is_left
        verdict.expect("I4", ended, f"run {run.id} is {run.status}")
        if run.schedule_id is None or run.schedule_id not in known:
            verdict.expect("I2", run.schedule_id is None, f"{run.id}: schedule is unknown")
            continue
        assert run.timestamp is not None
        place = run.schedule_id, run.timestamp
        slots[place] += 1
        verdict.expect("I2", ran.get(place) == run.id, f"run {run.id} isn't in the ledger")
        verdict.expect("I1", slots[place] == 1, f"slot {place} has {slots[place]} runs")
        succeeded = run.status == "succeeded" or is_left
        verdict.expect("I1", succeeded, f"{run.id}: {run.status}, {run.error}")
    for place, id in ran.items():
        verdict.expect("I1", slots[place] == 1, f"ledger: {place} ran as {id}, which doesn't exist")


def check_steps(verdict: Verdict, lines: list[Line], found: list[Run]) -> None:
    """I3: a recorded step is not executed again. I5: a step has one result."""
    recorded: dict[tuple[str, str], str] = {}
    returned: dict[tuple[str, str], set[str]] = defaultdict(set)
    ids = {run.id for run in found}
    for line in lines:
        place = line.run, line.step
        verdict.expect("I2", line.run in ids, f"{line.run} was executed and doesn't exist")
        if line.kind == "before":
            verdict.expect("I3", place not in recorded, f"{place} began again at {line.time}")
        elif line.kind == "after":
            returned[place].add(line.token)
        elif line.kind == "ack":
            first = recorded.setdefault(place, line.token)
            verdict.expect("I5", first == line.token, f"{place}: {first} and {line.token}")
            verdict.expect(
                "I3", first in returned[place], f"{place}: no execution returned {first}"
            )
    for run in found:
        if run.status == "succeeded" and run.workflow not in WITHOUT_STEPS:
            tokens = [recorded.get((run.id, step)) for step in STEPS]
            verdict.expect("I5", run.result == tokens, f"{run.id}: {run.result}, not {tokens}")


def check_payloads(
    verdict: Verdict,
    lines: list[Line],
    found: list[Run],
    known: dict[str, Schedule],
    ledgers: dict[str, list[LedgerEntry]],
    phases: Mapping[str, Sequence[Phase]],
) -> None:
    """I8: handlers get their slot, the slot that ran before it, and the slot that follows."""
    previous: dict[str, int | None] = {}
    newest: dict[str, int] = {}
    scheduled = [run for run in found if run.schedule_id in known and run.timestamp is not None]
    for run in sorted(scheduled, key=lambda run: run.timestamp or EPOCH):
        previous[run.id] = newest.get(run.schedule_id or "")
        newest[run.schedule_id or ""] = micros(run.timestamp)
    runs_by_id = {run.id: run for run in scheduled}
    ran = {(run.schedule_id, micros(run.timestamp)) for run in scheduled}
    for line in lines:
        run_of_it = runs_by_id.get(line.run)
        if line.kind != "payload" or run_of_it is None:
            continue
        schedule = known[run_of_it.schedule_id or ""]
        if schedule.status == "broken" or schedule.every is None:  # damaged on purpose
            continue
        slot = micros(run_of_it.timestamp)
        last = previous[line.run]
        changes = phases.get(schedule.id)
        entered_for = run_of_it.timestamp or EPOCH
        periods = periods_at(changes, entered_for) if changes else {schedule.every}
        # The slot that really comes next. Slots that the same decision skips or misses don't count.
        named = int(line.token.split("/")[2])

        def upcoming(
            period: int, named: int = named, slot: int = slot, id: str = schedule.id
        ) -> int:
            next_one = slot + period
            if named <= next_one or (named - slot) % period != 0:
                return next_one
            between = range(next_one, named, period)
            # The test may end before the slot that the payload named. The ledger then says that the
            # slots before it do not run.
            is_decided = newest[id] >= named or all(
                any(
                    entry.status != "ran" and micros(entry.timestamp) <= gap <= micros(entry.until)
                    for entry in ledgers[id]
                )
                for gap in between
            )
            is_next = is_decided and not any((id, gap) in ran for gap in between)
            return named if is_next else next_one

        expected = set()
        for period in periods:
            right = [slot, "-" if last is None else last, upcoming(period // MICROSECOND)]
            right += [schedule.timezone, schedule.id, schedule.key]
            expected.add("/".join(map(str, right)))
        text = f"{line.run}, entered at {line.time}: {line.token}, not {' or '.join(expected)}"
        verdict.expect("I8", line.token in expected, text)


def micros(instant: datetime | None) -> int:
    """Return microseconds since the epoch."""
    assert instant is not None
    return (instant - EPOCH) // MICROSECOND


def check_hook_calls(
    verdict: Verdict, found: list[Run], recorded: list[list[str]], killed: Collection[str]
) -> None:
    """I4: the hook of each outcome was called. I2: no other was. I3: again only after a kill.

    :param recorded: outcome, run, and process of each call, in order.
    :param killed: the ids of processes that were killed.
    """
    calls: dict[str, list[list[str]]] = defaultdict(list)
    for outcome, id, process in recorded:
        calls[id].append([outcome, process])
    for run in found:
        made = calls.pop(run.id, [])
        verdict.expect("I4", bool(made), f"{run.id} is {run.status}, and no hook was called")
        others = [outcome for outcome, _ in made if outcome != run.status]
        verdict.expect("I2", not others, f"{run.id} is {run.status}, and hooks got {others}")
        processes = [process for _, process in made]
        is_once_each = len(set(processes)) == len(processes)
        have_died = all(process in killed for process in processes[:-1])
        verdict.expect(
            "I3",
            is_once_each and have_died,
            f"{run.id}: called by {processes}, killed were {killed}",
        )
    verdict.expect("I2", not calls, f"hooks got outcomes of no run: {dict(calls)}")


def check_file(verdict: Verdict, database: Path | str) -> None:
    """I6: the file is sound. On a server, this is the server's responsibility."""
    if not isinstance(database, Path):
        return
    with closing(sqlite3.connect(database)) as connection:
        for pragma in ("integrity_check", "foreign_key_check"):
            answer = connection.execute(f"PRAGMA {pragma}").fetchall()
            verdict.expect("I6", answer in ([("ok",)], []), f"{pragma}: {answer[:5]}")


def check_all(
    verdict: Verdict,
    client: PolosClient,
    oracle: Path | None,
    until: dict[str, datetime],
    created_runs: set[str],
    created_schedules: set[str],
    phases: Mapping[str, Sequence[Phase]],
    gone: Collection[str],
) -> tuple[list[Run], dict[str, list[LedgerEntry]]]:
    """Check everything but the file; return runs and ledgers for a fault's own checks.

    :param until: the schedules whose slots are checked, and until when.
    :param phases: of the schedules whose period has changed.
    :param gone: workflows whose code no worker has any more.
    """
    found = runs.sync.list(client, limit=None)
    known = {schedule.id: schedule for schedule in schedules.sync.list(client)}
    ledgers = {id: list(history(client, id)) for id in known}
    for id, end in until.items():
        entries = ledgers[id]
        if known[id].workflow in gone and entries and entries[0].count == 0:
            # The entry of its retirement, which is not a slot. No slot follows it.
            end = min(end, entries[0].timestamp)
            entries = entries[1:]
        check_slots(verdict, known[id], entries, end, phases.get(id, ()))
    check_runs(verdict, found, known, ledgers, gone)
    if oracle is not None:
        lines = OracleReader(oracle).read()
        check_steps(verdict, lines, found)
        check_payloads(verdict, lines, found, known, ledgers, phases)
    ids = {run.id for run in found}
    for run in created_runs:
        verdict.expect("I10", run in ids, f"run {run} was acknowledged and doesn't exist")
    for schedule in created_schedules:
        verdict.expect(
            "I10", schedule in known, f"schedule {schedule} was acknowledged and doesn't exist"
        )
    return found, ledgers
