"""Results and failures of steps, restored from what was recorded."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from polos._codec.codec import decode
from polos._codec.exceptions import error_from_record
from polos._codec.known_classes import register_function, undeclared_types
from polos._core.safe_logging import quiet_logger
from polos._runtime.journal import Recorded
from polos._validate.signature import location, result_hint_of
from polos.exceptions import SerializationError, StepError, StepSerializationError

__all__ = ["child_result", "recorded_failure", "replayed", "warn_of_undeclared_types"]


def replayed(name: str, record: Recorded, fn: Callable[..., Any]) -> Any:
    text = record.result or "null"
    if "$polos" not in text:
        return decode(text)
    register_function(fn)
    return _restored(name, text, result_hint_of(fn), fn)


def child_result(name: str, text: str, result_type: Any) -> Any:
    return _restored(name, text, result_type, None)


def _restored(name: str, text: str, hint: Any, fn: Callable[..., Any] | None) -> Any:
    """Restore a recorded result with its original type, or raise.

    A similar type will not do: the handler's code expects the same type in every execution.
    """
    try:
        return decode(text, hint, function=fn, is_strict=True)
    except SerializationError as error:
        raise StepSerializationError(
            f"step `{name}` was recorded, but its result cannot be restored: {error}", step=name
        ) from error


_warned_of_types: set[tuple[str, str]] = set()


def warn_of_undeclared_types(name: str, fn: Callable[..., Any], text: str) -> None:
    """Warn once that a result cannot be restored after a restart, while that is easy to fix."""
    for type_name in undeclared_types(text, result_hint_of(fn), fn):
        place = (location(fn), type_name)
        if place in _warned_of_types or len(_warned_of_types) > 1_000:
            continue
        _warned_of_types.add(place)
        quiet_logger("polos.run").warning(
            "step `%s` returned a `%s`, which another process cannot restore when it resumes the "
            "run: name the type in the return annotation of the step's function (%s), or call "
            "`polos.register_types`",
            name,
            type_name,
            place[0],
        )


def recorded_failure(name: str, record: Recorded) -> BaseException:
    details = json.loads(record.error or "{}")
    original = error_from_record(details)
    if isinstance(original, StepSerializationError):
        return original
    return StepError.from_record(name, record.attempt, details, original)
