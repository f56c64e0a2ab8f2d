"""Change all schedules that match filters, after a question."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, NamedTuple

from polos import schedules
from polos.cli.ui.confirm import confirmed
from polos.cli.ui.console import TYPED_WRONG, fail, say
from polos.cli.ui.progress import advancing
from polos.cli.ui.words import counted
from polos.client import PolosClient
from polos.exceptions import InvalidStateError, ScheduleNotFoundError

__all__ = [
    "DELETING",
    "PAUSING",
    "RESUMING",
    "change_matching",
    "change_pages",
    "either_names_or_filters",
    "filters_given",
]

# Schedules that are changed at a time.
_PAGE = 500

_Change = Callable[[PolosClient, str], Awaitable[Any]]


class Words(NamedTuple):
    """What a command says about itself."""

    verb: str
    doing: str
    done: str


PAUSING = Words("pause", "pausing", "paused")
RESUMING = Words("resume", "resuming", "resumed")
DELETING = Words("delete", "deleting", "deleted")


def filters_given(names: list[str] | None, **given: Any) -> dict[str, Any]:
    """Return the filters that were given. Exits unless there are either names or filters."""
    filters = {name: value for name, value in given.items() if value is not None}
    either_names_or_filters("schedules", "--workflow", bool(names), bool(filters))
    return filters


def either_names_or_filters(what: str, example: str, has_names: bool, has_filters: bool) -> None:
    """Exit if there are both names and filters, or neither."""
    if has_names and has_filters:
        fail(f"name the {what} or pass filters such as {example}, not both", TYPED_WRONG)
    if not has_names and not has_filters:
        fail(f"name the {what}, or pass filters such as {example}", TYPED_WRONG)


def change_matching(
    client: PolosClient, filters: dict[str, Any], words: Words, change: _Change, yes: bool
) -> None:
    """Change all schedules that match, and say how many.

    A schedule that was changed must match no longer. Exits if the user does not confirm.
    """
    first = _page(client, filters)
    if not first:
        say(f"no schedules to {words.verb}")
        return
    is_all = len(first) < _PAGE
    many = counted(len(first), "schedule") if is_all else f"{len(first):,} schedules or more"
    confirmed(f"{words.verb.capitalize()} {many}?", yes)
    # Always read the first page: the schedules of the one before match no longer.
    pages = itertools.chain([first], iter(lambda: _page(client, filters), []))
    change_pages(client, pages, len(first) if is_all else None, words, change)


def change_pages(
    client: PolosClient,
    pages: Iterable[list[str]],
    total: int | None,
    words: Words,
    change: _Change,
) -> None:
    """Change the schedules with these ids, a page at a time, and say how many.

    Exits with the reason if none of a page can be changed.
    """
    count = 0
    with advancing(words.doing, total) as advance:
        for page in pages:
            changed, refused = asyncio.run(_change_all(client, page, change))
            count += changed
            if len(refused) == len(page):
                fail(f"{words.done} {counted(count, 'schedule')}; the next one: {refused[0]}")
            advance(len(page))
    say(f"{words.done} {counted(count, 'schedule')}")


def _page(client: PolosClient, filters: dict[str, Any]) -> list[str]:
    found = schedules.sync.list(client, limit=_PAGE, **filters)
    return [schedule.id for schedule in found]


async def _change_all(
    client: PolosClient, ids: list[str], change: _Change
) -> tuple[int, list[InvalidStateError]]:
    """Change schedules concurrently, so that they share commits.

    Returns how many were changed, and why the others could not be.
    """

    async def one(id: str) -> InvalidStateError | bool:
        try:
            await change(client, id)
        except ScheduleNotFoundError:  # another process was faster
            return False
        except InvalidStateError as error:
            return error
        return True

    results = await asyncio.gather(*map(one, ids))
    refused = [result for result in results if isinstance(result, InvalidStateError)]
    return sum(result is True for result in results), refused
