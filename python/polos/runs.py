"""Start, await, read, cancel, and retry runs. :data:`sync` has blocking versions."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from polos._codec.codec import decode, encode
from polos._codec.exceptions import error_from_record
from polos._core.blocking import blocking, run_blocking
from polos._core.instants import aware
from polos._core.real_datetime import datetime
from polos._display.notebook import Listed
from polos._runtime.current_run import current_run
from polos._runtime.waiting_notice import warning_without_worker
from polos._validate.arguments import count_of, one_of
from polos._validate.formatting import shown
from polos._validate.payloads import check_given
from polos._validate.schedule_options import check_identifier
from polos.client import checked_client
from polos.exceptions import (
    InvalidArgumentError,
    RunCancelledError,
    RunFailedError,
    RunTimeoutError,
)
from polos.workflow import Workflow, registry

if TYPE_CHECKING:
    import builtins

    from polos.client import PolosClient
    from polos.models import Run, RunStatus

__all__ = ["RunHandle", "SyncRunHandle", "cancel", "get", "list", "retry", "sync"]

ResultT = TypeVar("ResultT", covariant=True)
R = TypeVar("R")

_PAGE = 1_000
_STATES = ("queued", "running", "waiting", "succeeded", "failed", "cancelled")


class RunHandle(Generic[ResultT]):
    """A handle of a started run. ``id`` identifies the run in any process."""

    def __init__(self, client: PolosClient, id: str, result_type: Any = None) -> None:
        self.id = id
        self._client = client
        self._result_type = result_type

    def __repr__(self) -> str:
        return f"<RunHandle {self.id}>"

    @property
    def sync(self) -> SyncRunHandle[ResultT]:
        """The same handle for code without an event loop. Its methods block."""
        return SyncRunHandle(self)

    async def result(self, timeout: float | timedelta | None = None) -> ResultT:
        """Wait until the run completes, and return what its handler returned.

        A database outage does not end the wait. A handler that waits holds neither its permit
        (``Worker(concurrency=...)``) nor its thread meanwhile.

        :param timeout: seconds or ``timedelta``. The run continues when it has passed.

        Raises what the run failed with (:class:`RunFailedError` if that exception cannot be rebuilt
        here), :class:`RunCancelledError`, or :class:`RunTimeoutError` when ``timeout`` has passed.
        """
        run = await self._ended(timeout)
        if run["status"] == "succeeded":
            value: ResultT = _decoded(run, self._result_type)
            return value
        if run["status"] == "cancelled":
            raise RunCancelledError(f"run `{self.id}` was cancelled", run_id=self.id)
        failed = RunFailedError.from_record(run["error"], run_id=self.id, workflow=run["workflow"])
        original = error_from_record(run["error"])
        if isinstance(original, Exception):
            raise original from failed
        raise failed

    async def _ended(self, timeout: float | timedelta | None) -> dict[str, Any]:
        seconds = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
        with warning_without_worker(self._client, self.id):
            ended = await self._client._ended_run(self.id, seconds)
        if ended is None:
            raise self._timed_out(timeout)
        return ended

    def _timed_out(self, timeout: Any) -> RunTimeoutError:
        return RunTimeoutError(
            f"run `{self.id}` has not completed within {timeout}"
            f"{'' if isinstance(timeout, timedelta) else ' s'}; it continues: wait again, or "
            f"cancel it",
            run_id=self.id,
        )

    async def status(self) -> RunStatus:
        """Return its status. Raises :class:`RunNotFoundError` if the run has been pruned."""
        run = await self._client._ask("get_run", id=self.id)
        status: RunStatus = run["status"]
        return status

    async def cancel(self) -> RunStatus:
        """Cancel the run; see :func:`cancel`."""
        return await cancel(self._client, self.id)


class SyncRunHandle(Generic[ResultT]):
    """A :class:`RunHandle` whose methods block the calling thread."""

    def __init__(self, handle: RunHandle[ResultT]) -> None:
        self.id = handle.id
        self._handle = handle

    def __repr__(self) -> str:
        return f"<SyncRunHandle {self.id}>"

    def result(self, timeout: float | timedelta | None = None) -> ResultT:
        """See :meth:`RunHandle.result`."""
        return run_blocking(self._handle.result(timeout))

    def status(self) -> RunStatus:
        """See :meth:`RunHandle.status`."""
        return run_blocking(self._handle.status())

    def cancel(self) -> RunStatus:
        """See :meth:`RunHandle.cancel`."""
        return run_blocking(self._handle.cancel())


def _decoded(run: dict[str, Any], result_type: Any) -> Any:
    if run["result"] is None:
        return None
    return decode(run["result"], result_type, name="result")


async def invoke(
    client: PolosClient,
    workflow: Workflow[Any, R] | str,
    payload: Any = None,
    *,
    idempotency_key: str | None = None,
    _parent: str | None = None,
) -> RunHandle[R]:
    """Start ``workflow`` durably, by id or object, like ``Workflow.invoke``.

    Raises :class:`WorkflowNotFoundError`, :class:`InvalidArgumentError` for a payload that the
    handler does not take, or :class:`SerializationError` for one that cannot be stored.
    """
    known = registry()
    if isinstance(workflow, Workflow):
        found: Workflow[Any, Any] | None = workflow
        workflow_id = workflow.id
    else:
        workflow_id = check_identifier("workflow", workflow)
        found = known.get(workflow_id)
    if found is not None:
        check_given(found, payload)
        payload = None if payload is None else found.payload_from(payload)
    data = encode(payload, found.payload_type if found else None, name="payload").decode()
    if idempotency_key is not None:
        check_identifier("idempotency_key", idempotency_key)
    elif current_run() is not None:
        # A handler repeats the request after an outage, and must not start a second run.
        idempotency_key = f"auto:{os.urandom(16).hex()}"
    answer = await checked_client(client)._ask(
        "invoke",
        workflow=workflow_id,
        payload=None if payload is None else json.loads(data),
        idempotency_key=idempotency_key,
        parent=_parent,
        is_local=found is not None,
        local_workflows=[] if found is not None else sorted(known),
    )
    return RunHandle(client, answer["run_id"], found.result_type if found else None)


async def get(client: PolosClient, id: str) -> Run:
    """Return a run with its steps. Raises :class:`RunNotFoundError`."""
    return _run(await checked_client(client)._ask("get_run", id=_id(id)))


async def list(
    client: PolosClient,
    *,
    workflow: str | Workflow[Any, Any] | None = None,
    key: str | None = None,
    schedule: str | None = None,
    status: RunStatus | Iterable[RunStatus] | None = None,
    since: datetime | None = None,
    error: str | None = None,
    limit: int | None = 100,
    after: str | None = None,
    brief: bool = False,
) -> builtins.list[Run]:
    """Return the runs that match all filters, newest first, without their steps.

    :param status: one status, or several. :param since: only runs created at or after this.
    :param error: only failed runs whose error has this class name, such as ``"CodeChangedError"``,
        with or without its module.
    :param limit: return at most this many; ``None`` returns all.
    :param after: continue after this id, the last one of the previous page.
    :param brief: leave out results and tracebacks, which can be large.
    """
    if limit is not None:
        count_of("limit", limit)
    states = _statuses(status)
    if error is not None:
        check_identifier("error", error)
        if states and states != ["failed"]:
            raise InvalidArgumentError(
                f"error: {shown(error)} given with status {shown(status)}; only failed runs have "
                f"an error, so leave status out or pass `failed`"
            )
        states = ["failed"]
    more: dict[str, Any] = {"brief": True} if brief else {}
    found: Listed[Run] = Listed()
    while limit is None or len(found) < limit:
        count = _PAGE if limit is None else min(_PAGE, limit - len(found))
        page = await checked_client(client)._ask(
            "list_runs",
            workflow=workflow.id if isinstance(workflow, Workflow) else workflow,
            key=key,
            schedule=schedule,
            states=states,
            since=None if since is None else aware("since", since),
            error=error,
            limit=count,
            after=after,
            **more,
        )
        found += [_run(item) for item in page]
        if len(page) < count:
            break
        after = page[-1]["id"]
    return found


async def _remarkable(client: PolosClient, limit: int = 100) -> builtins.list[Run]:
    """Return unfinished runs that interrupted their workers or wait with a note, newest first."""
    page = await checked_client(client)._ask("remarkable_runs", limit=limit)
    return Listed(_run(item) for item in page)


async def cancel(client: PolosClient, id: str) -> RunStatus:
    """Cancel a run, and return its status.

    A waiting run is cancelled at once. A running handler gets ``asyncio.CancelledError``. A
    finished run does not change. Raises :class:`RunNotFoundError`.
    """
    status: RunStatus = await checked_client(client)._ask("cancel_run", id=_id(id))
    return status


async def retry(client: PolosClient, id: str) -> RunStatus:
    """Retry a failed or cancelled run from its first unfinished step, and return its status.

    Raises :class:`RunNotFoundError`, and :class:`InvalidStateError` for a run that has neither
    failed nor been cancelled.
    """
    status: RunStatus = await checked_client(client)._ask("retry_run", id=_id(id))
    return status


def _run(core: dict[str, Any]) -> Run:
    from polos.models import Run

    known = registry().get(core["workflow"])
    return Run._from_core(core, None if known is None else known.result_type)


def _statuses(given: Any) -> builtins.list[str]:
    if given is None:
        return []
    states = [*given] if isinstance(given, Iterable) and not isinstance(given, str) else [given]
    return [one_of("status", state, _STATES) for state in states]


def _id(value: Any) -> str:
    if not isinstance(value, str):
        raise InvalidArgumentError(f"id: {shown(value)} given, expected a run's id (text)")
    return value


class sync:
    """The same functions for code without an event loop. They block the calling thread."""

    cancel = staticmethod(blocking(cancel))
    get = staticmethod(blocking(get))
    invoke = staticmethod(blocking(invoke))
    list = staticmethod(blocking(list))
    retry = staticmethod(blocking(retry))
    _remarkable = staticmethod(blocking(_remarkable))
