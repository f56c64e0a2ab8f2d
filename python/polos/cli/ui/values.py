"""Values of options: JSON, dates, and words of a list."""

from __future__ import annotations

import json
from datetime import date
from typing import Any

from polos._validate.formatting import nearest, shown
from polos.exceptions import InvalidArgumentError

__all__ = ["day", "json_value", "status_value"]


def json_value(option: str, text: str, example: str) -> Any:
    """Return what ``text`` says. Raises :class:`InvalidArgumentError` if it is not JSON."""
    try:
        return json.loads(text, parse_constant=_refuse)
    except ValueError as error:
        raise InvalidArgumentError(
            f"{option}: {shown(text)} isn't JSON ({error}); expected such as '{example}'"
        ) from None


def day(option: str, text: str) -> date:
    """Return a date. Raises :class:`InvalidArgumentError` for another text."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise InvalidArgumentError(
            f"{option}: {shown(text)} isn't a date; expected one such as `2026-12-25`"
        ) from None


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")


def status_value(given: str, known: tuple[str, ...]) -> str:
    """Return ``given`` if it is a known status; raise :class:`InvalidArgumentError` otherwise."""
    if given in known:
        return given
    listed = ", ".join(f"`{status}`" for status in known)
    raise InvalidArgumentError(
        f"--status: {shown(given)} given, expected one of {listed}{nearest(given, known)}"
    )
