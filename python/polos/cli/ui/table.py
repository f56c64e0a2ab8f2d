"""Rows under headings. A pipe gets them whole; on a terminal they fit its width."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from polos.cli.ui.console import out, plain, styled, width

__all__ = ["Cell", "Column", "Row", "Table", "cell_width", "cut", "facts"]

_GAP = 2
_LEAST = 8


@dataclass(frozen=True)
class Column:
    """A column, and how to shrink it if there is not enough room."""

    title: str
    least: int | None = None
    """It may be cut down to this width before others are omitted, and below it where there is no
    other way; ``None``: it is never cut.
    """

    rank: int = 0
    """On a narrow terminal those of the highest rank are omitted first; 0 stays."""

    is_number: bool = False
    is_name: bool = False
    """It is cut in its middle: names differ at their ends."""


@dataclass(frozen=True)
class Cell:
    """A text with a style."""

    text: str
    style: str | None = None


Row = Sequence[Cell | str | None]


class Table:
    """Prints rows page by page; column widths never shrink."""

    def __init__(self, *columns: Column) -> None:
        self._columns = columns
        self._widths = [0] * len(columns)
        self._has_head = False
        self._hidden: set[int] = set()

    def add(self, rows: Iterable[Row]) -> None:
        """Print rows, the first time below the headings."""
        for line in self.lines(rows):
            out(line)

    def lines(self, rows: Iterable[Row]) -> Iterator[str]:
        """Return rows as lines, the first time below the headings."""
        cells = [[_cell(value) for value in row] for row in rows]
        if not cells:
            return
        if not self._has_head:
            titles = [cell_width(column.title) for column in self._columns]
            self._widths = [max(pair) for pair in zip(self._widths, titles, strict=True)]
            if width() is not None:
                # Hide empty columns from people; scripts need the same columns each time.
                self._hidden = {
                    index
                    for index, column in enumerate(self._columns)
                    if column.rank and not any(row[index].text for row in cells)
                }
        for row in cells:
            for index, cell in enumerate(row):
                self._widths[index] = max(self._widths[index], cell_width(cell.text))
        shown, widths = self._fit()
        if not self._has_head:
            self._has_head = True
            head = [Cell(column.title, "dim") for column in self._columns]
            yield self._line(head, shown, widths)
        for row in cells:
            yield self._line(row, shown, widths)

    def _line(self, row: list[Cell], shown: list[int], widths: list[int]) -> str:
        parts = []
        for index in shown:
            cell, size = row[index], widths[index]
            text = (cut_inside if self._columns[index].is_name else cut)(cell.text, size)
            space = " " * (size - cell_width(text))
            text = styled(text, cell.style)
            parts.append(space + text if self._columns[index].is_number else text + space)
        return (" " * _GAP).join(parts).rstrip()

    def _fit(self) -> tuple[list[int], list[int]]:
        """Decide which columns to show, and how wide each is."""
        shown = [i for i in range(len(self._columns)) if i not in self._hidden]
        room = width()
        if room is None:
            return shown, self._widths
        while True:
            widths = self._squeezed(shown, room)
            if self._total(shown, widths) <= room:
                return shown, widths
            rank = max(self._columns[index].rank for index in shown)
            if rank == 0:
                return shown, self._squeezed(shown, room, least=_LEAST)
            shown.remove(max(i for i in shown if self._columns[i].rank == rank))

    def _squeezed(self, shown: list[int], room: int, least: int | None = None) -> list[int]:
        """Return widths that fit, if cutting helps: the widest column is cut first."""
        widths = list(self._widths)
        excess = self._total(shown, widths) - room
        while excess > 0:
            able = [i for i in shown if widths[i] > self._floor(i, least)]
            if not able:
                break
            widest = max(able, key=lambda index: widths[index])
            widths[widest] -= 1
            excess -= 1
        return widths

    def _floor(self, index: int, least: int | None) -> int:
        own = self._columns[index].least
        return self._widths[index] if own is None else least or own

    @staticmethod
    def _total(shown: list[int], widths: list[int]) -> int:
        return sum(widths[index] for index in shown) + _GAP * (len(shown) - 1)


def facts(pairs: Iterable[tuple[str, Cell | str | None]]) -> None:
    """Print names and values, one pair per line; pairs without a value are omitted."""
    cells = [(name, _cell(value)) for name, value in pairs]
    rows = [(name, cell) for name, cell in cells if cell.text]
    size = max((cell_width(name) for name, _ in rows), default=0)
    for name, cell in rows:
        out(f"{styled(name.ljust(size), 'dim')}  {styled(cell.text, cell.style)}".rstrip())


def _cell(value: Cell | str | None) -> Cell:
    if isinstance(value, Cell):
        return Cell(plain(value.text), value.style)
    return Cell(plain(value or ""))


def cell_width(text: str) -> int:
    """Return how many columns of a terminal ``text`` takes."""
    if text.isascii():
        return len(text)
    return sum(map(_character_width, text))


def _character_width(character: str) -> int:
    if unicodedata.combining(character) or unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def cut(text: str, size: int) -> str:
    """Return ``text``, cut with ``…`` if it is wider than ``size``."""
    if cell_width(text) <= size:
        return text
    kept, used = [], 0
    for character in text:
        used += _character_width(character)
        if used > size - 1:
            break
        kept.append(character)
    return "".join(kept) + "…"


def cut_inside(text: str, size: int) -> str:
    """Return ``text`` with ``…`` in its middle if it is wider than ``size``."""
    if cell_width(text) <= size:
        return text
    head = cut(text, size // 2)
    room = size - cell_width(head)
    tail = ""
    for character in reversed(text):
        if cell_width(character + tail) > room:
            break
        tail = character + tail
    return head + tail
