"""Limit and measure the memory of a step's process."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Literal

from polos._validate.formatting import shown
from polos.exceptions import InvalidArgumentError

__all__ = [
    "MEMORY_MIN",
    "MemoryLimit",
    "amount",
    "memory_size",
    "peak_of",
    "peak_so_far",
    "reset_peak",
    "used",
]

MEMORY_MIN = 32 << 20
"""The smallest limit: less than that does not even hold the interpreter."""

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:I?B)?", re.IGNORECASE)


def memory_size(step: str, value: object) -> int:
    """Return a limit such as ``"512M"``, ``"1.5G"``, or a number of bytes, in bytes."""
    size = None
    if isinstance(value, int) and not isinstance(value, bool):
        size = value
    elif isinstance(value, str) and (found := _SIZE.fullmatch(value.strip())):
        size = int(float(found.group(1)) * _UNITS[found.group(2).upper()])
    if size is None or size > 1 << 60:
        raise InvalidArgumentError(
            f"step `{step}`, memory: {shown(value)} given, expected a size such as `512M` or "
            f"`1.5G`, or a number of bytes"
        )
    if size < MEMORY_MIN:
        raise InvalidArgumentError(
            f"step `{step}`, memory: {shown(value)} given, expected at least {amount(MEMORY_MIN)}, "
            f"because the interpreter needs that much"
        )
    return size


def amount(size: int) -> str:
    """Return a size for a message: ``312M``, ``1.5G``."""
    for unit in ("G", "M", "K"):
        if size >= _UNITS[unit]:
            value = size / _UNITS[unit]
            return f"{value:.0f}{unit}" if value >= 10 else f"{value:.1f}{unit}".replace(".0", "")
    return f"{size} bytes"


def used() -> int | None:
    """Return how much private memory this process has allocated; ``None`` if unknown."""
    return _of_status("self", "VmData")


def peak_of(process: int | Literal["self"]) -> int | None:
    """Return the largest resident memory of a process so far, in bytes; ``None`` if unknown."""
    return _of_status(str(process), "VmHWM")


def peak_so_far() -> int:
    """Return the largest resident memory that the system has accounted to this process."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def reset_peak() -> None:
    """Reset :func:`peak_of` for this process, if the system can do that."""
    with suppress(OSError), open("/proc/self/clear_refs", "w") as file:
        file.write("5")


class MemoryLimit:
    """Limits the memory of this process, as a context manager.

    On Linux the limit counts what the process has allocated for itself (``RLIMIT_DATA``): code and
    mapped files do not count. Shared memory may take as much again (``RLIMIT_AS``). An allocation
    beyond the limit fails, which Python reports as ``MemoryError``.
    """

    def __init__(self, size: int | None) -> None:
        self._size = size
        self._undo: list[Callable[[], None]] = []

    def __enter__(self) -> None:
        if self._size is None:
            return
        import resource

        wanted = {resource.RLIMIT_DATA: self._size}
        space = _of_status("self", "VmSize")
        if space is not None:
            wanted[resource.RLIMIT_AS] = space + self._size
        for kind, size in wanted.items():
            soft, hard = resource.getrlimit(kind)
            bounds = [bound for bound in (size, soft, hard) if bound != resource.RLIM_INFINITY]
            with suppress(OSError, ValueError):  # the system has no such limit
                resource.setrlimit(kind, (min(bounds), hard))
                self._undo.append(partial(resource.setrlimit, kind, (soft, hard)))

    def __exit__(self, *raised: object) -> None:
        for undo in self._undo:
            with suppress(OSError, ValueError):
                undo()


def _of_status(process: str, field: str) -> int | None:
    try:
        with open(f"/proc/{process}/status", "rb") as file:
            for line in file:
                if line.startswith(field.encode() + b":"):
                    return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):  # another system, or the process has ended
        pass
    return None
