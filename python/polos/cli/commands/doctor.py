"""``polos doctor``: check everything that can be wrong, and say how to fix it."""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import typer

import polos
from polos import _polos, calendars, limits, runs, schedules, workers
from polos._display.limits import described_values, override_text
from polos._overview import stuck_parents
from polos._validate.limits import described
from polos.cli.ui.console import out, out_json, plain, styled, width
from polos.cli.ui.interrupts import at_once
from polos.cli.ui.options import Database, Json, Project, missing
from polos.cli.ui.times import now, took, until, when
from polos.cli.ui.words import called, counted, host_of
from polos.client import PolosClient
from polos.exceptions import (
    StoreCorruptError,
    StoreError,
    StoreUnavailableError,
    StoreVersionError,
)
from polos.models import LimitInfo, Overview, Run, WorkerInfo

__all__ = ["doctor"]

# A worker that holds runs sends a heartbeat every few seconds; three missed ones are suspicious.
_SILENT = timedelta(seconds=20)

# A run that is queued for longer waits for something other than a worker.
_LONG_QUEUED = timedelta(minutes=1)

# Beyond this, slots are noticeably early or late.
_SKEW = timedelta(seconds=1)

# How long retirements stay in the report.
_LATELY_RETIRED = timedelta(days=7)

_ROOM = 200 * 1024 * 1024
_SAMPLE = 200

# A call whose worker has died waits until another worker has expired it: for a few minutes if the
# dead one was idle.
_HOOKS_WAIT = timedelta(minutes=5)

# How the core begins the note of a schedule whose calendar does not exist.
_NO_CALENDAR = "there is no calendar"

_MARKS = {"ok": ("ok  ", "green"), "warning": ("warn", "yellow"), "problem": ("bad ", "red")}


@dataclass(frozen=True)
class Finding:
    """The result of one check."""

    about: str
    text: str
    advice: str | None = None
    level: str = "ok"
    """`ok`, `warning` (a risk, or a problem of some users), or `problem`."""


def warning(about: str, text: str, advice: str) -> Finding:
    """Return a finding that needs attention."""
    return Finding(about, text, advice, "warning")


def problem(about: str, text: str, advice: str) -> Finding:
    """Return a finding that prevents work from being done."""
    return Finding(about, text, advice, "problem")


def doctor(as_json: Json = False, database: Database = None, project: Project = "default") -> None:
    """Diagnose problems and say how to fix them.

    Checks versions, time zones, the database, workers, clocks, and stuck work. Changes
    nothing. Exit code 1 if there is a problem, 0 if there are warnings at most.
    """
    found = []
    client = PolosClient(database, project_id=project)
    for finding in _findings(client, was_named=database is not None):
        found.append(finding)
        if not as_json:
            _print(finding)
    worst = [finding for finding in found if finding.level == "problem"]
    if as_json:
        out_json(
            {
                "healthy": not worst,
                "checks": [
                    {"about": f.about, "level": f.level, "text": f.text, "advice": f.advice}
                    for f in found
                ],
            }
        )
    if worst:
        raise typer.Exit(1)


def _print(finding: Finding) -> None:
    mark, style = _MARKS[finding.level]
    first, *more = _wrapped(plain(finding.text), 18)
    out(f"{styled(mark, style)}  {finding.about:<10}  {first}")
    for line in more:
        out(f"{'':18}{line}")
    if finding.advice:
        first, *more = _wrapped(plain(finding.advice), 21)
        out(f"{'':18}{styled('->', 'dim')} {first}")
        for line in more:
            out(f"{'':21}{line}")


def _wrapped(text: str, indent: int) -> list[str]:
    """Wrap text to the terminal's width; in a pipe, return one line."""
    room = width()
    if room is None:
        return [text]
    import textwrap

    return textwrap.wrap(text, max(20, room - indent), break_on_hyphens=False) or [""]


