"""Every request to the core. Only this module names the core's operations and their fields.

Instants and durations are whole microseconds. An answer is what the core's JSON contains.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pydantic_core import to_json

from polos._codec.codec import parsed

if TYPE_CHECKING:
    from polos._core.request_types import (
        BackoffSetup,
        CoreOptions,
        Draft,
        Drafts,
        InputChange,
        InTransaction,
        Invocation,
        MonitorSetup,
        WorkerSetup,
        WorkflowSetup,
    )

__all__ = [
    "Answer",
    "BackoffSetup",
    "CoreOptions",
    "Draft",
    "Drafts",
    "InTransaction",
    "InputChange",
    "Invocation",
    "MonitorSetup",
    "Request",
    "WorkerSetup",
    "WorkflowSetup",
]

A = TypeVar("A")

Answer = dict[str, Any]
"""A schedule, a run, or another record, as the core describes it."""


class Request(Generic[A]):
    """One request. ``op`` is its operation and ``text`` its JSON.

    ``is_repeatable`` says whether it is safe to send the request again when the outcome of the
    first try is unknown: reads, and idempotent changes.
    """

    __slots__ = ("is_repeatable", "op", "text")

    def __init__(self, op: str, text: str, is_repeatable: bool) -> None:
        self.op = op
        self.text = text
        self.is_repeatable = is_repeatable

    def answer_from(self, text: str | None) -> A:
        """Return the answer that the core gave as JSON."""
        answer: A = parsed(text or "null")
        return answer


# Not pydantic's `to_json`: its first call imports modules, which fails, without an exception that
# could be handled, where no file can be opened.
_encode = json.JSONEncoder().encode


def _read(op: str, **fields: Any) -> Request[Any]:
    return Request(op, _encode({op: fields}), True)


# A change that has the same effect when it is repeated.
_idempotent = _read


def _change(op: str, **fields: Any) -> Request[Any]:
    return Request(op, _encode({op: fields}), False)


# --- schedules -------------------------------------------------------------------------------


def create(drafts: Drafts, local_workflows: Sequence[str]) -> Request[list[str]]:
    """Create or update schedules. The answer has their ids, in order."""
    fields = {"create": {"drafts": drafts, "local_workflows": local_workflows}}
    return Request("create", to_json(fields).decode(), True)


def put(drafts: Drafts, local_workflows: Sequence[str]) -> Request[list[Answer]]:
    """Create or update schedules. The answer has the id of each and what was done, in order.

    A repetition would find its own work done.
    """
    fields = {"put": {"drafts": drafts, "local_workflows": local_workflows}}
    return Request("put", to_json(fields).decode(), False)


def get_schedule(id: str) -> Request[Answer]:
    """Read one schedule."""
    return _read("get_schedule", id=id)


def list_schedules(
    *,
    workflow: str | None,
    key: str | None,
    status: str | None,
    owner: str | None,
    key_prefix: str | None,
    tags: Mapping[str, str],
    limit: int,
    after: str | None,
    after_key: tuple[str, str] | None,
) -> Request[list[Answer]]:
    """Read a page of schedules."""
    return _read(
        "list_schedules",
        workflow=workflow,
        key=key,
        status=status,
        owner=owner,
        key_prefix=key_prefix,
        tags=tags,
        limit=limit,
        after=after,
        after_key=after_key,
    )


def coming(until: int, limit: int) -> Request[list[Answer]]:
    """Read active schedules by their next slot."""
    return _read("coming", until=until, limit=limit)


def history(id: str, limit: int, after: int | None) -> Request[list[Answer]]:
    """Read the outcomes of a schedule's slots, newest first."""
    return _read("history", id=id, limit=limit, after=after)


def upcoming(id: str, count: int) -> Request[Answer]:
    """Compute the next slots of a schedule."""
    return _read("upcoming", id=id, count=count)


def update(
    id: str,
    changes: Mapping[str, Any],
    input: InputChange | None,
    tags: Mapping[str, str] | None,
) -> Request[Answer]:
    """Change a schedule. Without ``input`` or ``tags``, it keeps those that it has."""
    return _change("update", id=id, changes=changes, input=input, tags=tags)


