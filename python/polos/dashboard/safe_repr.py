"""Format values of the application as text that is short, without ever raising.

Handlers and users wrote these values, so all text is hostile until the templates escape it. This
module keeps it short: a result of megabytes must not become a page of megabytes, nor take that
time.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Set
from datetime import time, timedelta
from typing import Any

from pydantic import BaseModel, SecretBytes, SecretStr

from polos._codec.unknown_classes import StoredValue
from polos._core.real_datetime import date, datetime
from polos._display.values import has_objects, readable
from polos._validate.formatting import printable, type_name

__all__ = ["TEXT_MAX", "as_objects", "as_text", "clipped"]

TEXT_MAX = 20_000
"""Characters that are shown of one value."""

_DEPTH_MAX = 40
_WIDTH = 88
_ITEM_COST = 4  # the least that an item takes: a bracket, a comma, a line end, a blank


def as_objects(value: Any) -> str:
    """Return ``value`` as Python would write it if it contains objects, else an empty text."""
    return clipped(readable(value, TEXT_MAX, _WIDTH)) if has_objects(value) else ""


def as_text(value: Any) -> str:
    """Return ``value`` as indented JSON, or as close to it as possible."""
    try:
        text = json.dumps(_Plain().of(value, 0), indent=2, ensure_ascii=False)
    except Exception as error:
        return f"a value of type {type_name(type(value))}; showing it raised {type(error).__name__}"
    return clipped(printable(text))


def clipped(text: str, limit: int = TEXT_MAX) -> str:
    """Return ``text``, cut after ``limit`` characters with a remark."""
    return text if len(text) <= limit else f"{text[:limit]}\n… the rest is not shown"


class _Plain:
    """Converts values to JSON types, as far as they will be shown."""

    def __init__(self) -> None:
        self._left = TEXT_MAX + 1

    def of(self, value: Any, depth: int) -> Any:
        """Convert ``value`` to JSON types: objects by fields, anything else by its ``repr``."""
        if value is None or isinstance(value, (bool, float)):
            return value
        if isinstance(value, int):
            return value if abs(value) < 1 << 1_000 else f"{value.bit_length():,} bits"
        if isinstance(value, str):
            return self._cut(value)
        if depth > _DEPTH_MAX:
            return "…"
        if type(value) is StoredValue:
            return self.of(value.data, depth)
        if isinstance(value, (SecretStr, SecretBytes)):
            return self._cut(str(value))
        if isinstance(value, BaseModel):
            # Not `model_dump`: it fails as a whole if JSON lacks one field's type. Secrets are
            # objects whose `repr` hides them.
            hidden = {name for name, field in type(value).model_fields.items() if not field.repr}
            return self._fields((pair for pair in value if pair[0] not in hidden), depth)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            names = (field.name for field in dataclasses.fields(value) if field.repr)
            return self._fields(((name, getattr(value, name, None)) for name in names), depth)
        if isinstance(value, Mapping):
            return self._fields(value.items(), depth)
        if isinstance(value, (list, tuple, Set)):
            return [self.of(item, depth + 1) for item in self._some(value)]
        if isinstance(value, (datetime, date, time)):
            return value.isoformat()
        if isinstance(value, timedelta):
            return str(value)
        if isinstance(value, (bytes, bytearray)):
            return f"{len(value):,} bytes"
        return self._cut(repr(value))

    def _fields(self, pairs: Iterable[tuple[Any, Any]], depth: int) -> dict[str, Any]:
        return {
            self._cut(str(name)): self.of(value, depth + 1) for name, value in self._some(pairs)
        }

    def _some(self, items: Iterable[Any]) -> Iterable[Any]:
        for item in items:
            if self._left <= 0:
                return
            self._left -= _ITEM_COST
            yield item

    def _cut(self, text: str) -> str:
        part = text[: max(self._left, 0)]
        self._left -= len(part)
        return part
