"""Check the arguments of ``ctx.step.run`` before anything is executed or retried."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any

from polos._core.safe_logging import quiet_logger
from polos._validate.formatting import shown
from polos._validate.signature import location, underlying
from polos.exceptions import InvalidArgumentError

__all__ = ["check_step_function", "checked_process_options", "warn_of_shadowed_options"]

_log = quiet_logger("polos.run")

_warned: set[tuple[str, str]] = set()
_WARNED_MAX = 1_000


def check_step_function(name: str, fn: Any) -> None:
    """Raise :class:`InvalidArgumentError`, with the correct form, for a value that is not a
    function.
    """
    if inspect.isawaitable(fn):
        called = getattr(fn, "__name__", None) or "fetch"
        if inspect.iscoroutine(fn):
            fn.close()  # it is never awaited; without this, Python warns about that elsewhere
        raise InvalidArgumentError(
            f"step `{name}`: a call of `{called}` was given, expected the function and its "
            f"arguments: `ctx.step.run({name!r}, {called}, ...)`; polos calls it, unless the step "
            f"is done already"
        )
    if not callable(fn):
        hint = " (what a call returned?)" if fn is None else ""
        raise InvalidArgumentError(
            f"step `{name}`: {shown(fn)}{hint} given, expected a function and its arguments: write "
            f"`ctx.step.run({name!r}, fn, 1)`, not `ctx.step.run({name!r}, fn(1))`"
        )
    inner = underlying(fn)  # a decorator may turn a generator into a list
    if inspect.isgeneratorfunction(inner) or inspect.isasyncgenfunction(inner):
        raise InvalidArgumentError(
            f"step `{name}`: `{getattr(inner, '__name__', 'fn')}` is a generator function, and a "
            f"generator can't be stored; return a list, or make each item a step of its own"
        )


def checked_process_options(name: str, process: Any, memory: Any) -> int | None:
    """Return the memory limit of a step in bytes, or ``None``.

    Raises :class:`InvalidArgumentError` for invalid values of ``process`` and ``memory``.
    """
    from polos._runtime.processes.memory import memory_size

    if not isinstance(process, bool):
        raise InvalidArgumentError(
            f"step `{name}`, process: {shown(process)} given, expected True or False"
        )
    if memory is None:
        return None
    if not process:
        raise InvalidArgumentError(
            f"step `{name}`, memory: {shown(memory)} given, and only a process can be limited: "
            f"pass `process=True`, too"
        )
    return memory_size(name, memory)


def warn_of_shadowed_options(name: str, fn: Callable[..., Any], given: Iterable[str]) -> None:
    """Warn once about an option of the step that is also a parameter of the function."""
    try:
        parameters = inspect.signature(fn).parameters
    except (TypeError, ValueError):  # written in C
        return
    for option in given:
        place = (location(fn), option)
        if option not in parameters or place in _warned or len(_warned) >= _WARNED_MAX:
            continue
        _warned.add(place)
        called = getattr(underlying(fn), "__name__", "fn")
        _log.warning(
            "step `%s`: `%s=` is an option of `ctx.step.run` and is not passed to `%s`, which has "
            "a parameter of the same name; to set that one, pass `functools.partial(%s, %s=...)`",
            name,
            option,
            called,
            called,
            option,
        )