def reset(id: str) -> Request[Answer]:
    """Restore what the code declares."""
    return _change("reset", id=id)


def pause(id: str, note: str | None) -> Request[Answer]:
    """Pause a schedule."""
    return _change("pause", id=id, note=note)


def resume(id: str, catch_up: str | None) -> Request[Answer]:
    """Resume a schedule; with ``catch_up``, decide by it about the slots that are due."""
    return _change("resume", id=id, catch_up=catch_up)


def skip(id: str, count: int, at: int | None) -> Request[Answer]:
    """Skip a schedule's next ``count`` slots, or the one at ``at``."""
    return _change("skip", id=id, count=count, at=at)


def unskip(id: str, at: int | None) -> Request[Answer]:
    """Undo the skip of the slot at ``at``, or of all coming slots."""
    return _change("unskip", id=id, at=at)


def delete(id: str) -> Request[None]:
    """Delete a schedule."""
    return _change("delete", id=id)


def trigger(id: str, *, applies_overlap: bool, input: InputChange | None) -> Request[Answer]:
    """Start a run of a schedule now. Without ``input``, it gets the schedule's."""
    return _change("trigger", id=id, applies_overlap=applies_overlap, input=input)


def backfill(
    id: str, start: int, end: int, *, dry_run: bool, limit: int | None, concurrency: int | None
) -> Request[Answer]:
    """Run the slots of a range that have no run yet, the first ``limit`` of them."""
    return _idempotent(
        "backfill",
        id=id,
        start=start,
        end=end,
        dry_run=dry_run,
        limit=limit,
        concurrency=concurrency,
    )


def get_backfill(id: str) -> Request[Answer]:
    """Count the runs of a backfill."""
    return _read("get_backfill", id=id)


def list_backfills() -> Request[list[Answer]]:
    """Read the backfills whose runs are stored."""
    return _read("list_backfills")


def cancel_backfill(id: str) -> Request[Answer]:
    """Cancel the unfinished runs of a backfill, and count its runs."""
    return _idempotent("cancel_backfill", id=id)


# --- runs ------------------------------------------------------------------------------------


def invoke(
    workflow: str,
    payload: Any,
    *,
    idempotency_key: str | None,
    parent: str | None,
    is_local: bool,
    local_workflows: Sequence[str],
    start: Mapping[str, Any] | None = None,
) -> Request[Answer]:
    """Start a run. A handler's request has an idempotency key, so that it can be repeated."""
    return _idempotent(
        "invoke",
        workflow=workflow,
        payload=payload,
        idempotency_key=idempotency_key,
        parent=parent,
        is_local=is_local,
        local_workflows=local_workflows,
        **({} if start is None else {"start": start}),
    )


def invoke_many(
    workflow: str,
    runs: Sequence[Invocation],
    *,
    is_local: bool,
    local_workflows: Sequence[str],
) -> Request[list[str]]:
    """Start several runs in one transaction. The answer has their ids, in order."""
    return _idempotent(
        "invoke_many",
        workflow=workflow,
        runs=runs,
        is_local=is_local,
        local_workflows=local_workflows,
    )


def invoke_in(
    workflow: str,
    payload: Any,
    *,
    idempotency_key: str | None,
    is_local: bool,
    local_workflows: Sequence[str],
    start: Mapping[str, Any] | None,
) -> Request[InTransaction]:
    """Ask for what a transaction of the application executes to start a run."""
    return _read(
        "invoke_in",
        workflow=workflow,
        payload=payload,
        idempotency_key=idempotency_key,
        is_local=is_local,
        local_workflows=local_workflows,
        **({} if start is None else {"start": start}),
    )


def create_in(drafts: Drafts, local_workflows: Sequence[str]) -> Request[InTransaction]:
    """Ask for what a transaction of the application executes to create one schedule."""
    fields = {"create_in": {"drafts": drafts, "local_workflows": local_workflows}}
    return Request("create_in", to_json(fields).decode(), True)


def get_run(id: str) -> Request[Answer]:
    """Read one run with its steps."""
    return _read("get_run", id=id)


