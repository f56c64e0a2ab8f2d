"""The dates of stored calendars, for calls that know no database."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from polos._validate.formatting import nearest, shown, type_name
from polos._validate.schedule_options import iso_date
from polos.exceptions import CalendarNotFoundError, InvalidArgumentError, InvalidScheduleError

__all__ = ["dates_of_calendars"]

_EXPECTED = "expected calendars, as `calendars.list(client)` returns, or a dict of names and dates"


def dates_of_calendars(named: Iterable[str], known: Any) -> dict[str, list[str]]:
    """Return the dates (ISO texts) of the calendars that a schedule names, from the argument
    ``calendars``: calendars, or a mapping of names to dates.
    """
    by_name = {} if known is None else _by_name(known)
    for name in named:
        if name in by_name:
            continue
        if known is None:
            raise InvalidScheduleError(
                f"skip: {shown(name)} names a stored calendar, and this call reads no database; "
                f"pass the calendars too: `calendars=await calendars.list(client)`, or "
                f"`calendars.sync.list(client)` without an event loop"
            )
        names = ", ".join(map(shown, sorted(by_name)[:5])) or "none"
        raise CalendarNotFoundError(
            f"skip: there is no calendar {shown(name)} among `calendars`, which has {names}"
            f"{nearest(name, by_name)}"
        )
    return {name: [iso_date("calendars", day) for day in by_name[name]] for name in named}


def _by_name(known: Any) -> dict[str, Iterable[Any]]:
    if isinstance(known, Mapping):
        return dict(known)
    try:
        return {calendar.name: calendar.dates for calendar in known}
    except (AttributeError, TypeError):
        raise InvalidArgumentError(
            f"calendars: {shown(known)} of type `{type_name(type(known))}` given, {_EXPECTED}"
        ) from None
