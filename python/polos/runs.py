"""Start, await, read, cancel, and retry runs. :data:`sync` has blocking versions."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from polos._codec.codec import decode, to_jsonable
from polos._core import requests
from polos._core.blocking import blocking, run_blocking
from polos._core.instants import aware
from polos._core.real_datetime import datetime
from polos._display.notebook import Listed
from polos._runtime.backoff import duration
from polos._runtime.current_run import current_run
from polos._runtime.registry import RegisteredWorkflow, registry
from polos._runtime.waiting_notice import AwaitedRun
from polos._validate.arguments import count_of, one_of
from polos._validate.formatting import shown, type_name
from polos._validate.payloads import check_given
from polos._validate.run_starts import start_of
from polos._validate.schedule_options import check_identifier
from polos.client import checked_client
from polos.exceptions import (
    InvalidArgumentError,
    RunCancelledError,
    RunFailedError,
    RunTimeoutError,
    SerializationError,
)

if TYPE_CHECKING:
    import builtins

    from polos.client import PolosClient
    from polos.models import Progress, Run, RunStatus
    from polos.starts import Debounce
    from polos.workflow import Workflow

__all__ = [
    "RunHandle",
    "SyncRunHandle",
    "cancel",
    "get",
    "handle",
    "invoke",
    "invoke_in",
    "invoke_many",
    "list",
    "retry",
    "send",
    "sync",
]

ResultT = TypeVar("ResultT", covariant=True)
R = TypeVar("R")

EVENT_SIZE_MAX = 1024 * 1024
"""Bytes that the payload of an event may take as JSON (1 MiB)."""

_PAGE = 1_000
_STATES = ("queued", "running", "waiting", "succeeded", "failed", "cancelled")


class RunHandle(Generic[ResultT]):
    """A handle of a started run. ``id`` identifies the run in any process.

    ``await handle`` waits for the result, like :meth:`result` without a timeout.
    """

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

    def __await__(self) -> Generator[Any, None, ResultT]:
        return self.result().__await__()

    async def result(self, timeout: float | timedelta | None = None) -> ResultT:
        """Wait until the run completes, and return what its handler returned.

        A database outage does not end the wait. A handler that waits holds neither its permit
        (``Worker(concurrency=...)``) nor its thread meanwhile.

        :param timeout: seconds or ``timedelta``; 0 returns the result only if it is there. The run
            continues when the time has passed.

        Raises what the run failed with (:class:`RunFailedError` if that exception cannot be rebuilt
        here), :class:`RunCancelledError`, :class:`RunTimeoutError` when ``timeout`` has passed, or
        :class:`InvalidArgumentError` for a ``timeout`` that isn't a duration.
        """
        run = await self._ended(timeout)
        if run["status"] == "succeeded":
            value: ResultT = _decoded(run, self._result_type)
            return value
        if run["status"] == "cancelled":
            raise RunCancelledError(f"run `{self.id}` was cancelled", run_id=self.id)
        failed = RunFailedError.from_record(run["error"], run_id=self.id, workflow=run["workflow"])
        from polos._codec.exceptions import error_from_record

        original = error_from_record(run["error"])
        if isinstance(original, Exception):
            raise original from failed
        raise failed

    async def _ended(self, timeout: float | timedelta | None) -> dict[str, Any]:
        if timeout is None:
            seconds = None
        else:
            seconds = duration("timeout", timeout).total_seconds()
            if not seconds:
                return await self._ended_already(timeout)
        with AwaitedRun(self._client, self.id):
            ended = await self._client._ended_run(self.id, seconds)
        if ended is None:
            raise self._timed_out(timeout)
        return ended

    async def _ended_already(self, timeout: Any) -> dict[str, Any]:
        run = await self._client._ask(requests.get_run(self.id))
        if run["finished_at"] is None:
            raise self._timed_out(timeout)
        return run

    def _timed_out(self, timeout: Any) -> RunTimeoutError:
        return RunTimeoutError(
            f"run `{self.id}` has not completed within {timeout}"
            f"{'' if isinstance(timeout, timedelta) else ' s'}; it continues: wait again, or "
            f"cancel it",
            run_id=self.id,
        )

    async def status(self) -> RunStatus:
        """Return its status. Raises :class:`RunNotFoundError` if the run has been pruned."""
        run = await self._client._ask(requests.get_run(self.id))
        status: RunStatus = run["status"]
        return status

    async def progress(self) -> Progress | None:
        """Return what the handler last reported with ``ctx.progress``; ``None`` before that.

        Raises :class:`RunNotFoundError` if the run has been pruned.
        """
        return (await get(self._client, self.id)).progress

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

    def progress(self) -> Progress | None:
        """See :meth:`RunHandle.progress`."""
        return run_blocking(self._handle.progress())

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
    key: str | None = None,
    delay: float | timedelta | None = None,
    at: datetime | None = None,
    debounce: Debounce | None = None,
    priority: int | None = None,
    _parent: str | None = None,
    _is_hook: bool = False,
) -> RunHandle[R]:
    """Start ``workflow`` durably, by id or object, like ``Workflow.invoke``.

    Raises :class:`WorkflowNotFoundError`, :class:`InvalidArgumentError` for a payload that the
    handler does not take or an option that is not valid, or :class:`SerializationError` for a
    payload that cannot be stored.
    """
    started = _Started(workflow)
    start = start_of(
        key=key,
        delay=delay,
        at=at,
        debounce=debounce,
        idempotency_key=idempotency_key,
        priority=priority,
        default_priority=started.priority,
    )
    if _is_hook:
        start = {**(start or {}), "is_hook": True}
    request = requests.invoke(
        started.id,
        started.encoded(payload),
        idempotency_key=None if debounce is not None else _idempotency_key(idempotency_key),
        parent=_parent,
        is_local=started.is_local,
        local_workflows=started.local_workflows,
        start=start,
    )
    answer = await checked_client(client)._ask(request)
    return RunHandle(client, answer["run_id"], started.result_type)


async def invoke_in(
    connection: Any,
    client: PolosClient,
    workflow: Workflow[Any, R] | str,
    payload: Any = None,
    *,
    idempotency_key: str | None = None,
    key: str | None = None,
    delay: float | timedelta | None = None,
    at: datetime | None = None,
    debounce: None = None,
    priority: int | None = None,
) -> RunHandle[R]:
    """Start ``workflow`` in a transaction of the application, like ``Workflow.invoke_in``.

    Raises what :func:`invoke` raises. Raises :class:`InvalidArgumentError` too if the connection is
    of an unknown kind, or leads to another database than the client, and
    :class:`InvalidStateError` if it has no open transaction, or one that can't write.
    """
    if debounce is not None:
        raise InvalidArgumentError(
            f"debounce: {shown(debounce)} given; the run that waits for more calls would stay "
            f"locked until the transaction ends, and workers would wait for it: call `invoke` "
            f"after the commit"
        )
    if idempotency_key is not None and check_identifier(
        "idempotency_key", idempotency_key
    ).startswith("auto:"):
        raise InvalidArgumentError(
            f"idempotency_key: {shown(idempotency_key)} given; keys that begin with `auto:` are "
            f"those that polos makes"
        )
    started = _Started(workflow)

    def request() -> requests.Request[requests.InTransaction]:
        return requests.invoke_in(
            started.id,
            started.encoded(payload),
            idempotency_key=idempotency_key,
            is_local=started.is_local,
            local_workflows=started.local_workflows,
            start=start_of(
                key=key, delay=delay, at=at, priority=priority, default_priority=started.priority
            ),
        )

    from polos._transactions.execute import create_in_transaction  # few programs need it

    created = await create_in_transaction(
        connection, checked_client(client), "runs.invoke_in", request
    )
    return RunHandle(client, created.id, started.result_type)


async def invoke_many(
    client: PolosClient,
    workflow: Workflow[Any, R] | str,
    payloads: Iterable[Any],
) -> builtins.list[RunHandle[R]]:
    """Start many runs of ``workflow`` in one transaction, like ``Workflow.invoke_many``.

    Raises what :func:`invoke` raises, with the position of the payload; then no run is started.
    """
    checked_client(client)
    started = _Started(workflow)
    # Text, mappings, and models are iterables too, of what nobody means to be payloads.
    if (
        isinstance(payloads, (str, bytes, bytearray, Mapping))
        or hasattr(type(payloads), "model_fields")
        or not isinstance(payloads, Iterable)
    ):
        raise InvalidArgumentError(
            f"payloads: {shown(payloads)} of type `{type_name(type(payloads))}` given, expected a "
            f"list (or another iterable) with the payload of each run; for one run, call `invoke`"
        )
    prepared: builtins.list[requests.Invocation] = []
    for index, item in enumerate(payloads):
        try:
            prepared.append(_prepared(started, item))
        except (InvalidArgumentError, SerializationError) as error:
            error.args = (f"payloads[{index}]: {error}",)
            raise
    if not prepared:
        return []
    request = requests.invoke_many(
        started.id,
        prepared,
        is_local=started.is_local,
        local_workflows=started.local_workflows,
    )
    ids = await client._ask(request)
    return [RunHandle(client, id, started.result_type) for id in ids]


def _prepared(started: _Started, item: Any) -> requests.Invocation:
    from polos.starts import Invocation

    given = item if isinstance(item, Invocation) else Invocation(item)
    prepared: requests.Invocation = {
        "payload": started.encoded(given.payload),
        "idempotency_key": _idempotency_key(given.idempotency_key),
    }
    start = start_of(
        key=given.key,
        delay=given.delay,
        at=given.at,
        priority=given.priority,
        default_priority=started.priority,
    )
    if start is not None:
        prepared["start"] = start
    return prepared


class _Started:
    """The workflow that a caller starts, known to this process or only to workers."""

    def __init__(self, workflow: Workflow[Any, Any] | str) -> None:
        if isinstance(workflow, RegisteredWorkflow):
            found: Workflow[Any, Any] | None = workflow
            self.id = workflow.id
        else:
            self.id = check_identifier("workflow", workflow)
            found = registry().get(self.id)
        self._found = found
        self.is_local = found is not None
        self.local_workflows = sorted(registry()) if found is None else []
        # For workers that have not registered the workflow yet.
        self.priority = 0 if found is None else found.priority
        self.result_type = None if found is None else found.result_type

    def encoded(self, payload: Any) -> Any:
        """Return the payload as JSON data, checked against what the handler takes."""
        found = self._found
        if found is not None:
            check_given(found, payload)
            payload = None if payload is None else found.payload_from(payload)
        if payload is None:
            return None
        return to_jsonable(payload, name="payload")


def _idempotency_key(given: str | None) -> str | None:
    if given is not None:
        return check_identifier("idempotency_key", given)
    # A handler repeats the request after an outage, and must not start a second run.
    return None if current_run() is None else f"auto:{os.urandom(16).hex()}"


@overload
def handle(client: PolosClient, id: str) -> RunHandle[Any]: ...
@overload
def handle(client: PolosClient, id: str, workflow: Workflow[Any, R]) -> RunHandle[R]: ...
def handle(
    client: PolosClient, id: str, workflow: Workflow[Any, Any] | None = None
) -> RunHandle[Any]:
    """Return a handle of a run that was started elsewhere, by its id.

    It reads nothing: the handle's methods raise :class:`RunNotFoundError` if there is no such run.

    :param workflow: the run's workflow, if its result should have the handler's type.

    Raises :class:`InvalidArgumentError` for an id that is not text.
    """
    if workflow is not None and not isinstance(workflow, RegisteredWorkflow):
        raise InvalidArgumentError(
            f"workflow: {shown(workflow)} given, expected a function decorated with `@workflow`"
        )
    return RunHandle(
        checked_client(client), _id(id), None if workflow is None else workflow.result_type
    )


async def get(client: PolosClient, id: str) -> Run:
    """Return a run with its steps. Raises :class:`RunNotFoundError`."""
    return _run(await checked_client(client)._ask(requests.get_run(_id(id))))


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
    :param brief: omit results and tracebacks, which can be large.
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
    found: Listed[Run] = Listed()
    while limit is None or len(found) < limit:
        count = _PAGE if limit is None else min(_PAGE, limit - len(found))
        request = requests.list_runs(
            workflow=workflow.id if isinstance(workflow, RegisteredWorkflow) else workflow,
            key=key,
            schedule=schedule,
            states=states,
            since=None if since is None else aware("since", since),
            error=error,
            limit=count,
            after=after,
            brief=brief,
        )
        page = await checked_client(client)._ask(request)
        found += [_run(item) for item in page]
        if len(page) < count:
            break
        after = page[-1]["id"]
    return found


async def _remarkable(client: PolosClient, limit: int = 100) -> builtins.list[Run]:
    """Return unfinished runs that interrupted their workers or wait with a note, newest first."""
    page = await checked_client(client)._ask(requests.remarkable_runs(limit))
    return Listed(_run(item) for item in page)


async def cancel(client: PolosClient, id: str) -> RunStatus:
    """Cancel a run, and return its status.

    A waiting run is cancelled at once. A running handler gets ``asyncio.CancelledError``. A
    finished run does not change. Raises :class:`RunNotFoundError`.
    """
    status: RunStatus = await checked_client(client)._ask(requests.cancel_run(_id(id)))
    return status


async def retry(client: PolosClient, id: str) -> RunStatus:
    """Retry a failed or cancelled run from its first unfinished step, and return its status.

    Raises :class:`RunNotFoundError`, and :class:`InvalidStateError` for a run that has neither
    failed nor been cancelled.
    """
    status: RunStatus = await checked_client(client)._ask(requests.retry_run(_id(id)))
    return status


@overload
async def send(
    client: PolosClient,
    id: str,
    name: str,
    payload: Any = None,
    *,
    idempotency_key: str | None = None,
) -> bool: ...
@overload
async def send(
    client: PolosClient,
    *,
    workflow: str | Workflow[Any, Any],
    key: str,
    name: str,
    payload: Any = None,
    idempotency_key: str | None = None,
) -> bool: ...
async def send(
    client: PolosClient,
    id: str | None = None,
    name: str | None = None,
    payload: Any = None,
    *,
    workflow: str | Workflow[Any, Any] | None = None,
    key: str | None = None,
    idempotency_key: str | None = None,
) -> bool:
    """Send an event to a run, which gets it with ``ctx.step.wait_event(name)``.

    Returns whether the run has this event now. The first event of a name wins: another one is not
    accepted, nor is one that comes after the deadline of the run's wait. An event for which the run
    does not wait yet is kept.

    :param id: the run's id. Without it, ``workflow`` and ``key`` name the run: the only unfinished
        run of that workflow with that key.
    :param name: the name of the event.
    :param payload: anything that a step can return, of at most 1 MiB as JSON.
    :param idempotency_key: sending the accepted event again, with its key, returns ``True``, also
        after the run has finished. Pass one if you may have to send it again.

    Raises :class:`RunNotFoundError`, :class:`InvalidStateError` for a finished run (and for several
    unfinished ones of that workflow and key), :class:`SerializationError` for a payload that cannot
    be stored, or :class:`PayloadTooLargeError`.
    """
    name = check_identifier("event name", name)
    if (id is None) == (workflow is None) or (workflow is None) != (key is None):
        raise InvalidArgumentError(
            "runs.send: expected either a run's id, or `workflow=` and `key=`"
        )
    workflow_id = workflow.id if isinstance(workflow, RegisteredWorkflow) else workflow
    if workflow_id is not None:
        check_identifier("workflow", workflow_id)
        check_identifier("key", key)
    data = to_jsonable(payload, limit=EVENT_SIZE_MAX, name="payload")
    if idempotency_key is not None:
        check_identifier("idempotency_key", idempotency_key)
    elif current_run() is not None:
        # A handler repeats the request after an outage, and the answer must stay the same.
        idempotency_key = f"auto:{os.urandom(16).hex()}"
    request = requests.send_event(
        run=None if id is None else _id(id),
        workflow=workflow_id,
        key=key,
        name=name,
        payload=data,
        idempotency_key=idempotency_key,
    )
    answer = await checked_client(client)._ask(request)
    is_accepted: bool = answer["is_accepted"]
    return is_accepted


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


def _sync_handle(
    client: PolosClient, id: str, workflow: Workflow[Any, R] | None = None
) -> SyncRunHandle[R]:
    """Return a handle whose methods block; see :func:`polos.runs.handle`."""
    found: RunHandle[Any] = handle(client, id) if workflow is None else handle(client, id, workflow)
    return found.sync


class sync:
    """The same functions for code without an event loop. They block the calling thread."""

    cancel = staticmethod(blocking(cancel))
    get = staticmethod(blocking(get))
    handle = staticmethod(_sync_handle)
    invoke = staticmethod(blocking(invoke))
    invoke_in = staticmethod(blocking(invoke_in))
    invoke_many = staticmethod(blocking(invoke_many))
    list = staticmethod(blocking(list))
    retry = staticmethod(blocking(retry))
    _remarkable = staticmethod(blocking(_remarkable))

    @overload
    @staticmethod
    def send(
        client: PolosClient,
        id: str,
        name: str,
        payload: Any = None,
        *,
        idempotency_key: str | None = None,
    ) -> bool: ...
    @overload
    @staticmethod
    def send(
        client: PolosClient,
        *,
        workflow: str | Workflow[Any, Any],
        key: str,
        name: str,
        payload: Any = None,
        idempotency_key: str | None = None,
    ) -> bool: ...
    @staticmethod
    def send(*args: Any, **kwargs: Any) -> bool:
        """See :func:`send`."""
        return run_blocking(send(*args, **kwargs))
