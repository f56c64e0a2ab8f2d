"""What handlers and steps can do to a worker, by name, with the expected error."""

from __future__ import annotations

import asyncio
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any


class UnprintableError(Exception):
    """Raises a given error when it is converted to text."""

    def __init__(self, inner: BaseException) -> None:
        super().__init__()
        self.inner = inner

    def __str__(self) -> str:
        raise self.inner


class UnpicklableError(Exception):
    """Can't be pickled: `__reduce__` raises."""

    def __init__(self, one: object, two: object) -> None:
        super().__init__("holds a lock")
        self.lock = threading.Lock()

    def __reduce__(self) -> Any:
        raise TypeError("can't be pickled")


class OwnError(BaseException):
    """Derived from ``BaseException``."""


class UnreadableError(Exception):
    """Raises whenever an attribute is read."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError("don't look")


class EvilReduce:
    """A value that creates a file if it is pickled and unpickled."""

    def __reduce__(self) -> Any:
        return os.system, ("touch canary",)


def raising(error: BaseException | type[BaseException]) -> Callable[[], Any]:
    def act() -> None:
        raise error

    return act


def recurse() -> None:
    recurse()


def chain() -> None:
    error: Exception = ValueError("innermost")
    for number in range(5_000):
        outer = ValueError(f"layer {number}")
        outer.__cause__ = error
        error = outer
    raise error


def circle() -> None:
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    raise first


def noted() -> None:
    error = ValueError("noted")
    error.__notes__ = ["x" * 1_000_000] * 50  # type: ignore[attr-defined]
    raise error


def group(depth: int) -> Callable[[], Any]:
    def act() -> None:
        import builtins

        make = getattr(builtins, "BaseExceptionGroup", None)
        if make is None:  # before Python 3.11
            raise ValueError("two")
        error: BaseException = ValueError("two")
        for _ in range(depth):
            error = make("two", [error, KeyboardInterrupt("b")])
        raise error

    return act


@dataclass(frozen=True)
class Failure:
    """An act that fails, and the type and text of the error that its run must have."""

    act: Callable[[], Any]
    type: str
    text: str = ""
    in_step: bool = True


FAILURES: dict[str, Failure] = {
    "exception": Failure(raising(ValueError("wrong")), "ValueError", "wrong"),
    "exception-class": Failure(raising(LookupError), "LookupError"),
    "base-exception": Failure(raising(BaseException("base")), "BaseException", "base"),
    "own-base-exception": Failure(raising(OwnError("own")), "OwnError", "own"),
    "keyboard-interrupt": Failure(raising(KeyboardInterrupt("key")), "KeyboardInterrupt", "key"),
    "system-exit": Failure(lambda: sys.exit(3), "SystemExit", "3"),
    "system-exit-0": Failure(lambda: sys.exit(), "SystemExit"),
    # A function that raises this can't be distinguished from a coroutine that is closed.
    "generator-exit": Failure(raising(GeneratorExit("gen")), "GeneratorExit", "gen", in_step=False),
    "cancelled": Failure(raising(asyncio.CancelledError("self")), "CancelledError", "self"),
    "stop-iteration": Failure(raising(StopIteration(1)), "RuntimeError", "StopIteration"),
    "stop-async-iteration": Failure(raising(StopAsyncIteration(1)), ""),
    "timeout": Failure(raising(TimeoutError("mine")), "TimeoutError", "mine"),
    "memory": Failure(raising(MemoryError("full")), "MemoryError", "full"),
    "really-no-memory": Failure(lambda: bytearray(1 << 60), "MemoryError"),
    "recursion": Failure(recurse, "RecursionError", "recursion"),
    "unprintable": Failure(
        raising(UnprintableError(RuntimeError())), "UnprintableError", "__str__"
    ),
    "unprintable-exit": Failure(
        raising(UnprintableError(SystemExit(9))), "UnprintableError", "Exit"
    ),
    "unprintable-interrupt": Failure(
        raising(UnprintableError(KeyboardInterrupt())), "UnprintableError", "KeyboardInterrupt"
    ),
    "unpicklable": Failure(raising(UnpicklableError(1, 2)), "UnpicklableError", "holds a lock"),
    "unreadable": Failure(raising(UnreadableError("x")), "UnreadableError"),
    "long": Failure(raising(ValueError("x" * 5_000_000)), "ValueError", "characters"),
    "odd-text": Failure(raising(ValueError("a\0b \ud800 \u202e😀")), "ValueError", "😀"),
    "chain-of-5000": Failure(chain, "ValueError", "layer 4999"),
    "circle-of-causes": Failure(circle, "ValueError", "first"),
    "fifty-megabytes-of-notes": Failure(noted, "ValueError", "noted"),
    "group": Failure(group(1), "Group" if sys.version_info >= (3, 11) else "ValueError", "two"),
    "group-of-500-levels": Failure(
        group(500), "Group" if sys.version_info >= (3, 11) else "ValueError", "two"
    ),
    "syntax": Failure(lambda: compile("def", "x", "exec"), "SyntaxError"),
    "unicode": Failure(lambda: b"\xff".decode(), "UnicodeDecodeError"),
}


def itself() -> list[Any]:
    items: list[Any] = []
    items.append(items)
    return items


def nested(depth: int) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = [value]
    return value


class Scalar:
    """Looks like a number type of a library."""

    def __int__(self) -> int:
        return 7

    def __index__(self) -> int:
        return 7


def iter_nothing() -> Iterator[int]:
    yield 0


UNSTORABLE: dict[str, Callable[[], Any]] = {
    "object": object,
    "lambda": lambda: lambda: 1,
    "lock": threading.Lock,
    "open-file": lambda: open(os.devnull),  # noqa: SIM115
    "generator": lambda: iter_nothing(),
    "coroutine-function": lambda: asyncio.sleep,
    "class": lambda: int,
    "module": lambda: os,
    "list-of-itself": itself,
    "evil-reduce": EvilReduce,
    "scalar": Scalar,
    "deep-inside": lambda: {"a": [{"b": (1, object())}]},
    "nested-10000": lambda: nested(10_000),
    "17-mebibytes": lambda: "x" * (17 << 20),
    "64-mebibytes": lambda: "x" * (64 << 20),
    "naive-in-a-thread": lambda: threading.local(),
}

# Values that are stored and must be returned unchanged.
STORABLE: dict[str, Callable[[], Any]] = {
    "none": lambda: None,
    "false": lambda: False,
    "empty": lambda: ["", [], {}, 0],
    "1-kibibyte": lambda: "x" * (1 << 10),
    "1-mebibyte": lambda: "x" * (1 << 20),
    "15-mebibytes": lambda: "x" * (15 << 20),
    "many-small": lambda: {f"key {number}": number for number in range(100_000)},
    "nested-100": lambda: nested(100),
    "infinity": lambda: [math.inf, -math.inf],
    "minus-zero": lambda: -0.0,
    "smallest": lambda: [5e-324, 1.7976931348623157e308, 0.1 + 0.2],
    "beyond-63-bits": lambda: [2**63, -(2**63) - 1, 2**64, 10**1000],
    "last-63-bits": lambda: [2**63 - 1, -(2**63)],
    "nul": lambda: "a\0b",
    "line-ends": lambda: "a\r\nb\u2028c\u0085",
    "marks": lambda: "\u202eabc\ufeff\U0010ffff",
    "naive-datetime": lambda: datetime(2026, 10, 25, 2, 30, fold=1),
    "decimal": lambda: Decimal("1E+1000"),
    "complex": lambda: 1j,
    "bytes": lambda: bytes(range(256)),
    "sets-and-tuples": lambda: ({1, 2}, (1, (2,))),
    "odd-keys": lambda: {"": 1, "$polos": 2, "a\0b": 3, "__proto__": 4},
    "integers-as-keys": lambda: {1: "a", None: "b", (1, 2): "c"},
    "surrogates": lambda: "\ud800 alone",
    "nan": lambda: math.nan,
}


def same(one: Any, other: Any) -> bool:
    """Compare value and type. Floats are compared as text, which distinguishes NaN and -0.0."""
    if isinstance(one, (float, datetime)):
        return repr(one) == repr(other)
    return type(one) is type(other) and bool(one == other)


async def hang() -> None:
    """Never return."""
    await asyncio.Event().wait()


async def swallow() -> None:
    """Never return, even if cancelled."""
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            continue


async def dawdle() -> None:
    """When cancelled, clean up slowly, then end as cancelled."""
    try:
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(0.5)


async def answer_anyway() -> str:
    """When cancelled, return a value."""
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        return "too late"
    return "never"


async def fail_anyway() -> None:
    """When cancelled, raise another error."""
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError as cancelled:
        raise ValueError("instead") from cancelled


def sleep_in_thread() -> None:
    """Block a thread for an hour; threads can't be stopped."""
    time.sleep(3600)


HANGING: dict[str, Callable[[], Any]] = {
    "hang": hang,
    "swallow": swallow,
    "dawdle": dawdle,
    "answer-anyway": answer_anyway,
    "fail-anyway": fail_anyway,
    "thread": sleep_in_thread,
}
