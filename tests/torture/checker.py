"""Judges what was left behind: the testimony of the steps against what the public API says."""

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
    """One testimony."""

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
    """A time in which a schedule of whole seconds is known to have one period."""

    period: timedelta
    since: datetime
    until: datetime


def periods_at(phases: Sequence[Phase], slot: datetime) -> set[timedelta]:
    """The period of the phase that contains ``slot``; between two phases, those of both."""
    within = {phase.period for phase in phases if phase.since <= slot <= phase.until}
    before = [phase for phase in phases if phase.until < slot][-1:]
    after = [phase for phase in phases if phase.since > slot][:1]
    return within or {phase.period for phase in (*before, *after)}


class Testimony:
    """A file of testimonies that is read while it grows."""

    def __init__(self, oracle: Path) -> None:
        self._oracle = oracle
        self._offset = 0
        self._place = 0

    def read(self) -> list[Line]:
        """The lines since the last call, in the order in which they were written."""
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
    """Which invariants were checked, on how much, and what violates them."""

    def __init__(self) -> None:
        self.checked: Counter[str] = Counter()
        self.violations: list[str] = []

    def expect(self, invariant: str, holds: object, text: str) -> None:
        """Count a check, and what it finds."""
        self.checked[invariant] += 1
        if not holds:
            self.violations.append(f"{invariant}: {text}")


def history(client: PolosClient, schedule: str) -> Iterator[LedgerEntry]:
    """All entries, newest first."""
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
    """I1: each slot from creation until ``until`` has exactly one fate. I2: nothing else has.

    :param phases: of a schedule whose period changed. Between two of them, an instant that both
        periods contain is a slot, and one that neither contains isn't.
    """
    assert schedule.every is not None
    phases = phases or [Phase(schedule.every, schedule.created_at - schedule.every, until)]

    def are_slots(instant: datetime) -> list[bool]:
        """For each period that may count then, whether it contains the instant."""
        periods = periods_at(phases, instant)
        return [(instant - EPOCH) % period == timedelta(0) for period in periods]

    fates: Counter[datetime] = Counter()
    for entry in entries:
        first, last = entry.timestamp, entry.until
        fitting = [
            period
            for period in periods_at(phases, first) | periods_at(phases, last)
            if last == first + period * (entry.count - 1)
        ]
        verdict.expect(
            "I1", fitting, f"{schedule.key}: {entry} doesn't say how many slots it stands for"
        )
        for number in range(entry.count if fitting else 0):
            fates[first + fitting[0] * number] += 1
        verdict.expect(
            "I2",
            any(are_slots(entry.timestamp))
            # Slots count from the request, which is some milliseconds before the row was written.
            and entry.timestamp > schedule.created_at - phases[0].period,
            f"{schedule.workflow} {schedule.key}: {entry.timestamp} is no slot of it",
        )
    step = min(phase.period for phase in phases)
    slot = schedule.created_at - (schedule.created_at - EPOCH) % step + step
    while slot < until:
        verdict.expect(
            "I1",
            fates[slot] == 1 or not all(are_slots(slot)),
            f"{schedule.workflow} {schedule.key}: slot {slot} has {fates[slot]} fates",
        )
        slot += step
    for slot, count in fates.items():
        verdict.expect("I1", count == 1, f"{schedule.workflow}: slot {slot} has {count} fates")


def check_runs(
    verdict: Verdict,
    found: list[Run],
    known: dict[str, Schedule],
    ledgers: dict[str, list[LedgerEntry]],
    gone: Collection[str],
) -> None:
    """I2: a run without a slot. I1: a slot that ran without a run. I4: a run without an end.

    What nobody has the code for may still be queued, also if the last worker that had it claimed
    the run and gave it back when it closed.
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
        verdict.expect("I1", slots[place] == 1, f"ledger: {place} ran as {id}, which isn't there")


def check_steps(verdict: Verdict, lines: list[Line], found: list[Run]) -> None:
    """I3: a step that began again although recorded. I5: two results of one step."""
    recorded: dict[tuple[str, str], str] = {}
    returned: dict[tuple[str, str], set[str]] = defaultdict(set)
    ids = {run.id for run in found}
    for line in lines:
        place = line.run, line.step
        verdict.expect("I2", line.run in ids, f"{line.run} was executed and isn't there")
        if line.kind == "before":
            verdict.expect("I3", place not in recorded, f"{place} began again at {line.time}")
        elif line.kind == "after":
            returned[place].add(line.token)
        elif line.kind == "ack":
            first = recorded.setdefault(place, line.token)
            verdict.expect("I5", first == line.token, f"{place}: {first} and {line.token}")
            verdict.expect("I3", first in returned[place], f"{place}: {first} from nowhere")
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
    """I8: handlers were given their slot, the one that ran before it, and the one that follows."""
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
        # The one that comes in fact: slots that the same decision skips or misses don't.
        told = int(line.token.split("/")[2])

        def upcoming(period: int, told: int = told, slot: int = slot, id: str = schedule.id) -> int:
            next_one = slot + period
            if told <= next_one or (told - slot) % period != 0:
                return next_one
            between = range(next_one, told, period)
            # The end of a test may come before the slot that was told; then the ledger says that
            # the slots before it are not to run.
            is_decided = newest[id] >= told or all(
                any(
                    entry.status != "ran" and micros(entry.timestamp) <= gap <= micros(entry.until)
                    for entry in ledgers[id]
                )
                for gap in between
            )
            is_next = is_decided and not any((id, gap) in ran for gap in between)
            return told if is_next else next_one

        expected = set()
        for period in periods:
            right = [slot, "-" if last is None else last, upcoming(period // MICROSECOND)]
            right += [schedule.timezone, schedule.id, schedule.key]
            expected.add("/".join(map(str, right)))
        text = f"{line.run}, entered at {line.time}: {line.token}, not {' or '.join(expected)}"
        verdict.expect("I8", line.token in expected, text)


def micros(instant: datetime | None) -> int:
    """Since the epoch."""
    assert instant is not None
    return (instant - EPOCH) // MICROSECOND


def check_file(verdict: Verdict, database: Path | str) -> None:
    """I6: the file is sound. That of a server is the server's business."""
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
    """All of it but the file; gives runs and ledgers for a fault's own questions.

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
            # Its retirement, which is no slot. None comes after it.
            end = min(end, entries[0].timestamp)
            entries = entries[1:]
        check_slots(verdict, known[id], entries, end, phases.get(id, ()))
    check_runs(verdict, found, known, ledgers, gone)
    if oracle is not None:
        lines = Testimony(oracle).read()
        check_steps(verdict, lines, found)
        check_payloads(verdict, lines, found, known, ledgers, phases)
    ids = {run.id for run in found}
    for run in created_runs:
        verdict.expect("I10", run in ids, f"run {run} was acknowledged and isn't there")
    for schedule in created_schedules:
        verdict.expect("I10", schedule in known, f"schedule {schedule} was acknowledged")
    return found, ledgers
