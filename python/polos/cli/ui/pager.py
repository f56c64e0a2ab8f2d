"""Print lists that can have a million rows: read page by page, and print each page at once."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Annotated, Any, TypeVar

import typer

from polos.cli.ui.console import say

__all__ = ["After", "All", "Limit", "listed"]

ItemT = TypeVar("ItemT")

_PAGE = 1_000

Limit = Annotated[
    int,
    typer.Option(
        "--limit", "-n", metavar="N", min=1, max=1_000_000, help="Maximum number of rows."
    ),
]
After = Annotated[
    str | None,
    typer.Option("--after", metavar="ID", help="Continue after this id, the last one shown."),
]
All = Annotated[bool, typer.Option("--all", help="List all rows.")]


def listed(
    read: Callable[[int, str | None], list[ItemT]],
    print_page: Callable[[list[ItemT]], Any],
    *,
    limit: int | None,
    after: str | None,
    nothing: str,
) -> None:
    """Print ``read(count, after)`` page by page; say if there is nothing, or more."""
    count, last = 0, after
    for page in _pages(read, None if limit is None else limit + 1, after):
        room = len(page) if limit is None else limit - count
        shown = page[:room]
        if shown:
            print_page(shown)
            count += len(shown)
            last = _id(shown[-1])
        if len(page) > room:
            say(f"there are more: pass --after {last} for the next rows, --all for all")
    if not count:
        say(nothing)


def _pages(
    read: Callable[[int, str | None], list[ItemT]], most: int | None, after: str | None
) -> Iterator[list[ItemT]]:
    left = sys.maxsize if most is None else most
    while left > 0:
        count = min(_PAGE, left)
        page = read(count, after)
        if page:
            yield page
        if len(page) < count:
            return
        left -= count
        after = _id(page[-1])


def _id(item: Any) -> str:
    found: str = item.id
    return found
