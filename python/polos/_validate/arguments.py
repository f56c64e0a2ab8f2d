"""Arguments of more than one function."""

from __future__ import annotations

from typing import Any

from polos._validate.formatting import shown
from polos.exceptions import InvalidArgumentError

__all__ = ["count_of", "one_of"]


def count_of(name: str, value: Any, *, least: int = 0, most: int = 1_000_000) -> int:
    """Return ``value`` if it is a whole number of ``least`` or more; ``name`` is for the error."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise InvalidArgumentError(
            f"{name}: {shown(value)} given, expected a whole number of {least} or more"
        )
    return value


def one_of(name: str, value: Any, allowed: tuple[str, ...]) -> str:
    """Return ``value`` if it is one of ``allowed``; ``name`` is for the error."""
    if isinstance(value, str) and value in allowed:
        return value
    listed = ", ".join(f"`{item}`" for item in allowed)
    raise InvalidArgumentError(f"{name}: {shown(value)} given, expected one of {listed}")
