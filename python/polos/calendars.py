"""Stored calendars: named lists of dates that schedules skip. :data:`sync` has blocking versions.

A schedule names a calendar in ``skip``. When the calendar changes, every schedule that names it
follows, without a restart.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from polos._core import requests
from polos._core.blocking import blocking
from polos._validate.schedule_options import check_calendar_name, iso_date
from polos.client import checked_client

if TYPE_CHECKING:
    import builtins
    from datetime import date

    from polos.client import PolosClient
    from polos.models import Calendar

__all__ = ["delete", "get", "list", "parse", "set", "sync"]


async def set(client: PolosClient, name: str, dates: Iterable[date | str]) -> Calendar:
    """Create a calendar or replace its dates, and return it.

    Schedules that name it follow within a second or two; slots that a worker has claimed shortly
    ahead of their time, or that wait for their jitter, are decided already. A schedule that is
    broken because the calendar did not exist continues, by its catch-up policy.

    :param name: what schedules call it in ``skip``, such as ``"us-holidays"``: a letter, then
        letters, digits, ``-``, ``_``, and ``.``, at most 100 characters.
    :param dates: dates, or texts such as ``2026-12-25``, at most 10,000. :func:`parse` reads them
        from a file; a mapping whose keys are dates, such as ``holidays.US(years=2026)``, is fine.

    Raises :class:`InvalidArgumentError`.
    """
    name = check_calendar_name("calendars.set, name", name)
    texts = [iso_date("calendars.set, dates", day) for day in dates]
    return _calendar(await checked_client(client)._ask(requests.set_calendar(name, texts)))


def parse(text: str, *, until: date | None = None) -> builtins.list[date]:
    """Return the dates that a calendar file names, sorted, each once.

    :param text: an iCalendar file (``BEGIN:VCALENDAR``), or one date such as ``2026-12-25`` per
        line; ``#`` begins a comment. Of iCalendar, each day of each event counts: ``DTSTART`` with
        ``DTEND`` or ``DURATION`` as written, without a change of time zone, ``RDATE``, ``EXDATE``,
        and an ``RRULE`` with ``FREQ=YEARLY``. Cancelled events don't count.
    :param until: the last date of rules without an end: by default the end of the tenth year from
        now.

    Raises :class:`InvalidArgumentError`, which names the line, for anything else.
    """
    from polos._validate.calendar_files import dates_in  # few programs need it

    return dates_in(text, until)


async def get(client: PolosClient, name: str) -> Calendar:
    """Return a calendar. Raises :class:`CalendarNotFoundError`, which names those there are."""
    name = check_calendar_name("calendars.get, name", name)
    return _calendar(await checked_client(client)._ask(requests.get_calendar(name)))


async def list(client: PolosClient) -> builtins.list[Calendar]:
    """Return all calendars of the project, by name."""
    found = await checked_client(client)._ask(requests.list_calendars())
    return [_calendar(core) for core in found]


async def delete(client: PolosClient, name: str) -> None:
    """Delete a calendar that no schedule names.

    Raises :class:`CalendarNotFoundError`, and :class:`InvalidStateError` for one that schedules
    name; the message says which.
    """
    name = check_calendar_name("calendars.delete, name", name)
    await checked_client(client)._ask(requests.delete_calendar(name))


def _calendar(core: Any) -> Calendar:
    from polos.models import Calendar

    return Calendar._from_core(core)


class sync:
    """The same for code without an event loop. It blocks the calling thread."""

    set = staticmethod(blocking(set))
    get = staticmethod(blocking(get))
    list = staticmethod(blocking(list))
    delete = staticmethod(blocking(delete))
