"""How a run waits for an event, and what it gets."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from polos._codec.codec import decode
from polos._core import requests
from polos._core.instants import micros_of
from polos._runtime.backoff import duration
from polos._validate.conversion import payload_for
from polos._validate.formatting import is_class, shown, type_name
from polos.exceptions import InvalidArgumentError, SerializationError, StepSerializationError

if TYPE_CHECKING:
    from polos._runtime.active_run import ActiveRun
    from polos._runtime.journal import Recorded

__all__ = ["wait_for_event"]


async def wait_for_event(
    active: ActiveRun, name: str, record: Recorded | None, timeout: Any, expected: Any
) -> Any:
    """Wait for the event ``name``; return its payload, or ``None`` after the timeout.

    ``record`` is what earlier executions recorded of the step.
    """
    if isinstance(expected, str):
        raise InvalidArgumentError(
            f"step `{name}`, type: {shown(expected)} given, expected the type itself, not its name"
        )
    limit: timedelta | None = None
    if timeout is not None:
        limit = duration(f"step `{name}`, timeout", timeout)
    if record is not None and record.state == "done":
        return _payload(name, record.result, expected)
    started_at = active.now()
    wakes_at = None if limit is None else started_at + micros_of(limit)
    while True:
        wait = await active.requests.await_event(name, wakes_at, started_at)
        if wait["is_over"]:
            return _payload(name, wait["payload"], expected)
        if active.waits.can_park():
            active.waits.park(wait["parks_until"])
        await _in_place(active, name, wait["wakes_at"])


async def _in_place(active: ActiveRun, name: str, wakes_at: int | None) -> None:
    """Wait beside other work of the run: for the event, or until the deadline."""
    received = active.loop.create_task(
        active.requests.ask(requests.await_step(active.run_id, name))
    )
    ends: set[asyncio.Future[Any]] = {received}
    if wakes_at is not None:
        ends.add(active.executor.timers.start(wakes_at - active.now()))
    try:
        with active.waits.waiting_for_event(name), active.waits.blocked():
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for end in ends:
            end.cancel()
    if received.done() and not received.cancelled():
        received.result()


def _payload(name: str, text: str | None, expected: Any) -> Any:
    """Return an event's payload as the type that the handler expects.

    What a sender without the class has sent, such as a form, is plain data; it is validated.
    """
    if text is None:
        return None
    try:
        return payload_for(
            expected, decode(text, expected, name=f"event {name}"), name=f"event `{name}`"
        )
    except (SerializationError, InvalidArgumentError) as error:
        kind = type_name(expected) if is_class(expected) else str(expected)
        raise StepSerializationError(
            f"the event `{name}` was received, but it cannot be read as `{kind}`: {error}",
            step=name,
        ) from error
