"""The shapes of requests to the core, for type checkers: no module imports this one at run time.

Instants and durations are whole microseconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

__all__ = [
    "BackoffSetup",
    "CoreOptions",
    "Draft",
    "Drafts",
    "InTransaction",
    "InputChange",
    "Invocation",
    "MonitorSetup",
    "TransactionScript",
    "TransactionStatement",
    "WantedCalls",
    "WorkerSetup",
    "WorkflowSetup",
]

# (workflow, key, position of its specification, input, whether the workflow is schedulable, tags,
# whether to start a run if it is new)
Draft = tuple[str, str, int, str | None, bool | None, Mapping[str, str], bool]


class Drafts(TypedDict):
    """Schedules to create. Each refers to its specification, a JSON text, by position."""

    specs: Sequence[str]
    schedules: Sequence[Draft]


class InputChange(TypedDict):
    """A new input of a schedule, or of one run of it; ``None`` removes it."""

    set: Any


class Invocation(TypedDict, total=False):
    """A run to start together with others."""

    payload: Any
    idempotency_key: str | None
    start: Mapping[str, Any]


class TransactionStatement(TypedDict):
    """A statement for a client library of any kind.

    ``parts`` is SQL, with the indexes of ``values`` where they belong.
    """

    parts: Sequence[str | int]
    values: Sequence[str | int | None]


class TransactionScript(TypedDict):
    """What a transaction of the application executes to create one row.

    ``check`` must find ``tables`` tables in ``schema``; then ``create`` creates the row.
    """

    schema: str
    tables: int
    check: TransactionStatement
    create: TransactionStatement


class InTransaction(TypedDict):
    """The id of the new row, and how to create it: ``None`` on a database that is not a server."""

    id: str
    script: TransactionScript | None


class CoreOptions(TypedDict, total=False):
    """How the core opens a database: a file, a server, or (``start``) memory in virtual time."""

    project: str
    synchronous: str
    path: str
    url: str
    start: int
    must_exist: bool


class BackoffSetup(TypedDict):
    """Delays between the attempts of a run."""

    initial_us: int
    factor: float
    maximum_us: int
    jitter: float


class WantedCalls(TypedDict):
    """The hook calls to record and to make for a workflow."""

    skipped: bool
    missed: bool
    late_after_us: int | None
    succeeded: bool
    failed: bool


class WorkflowSetup(TypedDict):
    """A workflow that a worker executes."""

    is_schedulable: bool
    retry_max: int
    backoff: BackoffSetup
    timeout: int | None
    code: str
    limit: str | None
    priority: int
    hooks: WantedCalls


class MonitorSetup(TypedDict):
    """How a worker is watched."""

    health: str | None
    stall: int
    heartbeat_file: str | None


class WorkerSetup(TypedDict):
    """A worker to start."""

    app: str
    aliases: Sequence[str]
    former: Sequence[str]
    version: str | None
    is_whole: bool
    about: Mapping[str, str]
    workflows: Mapping[str, WorkflowSetup]
    declared: Drafts
    limits: Mapping[str, Mapping[str, int | None]]
    concurrency: int
    lease: int
    idle_heartbeat: int
    lead: int
    lead_per_slot: int
    lead_max: int
    poll_interval: int
    retention: int | None
    batch_max: int
    monitor: MonitorSetup