def _findings(client: PolosClient, *, was_named: bool) -> Iterator[Finding]:
    yield Finding(
        "version",
        f"polos {polos.__version__}, Python {platform.python_version()}, {platform.system()} "
        f"{platform.machine()}",
    )
    yield _zones()
    absent = missing(client, was_named=was_named)
    if absent is not None:
        what, _, _ = absent.partition("; a worker")
        yield problem("database", what, "start a worker, which creates it: polos run app.py")
        return
    client._options["must_exist"] = True
    with at_once(), client:
        try:
            begun = time.perf_counter()
            client._opened()
            opening = time.perf_counter() - begun
            begun = time.perf_counter()
            view = polos.overview.sync(client)
            latency = timedelta(seconds=time.perf_counter() - begun)
            yield from _store(client, timedelta(seconds=opening), latency)
            yield from _clock(client)
            known = workers.sync.list(client)
            alive = [worker for worker in known if not worker.is_gone]
            remarkable = runs.sync._remarkable(client, _SAMPLE)
            yield from _gone(known, remarkable)
            yield from _workers(alive, view)
            yield from _interrupting(remarkable)
            yield from _held(remarkable)
            yield from _stuck(client, view, alive)
        except StoreError as error:
            yield problem("database", " ".join(str(error).split()), _remedy(error, client))


def _remedy(error: StoreError, client: PolosClient) -> str:
    path = client._location.path
    if isinstance(error, StoreVersionError):
        return "upgrade this installation: pip install -U polos"
    if path is None:
        return (
            "see the message; workers that have already started retry until the "
            "database works, and log that once"
        )
    if isinstance(error, StoreCorruptError):
        return (
            "do not change the file; copy it with its -wal and -shm files, and restore "
            f"a backup; `sqlite3 {shlex.quote(path)} .recover` may recover the rest"
        )
    if isinstance(error, StoreUnavailableError):
        return f"it may be temporary; see which process uses the file (`fuser {shlex.quote(path)}`)"
    return "check the path, its permissions, and the disk"


# --- versions --------------------------------------------------------------------------------


def _zones() -> Finding:
    version = _polos.tzdb_version()
    text = f"tables of release {version}"
    year = int(version[:4]) if version[:4].isdigit() else None
    if year is None:
        return Finding("time zones", f"tables {version or 'of unknown release'}")
    if year <= now().year - 2:
        return warning(
            "time zones",
            f"{text}, over a year old; countries have changed their rules since",
            "pip install -U tzdata, or the system's package tzdata; then restart the workers",
        )
    return Finding("time zones", text)


# --- the store -------------------------------------------------------------------------------


def _store(client: PolosClient, opening: timedelta, latency: timedelta) -> Iterator[Finding]:
    speed = f"opened in {took(opening)}, answers in {took(latency)}"
    path = client._location.path
    if path is None:
        yield Finding("database", f"{client.database}, {speed}")
        return
    size = sum(os.path.getsize(path + end) for end in ("", "-wal") if os.path.exists(path + end))
    yield Finding("database", f"{path}, {_bytes(size)}, writable, {speed}")
    free = shutil.disk_usage(os.path.dirname(path)).free
    if free < _ROOM:
        yield warning(
            "disk",
            f"{_bytes(free)} left on the database's disk",
            "free some space: when the disk is full, polos can record nothing and start nothing",
        )


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1_000:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 10 else f"{count:.1f} {unit}"
        count /= 1_000
    return f"{count:.1f} TB"


def _clock(client: PolosClient) -> Iterator[Finding]:
    from polos._core.instants import from_micros

    skew = from_micros(client._now()) - now()
    if abs(skew) <= _SKEW:
        yield Finding("clock", f"{when(now())}, same as the database's")
        return
    which = "behind" if skew > timedelta(0) else "ahead of"
    yield warning(
        "clock",
        f"this machine is {took(abs(skew))} {which} the database's clock, by which slots are due",
        "check that both synchronize their clocks with NTP (`timedatectl`)",
    )


# --- workers ---------------------------------------------------------------------------------


def _gone(known: list[WorkerInfo], remarkable: list[Run]) -> Iterator[Finding]:
    suspects = {run.worker for run in remarkable if run.interruptions}
    for worker in known:
        if worker.is_gone:
            held = f" and left {counted(worker.held, 'run')} unfinished" if worker.held else ""
            yield warning(
                "worker",
                f"{_worker(worker)} has died without deregistering{held}",
                "a run that it executed has interrupted workers before; see below"
                if worker.id in suspects
                else "its runs continue when a worker that has their workflows starts; the "
                "system's log may say what ended it (out of memory, kill -9)",
            )


