"""The option ``retry_on``: which failures are retried."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from polos._validate.formatting import shown
from polos._validate.signature import is_async_function
from polos.exceptions import InvalidArgumentError, PermanentError

__all__ = ["RetryOn", "checked_retry_on"]

RetryOn = type[BaseException] | tuple[type[BaseException], ...] | Callable[[Exception], bool]
"""An exception class, several, or a function that is called with the exception."""

_EXPECTED = (
    "expected an exception class, a tuple of them, or a function that takes the exception and "
    "returns whether to retry"
)


def checked_retry_on(name: str, value: Any) -> RetryOn:
    """Return ``value`` if it is valid. ``name`` is for errors.

    Raises :class:`InvalidArgumentError`.
    """
    if isinstance(value, type):
        _check_class(name, value)
    elif isinstance(value, tuple):
        if not value:
            raise InvalidArgumentError(
                f"{name}: an empty tuple given, {_EXPECTED}; to retry nothing, leave `retries` out"
            )
        for member in value:
            _check_class(name, member)
    elif not callable(value):
        advice = f"; write `({', '.join(map(_name, value))},)`" if _is_list(value) else ""
        raise InvalidArgumentError(f"{name}: {shown(value)} given, {_EXPECTED}{advice}")
    elif is_async_function(value):
        raise InvalidArgumentError(
            f"{name}: {shown(value)} is an async function; polos does not await the decision, so "
            f"pass a function defined with `def`"
        )
    else:
        _check_parameters(name, value)
    checked: RetryOn = value
    return checked


def _check_class(name: str, value: Any) -> None:
    if not isinstance(value, type) or not issubclass(value, BaseException):
        raise InvalidArgumentError(f"{name}: {shown(value)} given, {_EXPECTED}")
    if issubclass(value, PermanentError):
        raise InvalidArgumentError(
            f"{name}: `{value.__name__}` given, but a `PermanentError` is never retried; leave it "
            f"out, or raise another exception"
        )


def _is_list(value: Any) -> bool:
    return isinstance(value, (list, set, frozenset)) and all(
        isinstance(member, type) for member in value
    )


def _name(value: type) -> str:
    return value.__name__


def _check_parameters(name: str, function: Any) -> None:
    try:
        inspect.signature(function).bind(None)
    except ValueError:  # written in C
        return
    except TypeError as error:
        raise InvalidArgumentError(
            f"{name}: {shown(function)} given, but it cannot be called with the exception alone "
            f"({error}); {_EXPECTED}"
        ) from None
