"""Display schedules, runs, and lists of them in a notebook. All data is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any, TypeVar

from polos._core.real_datetime import datetime

__all__ = ["Listed", "Shown"]

T = TypeVar("T")

_ROWS_MAX = 100
_TEXT_MAX = 200


def escape(text: str) -> str:
    """Escape the characters that are special in HTML."""
    import html  # for notebooks only

    return html.escape(text)


class Shown:
    """An object with fields that a notebook shows below one another, or as a row of a list."""

    __slots__ = ()

    def _fields_shown(self) -> dict[str, Any]:
        """Return the fields to show, name and value, most important first."""
        raise NotImplementedError

    def _repr_html_(self) -> str:
        fields = {name: value for name, value in self._fields_shown().items() if value is not None}
        rows = [[f"<th>{escape(name)}</th>", _cell(value)] for name, value in fields.items()]
        return _table([escape(type(self).__name__)], rows)


class Listed(list[T]):
    """A list that a notebook shows as a table."""

    def _repr_html_(self) -> str:
        items = [item._fields_shown() for item in self[:_ROWS_MAX] if isinstance(item, Shown)]
        if not items:
            return escape(repr(list(self)))
        names = [name for name in items[0] if any(item[name] is not None for item in items)]
        rows = [[_cell(item[name]) for name in names] for item in items]
        more = len(self) - len(items)
        footer = f"<p>and {more} more</p>" if more else ""
        return _table([escape(name) for name in names], rows) + footer


def _table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    span = ' colspan="2"' if len(headers) == 1 else ""
    head = "".join(f"<th{span}>{header}</th>" for header in headers)
    body = "".join(f"<tr>{''.join(row)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cell(value: Any) -> str:
    return f'<td style="text-align: left">{escape(_text(value))}</td>'


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S %Z}"
    if isinstance(value, (str, timedelta)):
        text = str(value)
    else:
        from polos._display.values import readable

        text = readable(value, _TEXT_MAX + 1)
    return text if len(text) <= _TEXT_MAX else f"{text[: _TEXT_MAX - 3]}..."