def _interrupting(remarkable: list[Run]) -> Iterator[Finding]:
    """Find runs whose workers died more than once."""
    often = sorted(
        (run for run in remarkable if run.interruptions > 1), key=lambda run: -run.interruptions
    )
    if not often:
        return
    worst = often[0]
    more = f", and {len(often) - 1} more runs were interrupted repeatedly" if often[1:] else ""
    yield warning(
        "runs",
        f"{worst.id} of {called(worst.workflow, worst.key)} was interrupted "
        f"{worst.interruptions} times in a row: its worker disappeared{more}",
        "it may be what kills the workers (out of memory, a crash in native code, os._exit), and "
        "another worker would not help; see the system's log. It fails after its workflow's "
        f"max_interruptions; to cancel it now: polos runs cancel {worst.id}",
    )


def _held(remarkable: list[Run]) -> Iterator[Finding]:
    """Find runs that wait for a worker with other code."""
    held = [run for run in remarkable if run.note is not None]
    if not held:
        return
    more = f", and {len(held) - 1} more" if held[1:] else ""
    yield warning(
        "runs",
        f"{held[0].id} of {called(held[0].workflow, held[0].key)} is {held[0].note}{more}",
        "start a worker with the code that they started with, or with code that runs the same "
        f"steps (`ctx.patched` supports both); to cancel one: polos runs cancel {held[0].id}",
    )


def _workers(alive: list[WorkerInfo], view: Overview) -> Iterator[Finding]:
    active = view.schedules.get("active", 0)
    if not alive:
        left = sum(view.runs.values())
        if active or left:
            yield problem(
                "workers",
                f"none; {_some(active, view)} active {_plural('schedule', active)} and "
                f"{_some(left, view)} unfinished {_plural('run', left)} wait for one",
                "start one: polos run app.py",
            )
        else:
            yield Finding("workers", "none")
        return
    silent = [worker for worker in alive if worker._silent_for(view.now, alive, _SILENT)]
    held = sum(worker.held for worker in alive)
    text = f"{counted(len(alive), 'worker')}, with {counted(held, 'run')} in progress"
    yield Finding("workers", text)
    for worker in silent[:10]:
        yield warning(
            "worker",
            f"{_worker(worker)} was last seen {until(worker.seen_at, view.now)}",
            "it is stopped, stuck, or gone; its runs continue elsewhere when its lease has run "
            "out. "
            "Check whether the process is alive",
        )
    for worker in alive:
        ahead = worker.seen_at - view.now
        if ahead > _SKEW:
            yield warning(
                "worker",
                f"the clock of {_worker(worker)} is {took(ahead)} ahead",
                "check that its machine synchronizes its clock with NTP (`timedatectl`)",
            )
    yield from _differences(alive)


def _worker(worker: WorkerInfo) -> str:
    return f"{worker.app} (pid {worker.pid} on {host_of(worker)})"


def _differences(alive: list[WorkerInfo]) -> Iterator[Finding]:
    for name, what in (("polos", "polos"), ("tzdata", "the time-zone tables")):
        versions = {str(worker.about[name]) for worker in alive if worker.about.get(name)}
        if len(versions) > 1:
            listed = ", ".join(sorted(versions))
            yield warning(
                "workers",
                f"they have different releases of {what}: {listed}",
                "use one release on all: near clock changes they may disagree about slots"
                if name == "tzdata"
                else "fine during a rollout; afterward, restart the older ones",
            )


# --- what is stuck ---------------------------------------------------------------------------


def _stuck(client: PolosClient, view: Overview, alive: list[WorkerInfo]) -> Iterator[Finding]:
    served = {workflow for worker in alive for workflow in worker.workflows}
    known = limits.sync.list(client)
    yield from _limits(known, view)
    limited = {workflow for limit in known for workflow in limit.workflows if limit.queued}
    trouble = [
        *_overdue(client, view),
        *_unserved(client, view, alive),
        *_queued(client, view, served, limited),
        *_abandoned(client, view, alive),
        *_stuck_parents(client, view),
        *_broken(client, view),
    ]
    yield from trouble
    yield from _hook_calls(view, served)
    yield from _retired(client, view)
    yield from _calendars(client, view)
    if not trouble:
        late = f"{_some(view.overdue, view)} overdue" if view.overdue else "none is overdue"
        yield Finding("schedules", f"{_totals(view.schedules, view)}; {late}, none is broken")
        yield Finding("runs", f"{_totals(view.runs, view)}; none is stuck")


def _totals(counts: Mapping[str, int], view: Overview) -> str:
    return ", ".join(f"{_some(n, view)} {status}" for status, n in counts.items() if n) or "none"


def _plural(noun: str, count: int) -> str:
    return noun if count == 1 else f"{noun}s"


def _some(count: int, view: Overview) -> str:
    return f"at least {count:,}" if count >= view.counted_to else f"{count:,}"


