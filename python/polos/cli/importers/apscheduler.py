"""Read the job stores of APScheduler 3 and 4, without importing APScheduler or the jobs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from polos.cli.importers.apscheduler_triggers import Unsupported, converted, described
from polos.cli.importers.model import LONGEST_WINDOW, Entry, Function, Imported, Refusal, check
from polos.cli.importers.plain_pickle import Plain, load
from polos.cli.importers.printer import literal
from polos.cli.importers.stored import Stored
from polos.exceptions import PolosError

__all__ = ["JOBS", "read_apscheduler"]

JOBS = "apscheduler_jobs"
"""The default table of version 3."""

_ALL = [
    "weekdays: APScheduler 3 counts Monday as 0, also in `from_crontab`; polos, cron, and "
    "APScheduler 4 count Sunday as 0; the numbers are converted",
    "misfires: options keep the behavior of `misfire_grace_time` and `coalesce`; a grace time "
    'under a minute becomes `catch_up="none"`: a time at which no worker runs is lost, but a '
    "busy worker starts its runs however late",
    "arguments are stored as JSON, not as pickles",
    "crashes: a run whose worker dies starts again on another one, up to 5 times "
    "(`max_interruptions`)",
]
_DOCUMENTED = "read the stored jobs with the version that wrote them, or add the schedule by hand"


def read_apscheduler(stored: Stored, table: str) -> Imported:
    """Convert the jobs of version 3 (``table``) and the schedules of version 4."""
    found = Imported("apscheduler", stored.name.strip("`"), differences=list(_ALL))
    if {"schedules", "tasks"} <= stored.tables:
        tasks = {str(row["id"]): row for row in stored.rows("tasks")}
        for row in sorted(stored.rows("schedules"), key=lambda row: str(row["id"])):
            found.entries += _entries(str(row.get("id")), _job_of_4(row, tasks))
    if table in stored.tables or not found.entries:
        if not {"schedules", "tasks"} <= stored.tables:
            stored.need(table, "APScheduler (pass `--table` if it has another name)")
        if table in stored.tables:
            for row in sorted(stored.rows(table), key=lambda row: str(row["id"])):
                found.entries += _entries(str(row.get("id")), _job_of_3(row))
    return found


# A job, whichever version stored it: func, args, kwargs, trigger, grace, coalesce, instances,
# jitter, paused, is_finished. Read when it is asked for, so that a damaged one is one refusal.
_Job = Iterator[dict[str, Any]]


def _job_of_3(row: dict[str, Any]) -> _Job:
    state = load(bytes(row["job_state"]))
    if not isinstance(state, dict) or "trigger" not in state:
        raise ValueError("its pickle holds no job of APScheduler 3")
    if state.get("version", 1) > 1:
        raise ValueError(f"a newer APScheduler wrote it (job version {state['version']})")
    grace = state.get("misfire_grace_time")
    yield {
        "func": state.get("func"),
        "args": tuple(state.get("args") or ()),
        "kwargs": dict(state.get("kwargs") or {}),
        "trigger": state["trigger"],
        "grace": None if grace is None else timedelta(seconds=grace),
        "coalesce": "latest" if state.get("coalesce") else "all",
        "instances": state.get("max_instances") or 1,
        "jitter": None,
        "paused": row.get("next_run_time") is None,
        "version": 3,
    }


def _job_of_4(row: dict[str, Any], tasks: dict[str, dict[str, Any]]) -> _Job:
    task = tasks.get(str(row["task_id"]), {})
    trigger = _deserialized(row["trigger"])
    instances = task.get("max_running_jobs")
    yield {
        "func": task.get("func"),
        "args": tuple(_deserialized(row["args"]) or ()),
        "kwargs": dict(_deserialized(row["kwargs"]) or {}),
        "trigger": trigger,
        "grace": _interval(row.get("misfire_grace_time")),
        "coalesce": str(row.get("coalesce")),
        "instances": instances,
        "jitter": _interval(row.get("max_jitter")),
        "paused": bool(row.get("paused")),
        "version": 4,
    }


def _deserialized(data: Any) -> Any:
    content = b"" if data is None else bytes(data)
    if not content:
        return None
    if content[:1] == b"\x80":
        return load(content)
    try:
        json.loads(content)
    except ValueError:
        raise ValueError("it is stored in a form other than a pickle (CBOR?)") from None
    raise ValueError("it is stored as JSON; only the default, pickles, is read")


def _interval(value: Any) -> timedelta | None:
    """Return a duration; SQLite has microseconds."""
    if value is None or isinstance(value, timedelta):
        return value
    return timedelta(microseconds=int(value))


# --- one job ---------------------------------------------------------------------------------


def _entries(name: str, job: _Job) -> list[Entry | Refusal]:
    """Return the schedules of a job: several for an `OrTrigger`, or a refusal."""
    source = "its trigger could not be read"
    try:
        values = next(job)
        source = described(values["trigger"])
        triggers = converted(values["trigger"], values["version"])
        options, differences = _policies(values)
        function = _function(values)
        found: list[Entry | Refusal] = []
        for number, trigger in enumerate(triggers, 1):
            key = name if len(triggers) == 1 else f"{name}-{number}"
            combined = {**trigger.options, **options}
            jitter = trigger.jitter or values["jitter"]
            if jitter:
                combined["jitter"] = jitter
            if isinstance(function, str):
                schedule = ", ".join(f"{literal(k)}: {literal(v)}" for k, v in combined.items())
                return [
                    Refusal(name, source, function,
                            f"move it to a module and decorate it: @workflow(schedule="
                            f"{{{schedule}}})")
                ]  # fmt: skip
            check({**combined, "key": key})
            notes = [*trigger.differences, *differences]
            if len(triggers) > 1:
                notes.append("`OrTrigger`: one schedule for each; equal times fire once for each")
            workflow = f"{function.module}.{function.name}"
            found.append(Entry(key, source, function, workflow, combined, notes, values["paused"]))
        return found
    except (Unsupported, PolosError) as error:
        remedy = error.remedy if isinstance(error, Unsupported) else "see the message"
        return [Refusal(name, source, str(error), remedy)]
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        return [Refusal(name, source, str(error) or type(error).__name__, _DOCUMENTED)]


def _function(job: dict[str, Any]) -> Function | str:
    """Return what the job calls, or why that cannot be printed."""
    module, _, name = str(job["func"] or "").partition(":")
    if not module or not name or not all(map(str.isidentifier, f"{module}.{name}".split("."))):
        return "its function has no name that can be imported"
    if module == "__main__":
        return f"its function `{name}` is in the program that was started, which can't be imported"
    target = Function(module, name, job["args"], job["kwargs"])
    for value in (*target.args, *target.kwargs.values()):
        try:
            literal(value)
        except TypeError as error:
            kind = value.class_name if isinstance(value, Plain) else error
            raise Unsupported(
                f"an argument is {kind}, which can't be written as Python",
                "pass an id or other plain data, and look the object up in the function",
            ) from None
    return target


def _policies(job: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the options for overlap and catch-up, and what differs."""
    options: dict[str, Any] = {}
    differences: list[str] = []
    instances, grace, coalesce = job["instances"], job["grace"], job["coalesce"]
    if instances == 1:
        options["overlap"] = "skip"
    else:
        options["overlap"] = "allow"
        if instances is not None:
            differences.append(
                f"max_instances={instances}: `overlap` allows any number; for a limit, pass "
                f"`concurrency={instances}` to the workflow, whose runs then wait instead"
            )
    if grace is not None and grace < timedelta(minutes=1):
        options["catch_up"] = "none"
        differences.append(f"misfire_grace_time={grace.total_seconds():g} s: a late time is lost")
    else:
        options["catch_up"] = "all" if coalesce == "all" else "latest"
        options["catch_up_window"] = min(grace or LONGEST_WINDOW, LONGEST_WINDOW)
        if coalesce == "all":
            differences.append("coalesce: of the late times the newest 100 run (`max_catch_up`)")
        elif coalesce == "earliest":
            differences.append("coalesce=earliest: the newest of the late times runs instead")
    return options, differences
