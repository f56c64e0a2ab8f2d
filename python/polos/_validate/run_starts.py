"""Check when and under which key a run is to start."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from polos._core.instants import aware, micros_of
from polos._runtime.backoff import duration
from polos._validate.formatting import shown
from polos._validate.limits import checked_priority
from polos._validate.schedule_options import check_identifier
from polos.exceptions import InvalidArgumentError

__all__ = ["start_of"]


def start_of(
    *,
    key: Any = None,
    delay: float | timedelta | None = None,
    at: Any = None,
    debounce: Any = None,
    idempotency_key: Any = None,
    priority: Any = None,
    default_priority: int = 0,
) -> dict[str, Any] | None:
    """Return the start of a run for the core; ``None`` for a start at once, without a key.

    :param default_priority: that of the workflow, if it is known in this process.

    Raises :class:`InvalidArgumentError` with the argument, what was given, and what is allowed.
    """
    if priority is not None:
        priority = checked_priority("priority", priority)
    elif default_priority:
        priority = default_priority
    if key is None and delay is None and at is None and debounce is None and priority is None:
        return None
    start: dict[str, Any] = {} if priority is None else {"priority": priority}
    if key is not None:
        start["key"] = check_identifier("key", key)
    if delay is not None and at is not None:
        raise InvalidArgumentError(
            f"delay: {shown(delay)} given together with at: {shown(at)}; give one of them"
        )
    if delay is not None:
        start["delay"] = micros_of(duration("delay", delay))
    if at is not None:
        start["at"] = aware("at", at)
    if debounce is not None:
        start["debounce"] = _debounce(debounce, delay, at, idempotency_key)
    return start


def _debounce(debounce: Any, delay: Any, at: Any, idempotency_key: Any) -> dict[str, Any]:
    from polos.starts import Debounce

    if not isinstance(debounce, Debounce):
        raise InvalidArgumentError(
            f"debounce: {shown(debounce)} given, expected a `Debounce`, such as "
            f'`polos.Debounce("u7", delay=2)`'
        )
    others = {"delay": delay, "at": at, "idempotency_key": idempotency_key}
    for name, value in others.items():
        if value is not None:
            raise InvalidArgumentError(
                f"{name}: {shown(value)} given together with debounce, which says when the run "
                f"starts and which calls are one run; leave {name} out"
            )
    return debounce._for_core()
