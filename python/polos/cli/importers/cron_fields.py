"""Convert cron fields of other tools, as sets of numbers, to the text that polos takes."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import NamedTuple

__all__ = ["MONTHS", "DayFields", "expand", "render", "render_days"]

MONTHS = {
    name: number
    for number, name in enumerate(
        ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"], 1
    )
}


def expand(
    text: str, low: int, high: int, names: Mapping[str, int], *, wraps: bool = False
) -> set[int]:
    """Return the numbers of a field: `*`, `*/n`, `a`, `a-b`, `a-b/n`, `a/n`, and lists.

    ``wraps``: a range may run backwards, as `fri-mon`. Raises ``ValueError`` for anything else.
    """
    found: set[int] = set()
    for part in text.lower().split(","):
        match = re.fullmatch(r"\s*(\*|\w+)(?:-(\w+))?(?:/(\d+))?\s*", part)
        if match is None:
            raise ValueError(f"`{part}` is not understood")
        first, last, step = match.groups()
        begin = low if first == "*" else _number(first, names)
        end = high if first == "*" or (last is None and step) else _number(last or first, names)
        if step == "0":
            raise ValueError(f"`{part}` has a step of 0")
        numbers = [*range(begin, end + 1)]
        if wraps and end < begin:
            numbers = [*range(begin, high + 1), *range(low, end + 1)]
        found |= set(numbers[:: int(step or 1)])
    if not found or min(found) < low or max(found) > high:
        raise ValueError(f"`{text}` is out of range")
    return found


def _number(text: str, names: Mapping[str, int]) -> int:
    if text.isdigit():
        return int(text)
    if text not in names:
        raise ValueError(f"`{text}` is not understood")
    return names[text]


def render(numbers: Collection[int], low: int, high: int, *, starred: bool = False) -> str:
    """Return a field with these numbers, as short as possible.

    ``starred``: the tool wrote `*`, so a step may be written so. It changes what happens when
    clocks change.
    """
    ordered = sorted(numbers)
    if len(ordered) == high - low + 1:
        return "*"
    if starred and len(ordered) > 1:
        step = ordered[1] - ordered[0]
        if ordered == list(range(low, high + 1, step)):
            return f"*/{step}"
    parts: list[str] = []
    start = 0
    for index in range(1, len(ordered) + 1):
        if index == len(ordered) or ordered[index] != ordered[index - 1] + 1:
            first, last = ordered[start], ordered[index - 1]
            parts += [f"{first}-{last}"] if last > first + 1 else map(str, range(first, last + 1))
            start = index
    return ",".join(parts)


class DayFields(NamedTuple):
    """The two day fields of a cron expression, and the options that they need."""

    day: str
    weekday: str
    options: Mapping[str, str] = {}


def render_days(days: Collection[int], weekdays: Collection[int]) -> DayFields:
    """Return the two day fields of days that are in both sets; Sunday is 0.

    polos, as cron, takes a day that is in *either* set, unless a field begins with `*`, or
    ``days="and"`` asks for both.
    """
    if len(weekdays) == 7:
        return DayFields(render(days, 1, 31), "*")
    if len(days) == 31:
        return DayFields("*", render(weekdays, 0, 6))
    for starred in (render(days, 1, 31, starred=True), render(weekdays, 0, 6, starred=True)):
        if starred.startswith("*"):
            return DayFields(
                render(days, 1, 31, starred=True), render(weekdays, 0, 6, starred=True)
            )
    weeks = [k for k in range(1, 5) if set(range(7 * k - 6, 7 * k + 1)) <= set(days)]
    if len(days) == 7 * len(weeks):  # the first Monday, and the like
        names = [f"{weekday}#{week}" for weekday in sorted(weekdays) for week in weeks]
        return DayFields("*", ",".join(names))
    return DayFields(render(days, 1, 31), render(weekdays, 0, 6), {"days": "and"})