def list_runs(
    *,
    workflow: str | None,
    key: str | None,
    schedule: str | None,
    states: Sequence[str],
    since: int | None,
    error: str | None,
    limit: int,
    after: str | None,
    brief: bool,
) -> Request[list[Answer]]:
    """Read a page of runs, newest first."""
    return _read(
        "list_runs",
        workflow=workflow,
        key=key,
        schedule=schedule,
        states=states,
        since=since,
        error=error,
        limit=limit,
        after=after,
        **({"brief": True} if brief else {}),
    )


def remarkable_runs(limit: int) -> Request[list[Answer]]:
    """Read unfinished runs that interrupted their workers, or that wait with a note."""
    return _read("remarkable_runs", limit=limit)


def cancel_run(id: str) -> Request[Any]:
    """Cancel a run. The answer is its status."""
    return _idempotent("cancel_run", id=id)


def retry_run(id: str) -> Request[Any]:
    """Retry a failed or cancelled run. The answer is its status."""
    return _change("retry_run", id=id)


def await_run(id: str) -> Request[Answer]:
    """Wait until a run has completed. A successful run has only its status and its result."""
    return _read("await_run", id=id)


def await_step(run: str, name: str) -> Request[None]:
    """Wait until a step of a run is done."""
    return _read("await_step", run=run, name=name)


def send_event(
    *,
    run: str | None,
    workflow: str | None,
    key: str | None,
    name: str,
    payload: Any,
    idempotency_key: str | None,
) -> Request[Answer]:
    """Send an event. A handler's request has an idempotency key, so that it can be repeated."""
    return _idempotent(
        "send_event",
        run=run,
        workflow=workflow,
        key=key,
        name=name,
        payload=payload,
        idempotency_key=idempotency_key,
    )


def claim_stands(run: str, token: int) -> Request[bool]:
    """Ask whether a claim is still valid."""
    return _read("claim_stands", run=run, token=token)


def may_enter(claims: list[tuple[str, int]]) -> Request[list[str | None]]:
    """Ask of each claim whether its run may be entered for the first time: ``None``, or why not."""
    return _read("may_enter", claims=claims)


def cancel_requested(id: str) -> Request[bool]:
    """Ask whether the run's cancellation was requested."""
    return _read("cancel_requested", id=id)


def previous_result(schedule_id: str, before: str) -> Request[Answer | None]:
    """Read the schedule's last finished run before the run ``before``."""
    return _read("previous_result", schedule_id=schedule_id, before=before)


# --- the project -----------------------------------------------------------------------------


def list_limits(
    count_to: int, workflow: str | None = None, key: str | None = None
) -> Request[list[Answer]]:
    """Read the limits, or that of a workflow; count the runs that wait for one up to ``count_to``.

    With a key, the runs in progress that have it are counted, too.
    """
    return _read("list_limits", count_to=count_to, workflow=workflow, key=key)


def list_calendars() -> Request[list[Answer]]:
    """Read all stored calendars."""
    return _read("list_calendars")


def get_calendar(name: str) -> Request[Answer]:
    """Read a stored calendar."""
    return _read("get_calendar", name=name)


def set_calendar(name: str, dates: Sequence[str]) -> Request[Answer]:
    """Create a stored calendar, or replace its dates."""
    return _idempotent("set_calendar", name=name, dates=dates)


def delete_calendar(name: str) -> Request[None]:
    """Delete a stored calendar that no schedule names."""
    return _change("delete_calendar", name=name)


def set_limit(name: str, changes: Mapping[str, Any] | None) -> Request[None]:
    """Set values of a limit; without ``changes``, go back to the declared ones."""
    return _idempotent("set_limit", name=name, changes=changes)


def delete_limit(name: str) -> Request[None]:
    """Delete a limit that nothing uses."""
    return _change("delete_limit", name=name)


def workers() -> Request[list[Answer]]:
    """Read the registered workers."""
    return _read("workers")


def overview(count_to: int) -> Request[Answer]:
    """Count what the project holds; each count stops at ``count_to``."""
    return _read("overview", count_to=count_to)


def stuck_parents(look_at: int) -> Request[list[str]]:
    """Read runs that still wait for a child run that has finished."""
    return _read("stuck_parents", look_at=look_at)
