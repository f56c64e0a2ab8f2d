"""Values of options: JSON, dates, and words of a list."""

from __future__ import annotations

import json
from datetime import date
from typing import Any

from polos._validate.formatting import nearest, shown
from polos._validate.schedule_options import check_calendar_name
from polos.exceptions import InvalidArgumentError

__all__ = ["json_value", "skipped_day", "status_value", "tags_given"]


def json_value(option: str, text: str, example: str) -> Any:
    """Return what ``text`` says. Raises :class:`InvalidArgumentError` if it is not JSON."""
    try:
        return json.loads(text, parse_constant=_refuse)
    except ValueError as error:
        raise InvalidArgumentError(
            f"{option}: {shown(text)} isn't JSON ({error}); expected such as '{example}'"
        ) from None


def skipped_day(option: str, text: str) -> date | str:
    """Return a date, or a cron expression or the name of a calendar as it is. Raises
    :class:`InvalidArgumentError` for another text.
    """
    if text.startswith("cron:") or (text[:1].isascii() and text[:1].isalpha()):
        return check_calendar_name(option, text) if ":" not in text else text
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise InvalidArgumentError(
            f"{option}: {shown(text)} isn't a date; expected one such as `2026-12-25`, "
            f"`cron:* * 1 * *`, or the name of a calendar"
        ) from None


def tags_given(texts: list[str] | None) -> dict[str, str] | None:
    """Return what values of ``--tag`` name, or ``None`` without any.

    Raises :class:`InvalidArgumentError` unless each is NAME=VALUE with a name of its own.
    """
    tags: dict[str, str] = {}
    for text in texts or []:
        name, separator, value = text.partition("=")
        if not (name and separator and value):
            raise InvalidArgumentError(
                f"--tag: {shown(text)} given, expected NAME=VALUE such as `team=billing`"
            )
        if tags.setdefault(name, value) != value:
            raise InvalidArgumentError(
                f"--tag: {shown(name)} is given the values {shown(tags[name])} and "
                f"{shown(value)}; a tag has one"
            )
    return tags or None


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