def _hook_calls(view: Overview, served: set[str]) -> Iterator[Finding]:
    """Find hook calls that have waited for a worker for long."""
    since = view.oldest_hook_call
    if since is None or view.now - since < _HOOKS_WAIT:
        return
    count = sum(view.hook_calls.values())
    unserved = [name for name in view.hook_calls if name not in served]
    others = [name for name in view.hook_calls if name in served]
    remedies = []
    if unserved:
        remedies.append(
            f"no live worker has registered {_listed(unserved)}: start the application that "
            f"defines {'it' if len(unserved) == 1 else 'them'}"
        )
    if others:
        remedies.append(
            f"no live worker of {_listed(others)} has such a hook, or its database is slow: start "
            f"one with the code that has the hook; its log says what hooks raise"
        )
    yield problem(
        "hooks",
        f"{count:,} hook {_plural('call', count)} {'waits' if count == 1 else 'wait'}, the oldest "
        f"since {until(since, view.now)}",
        "; ".join(remedies) + ". Calls that nobody makes are deleted with old runs (`retention`)",
    )


def _overdue(client: PolosClient, view: Overview) -> Iterator[Finding]:
    if not view.overdue or view.oldest_due is None:
        return
    due = schedules.sync.coming(client, until=view.now, limit=_SAMPLE)
    waiting = [s for s in due if s.worker_available]
    if not waiting:
        return  # reported as unserved
    yield problem(
        "slots",
        f"{_some(view.overdue, view)} overdue, the oldest since {until(view.oldest_due, view.now)} "
        f"({called(waiting[0].workflow, waiting[0].key)})",
        "its worker is stopped, overloaded, or cannot reach the database; see its log",
    )


def _unserved(client: PolosClient, view: Overview, alive: list[WorkerInfo]) -> Iterator[Finding]:
    """Find workflows that are due soon and that no live worker has registered."""
    if not alive:
        return  # reported as a lack of workers
    soon = schedules.sync.coming(client, until=view.now + timedelta(days=1), limit=_SAMPLE)
    names = _unique(s.workflow for s in soon if not s.worker_available)
    if names:
        yield problem(
            "workflows",
            f"no live worker has registered {_listed(names)}, whose schedules are active",
            "start the application that defines them, or pause or delete their schedules: "
            f"polos schedules list -w {names[0]}",
        )


def _limits(known: list[LimitInfo], view: Overview) -> Iterator[Finding]:
    """Find limits that hold runs back, that an operator has set, and that programs declare with
    different values.
    """
    for limit in known:
        if limit.declared_differently:
            others = _listed(list(limit.declared_differently))
            yield warning(
                "limit",
                f"`{limit.name}`: live workers of {others} declare other values than "
                f"{described(limit.declared.items())}, which count",
                "declare the same values in all programs; during a deploy, wait until the workers "
                "with older code are gone",
            )
        text = f"`{limit.name}` ({described_values(limit)}"
        text += f"; {override_text(limit)})" if limit.overridden else ")"
        waits = None if limit.queued_since is None else view.now - limit.queued_since
        if waits is not None and waits > _LONG_QUEUED:
            yield warning(
                "limit",
                f"{text} holds back {counted(limit.queued, 'run')}, the first since "
                f"{until(limit.queued_since or view.now, view.now)}; "
                f"{counted(limit.running, 'run')} in progress",
                f"raise it with `polos limits set {limit.name} N`, or wait"
                + (
                    f"; `polos limits reset {limit.name}` ends the override"
                    if limit.overridden
                    else ""
                ),
            )
        elif limit.overridden:
            advice = None
            if not limit.declared_by:
                advice = (
                    f"no live worker declares it: delete it with `polos limits delete "
                    f"{limit.name}` if the code has it no more"
                )
            declared = described(limit.declared.items())
            yield Finding("limit", f"{text}, declared: {declared}", advice)


def _queued(
    client: PolosClient, view: Overview, served: set[str], limited: set[str]
) -> Iterator[Finding]:
    if not view.runs.get("queued"):
        return
    queued = runs.sync.list(client, status="queued", limit=_SAMPLE)
    late = [run for run in queued if view.now - _due(run) > _LONG_QUEUED]
    orphans = _unique(run.workflow for run in queued if run.workflow not in served)
    if orphans and served:
        yield problem(
            "runs",
            f"runs of {_listed(orphans)} are queued, and no live worker has registered that "
            "workflow",
            "start the application that defines it, or cancel them: "
            f"polos runs list -s queued -w {orphans[0]}",
        )
    waiting = [run for run in late if run.workflow in served - limited]
    if waiting:
        oldest = min(waiting, key=_due)
        yield warning(
            "runs",
            f"{_some(view.runs['queued'], view)} queued, {oldest.id} since "
            f"{until(_due(oldest), view.now)}",
            "they wait for an earlier run of their schedule (overlap) or for a permit; add workers "
            "or raise --concurrency",
        )


