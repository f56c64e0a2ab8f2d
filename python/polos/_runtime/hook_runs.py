"""Hooks that are workflows: a run for each call, which is retried as any run."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from typing import TYPE_CHECKING, Any

from polos._codec.exceptions import error_from_record, error_record
from polos._core.safe_logging import quiet_logger
from polos.exceptions import RunFailedError, StoreError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from polos.client import PolosClient
    from polos.workflow import Workflow

__all__ = ["failure_error", "restored", "start_run", "storable"]

_log = quiet_logger("polos.worker")

# Delays in seconds between the tries to start a run while the database does not answer.
_DELAY_MIN, _DELAY_MAX = 1.0, 60.0


async def start_run(
    client: PolosClient, workflow: Workflow[Any, Any], event: Any, call: str, what: str
) -> None:
    """Start the run of a hook call, once however often it is called.

    Waits until the database answers. A worker that closes meanwhile leaves the call to another one.
    """
    from polos import runs

    delay = _DELAY_MIN
    while True:
        try:
            await runs.invoke(
                client,
                workflow,
                storable(event),
                idempotency_key=f"hook:{call}",
                key=event.key,
                _is_hook=True,
            )
            return
        except StoreError as error:
            if delay == _DELAY_MIN:
                _log.warning("%s could not start its run yet, and tries again: %s", what, error)
        await asyncio.sleep(delay)
        delay = min(2 * delay, _DELAY_MAX)


def storable(event: Any) -> Any:
    """Return ``event`` as it can be stored in a payload: an exception as its record."""
    from polos.hooks import RecordedFailure, RunFailure

    if type(event) is not RunFailure:
        return event
    record = json.dumps(error_record(event.error))
    return dataclasses.replace(event, error=RecordedFailure(record))  # type: ignore[arg-type]


def restored(data: Any) -> Any:
    """Return what :func:`storable` was given, as far as this process can rebuild its exception."""
    from polos.hooks import RecordedFailure, RunFailure

    stored: Any = data.error if type(data) is RunFailure else None
    if not isinstance(stored, RecordedFailure):
        return data
    error = failure_error(json.loads(stored.record), data.run_id, data.workflow_id)
    return dataclasses.replace(data, error=error)


def failure_error(record: Mapping[str, Any] | None, run_id: str, workflow: str) -> BaseException:
    """Return what the handler of a failed run raised, as a handle raises it: with the recorded
    traceback in its cause.
    """
    failed = RunFailedError.from_record(record, run_id=run_id, workflow=workflow)
    error = error_from_record(record)
    if error is None:
        return failed
    error.__cause__ = failed
    return error