def _due(run: Run) -> datetime:
    return max(run.created_at, run.timestamp or run.created_at, run.due_at or run.created_at)


def _abandoned(client: PolosClient, view: Overview, alive: list[WorkerInfo]) -> Iterator[Finding]:
    if not view.runs.get("running"):
        return
    known = {worker.id for worker in alive}
    held = runs.sync.list(client, status="running", limit=_SAMPLE)
    lost = [run for run in held if run.worker is not None and run.worker not in known]
    if lost:
        yield warning(
            "runs",
            f"{lost[0].id} of {lost[0].workflow} is held by the worker {lost[0].worker}, which is "
            f"gone{f', and {len(lost) - 1} more' if len(lost) > 1 else ''}",
            "it continues when a worker that has this workflow starts: polos run app.py",
        )


def _stuck_parents(client: PolosClient, view: Overview) -> Iterator[Finding]:
    if not view.runs.get("waiting"):
        return
    stuck = stuck_parents(client)
    if stuck:
        more = f" and {len(stuck) - 1:,} more" if len(stuck) > 1 else ""
        yield problem(
            "runs",
            f"{stuck[0]}{more} waiting for a child run that has finished; nothing resumed them",
            "a worker of this release resumes them when it starts and every ten minutes; start one "
            "and upgrade older workers",
        )


def _broken(client: PolosClient, view: Overview) -> Iterator[Finding]:
    count = view.schedules.get("broken", 0)
    if not count:
        return
    some = schedules.sync.list(client, status="broken", limit=3)
    notes = "; ".join(
        f"{called(s.workflow, s.key)}: {s.note or 'no reason recorded'}" for s in some
    )
    if all(s.note and s.note.startswith(_NO_CALENDAR) for s in some):
        advice = "create the calendar: polos calendars set NAME FILE"
    else:
        advice = (
            "create them again with valid values (polos schedules create), or delete them: "
            "polos schedules delete --status broken"
        )
    yield problem("schedules", f"{_some(count, view)} broken and not firing: {notes}", advice)


def _calendars(client: PolosClient, view: Overview) -> Iterator[Finding]:
    """Find calendars that nobody has continued: schedules that name them run on holidays."""
    today = view.now.date()
    ended = [
        f"`{calendar.name}` ({calendar.dates[-1].isoformat()})"
        for calendar in calendars.sync.list(client)
        if calendar.dates and calendar.dates[-1] < today
    ]
    if ended:
        more = f" and {len(ended) - 3} more" if len(ended) > 3 else ""
        yield warning(
            "calendars",
            f"the last date has passed of {', '.join(ended[:3])}{more}",
            "set the dates of the coming years: polos calendars set NAME FILE",
        )


def _retired(client: PolosClient, view: Overview) -> Iterator[Finding]:
    """Find recently retired schedules; two programs may share a name by mistake."""
    if not view.schedules.get("retired"):
        return
    found = schedules.sync.list(client, status="retired", limit=_SAMPLE)
    lately = [s for s in found if view.now - s.updated_at < _LATELY_RETIRED]
    if not lately:
        return
    lately.sort(key=lambda s: s.updated_at, reverse=True)
    names = "; ".join(
        f"{called(s.workflow, s.key)} ({s.note or 'no reason recorded'}, "
        f"{until(s.updated_at, view.now)})"
        for s in lately[:3]
    )
    more = f"; and {len(lately) - 3} more" if len(lately) > 3 else ""
    yield warning(
        "schedules",
        f"{len(lately)} retired in the last 7 days: {names}{more}",
        "expected if the code was changed. A retired schedule comes back, with its pause "
        "and note, when code that declares it starts. If programs retire each other's, give "
        "each a name: Worker(app=...), or polos run --app",
    )


def _unique(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _listed(names: list[str]) -> str:
    text = ", ".join(f"`{name}`" for name in names[:3])
    return f"{text} and {len(names) - 3} more" if len(names) > 3 else text
