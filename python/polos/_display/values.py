"""Format values of the application for people: ``Order(id=17, email='ada@example.org')``.

Objects are shown by their fields, whether or not their class is known here, and never through their
own methods, which could reveal a secret. A ``SecretStr`` stays masked everywhere.
"""

from __future__ import annotations

import dataclasses
import enum
from base64 import b64encode
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Set
from datetime import time, timedelta
from typing import Any
from uuid import UUID

import pydantic  # the module only: the first access to a name in it loads most of pydantic

from polos._codec.class_shapes import is_named_tuple
from polos._codec.unknown_classes import StoredValue
from polos._core.real_datetime import date, datetime
from polos._validate.formatting import printable

__all__ = ["as_json_types", "has_objects", "readable"]

_DEPTH_MAX = 40
_LOOKED_AT_MAX = 20_000
_BRACKETS: dict[type, str] = {list: "[]", tuple: "()", set: "{}", deque: "[]", frozenset: "{}"}


def readable(value: Any, limit: int, width: int | None = None) -> str:
    """Return ``value`` as Python would write it, cut after about ``limit`` characters.

    The text is on one line, or broken into lines if it is wider than ``width``. Never raises.
    """
    try:
        return printable("\n".join(_Writer(limit, width).lines(value, 0)))
    except Exception as error:  # a property of the application's that raises
        return f"a value of type {type(value).__name__}; showing it raised {type(error).__name__}"


def has_objects(value: Any) -> bool:
    """Whether the value contains anything that JSON alone would not show accurately."""
    todo, seen = [value], 0
    while todo and seen < _LOOKED_AT_MAX:
        item = todo.pop()
        seen += 1
        if _fields_of(item) is not None or isinstance(item, enum.Enum):
            return True
        if isinstance(item, Mapping):
            todo.extend((*item.keys(), *item.values()))
        elif isinstance(item, (list, tuple, Set)):
            todo.extend(item)
    return False


def as_json_types(value: Any) -> Any:
    """Return ``value`` without classes: objects as dicts of their fields, secrets masked.

    Other types that JSON lacks, such as datetimes, stay as they are.
    """
    if type(value) is StoredValue and not isinstance(value.data, dict):
        return value.data
    if isinstance(value, (pydantic.SecretStr, pydantic.SecretBytes)):
        return str(value)
    fields = _fields_of(value)
    if fields is not None:
        return {name: as_json_types(item) for name, item in fields[1]}
    if isinstance(value, Mapping):
        return {
            key if isinstance(key, str) else _key(key): as_json_types(item)
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple, Set, deque)):
        return [as_json_types(item) for item in value]
    if isinstance(value, (bytes, bytearray)):
        try:
            return bytes(value).decode()
        except UnicodeDecodeError:
            return b64encode(value).decode()
    return value


def _key(key: Any) -> Any:
    if key is None or isinstance(key, (bool, int, float, enum.Enum, datetime, date, UUID)):
        return key
    return readable(key, 200)


def _fields_of(value: Any) -> tuple[str, list[tuple[str, Any]]] | None:
    """Return the name of an object's class, and the fields that may be shown."""
    cls = type(value)
    if cls is StoredValue:
        if not isinstance(value.data, dict):
            return None if value.kind == "url" else (_name(value.type_name), [])
        return _name(value.type_name), list(value.data.items())
    if pydantic.BaseModel in cls.__mro__:
        hidden = {name for name, field in cls.model_fields.items() if not field.repr}
        held = {**value.__dict__, **(value.__pydantic_extra__ or {})}
        return cls.__name__, [(n, v) for n, v in held.items() if n not in hidden]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value) if field.repr]
        return cls.__name__, [(name, getattr(value, name, None)) for name in names]
    if is_named_tuple(cls):
        return cls.__name__, list(zip(value._fields, value, strict=False))
    return None


def _name(type_name: str) -> str:
    return type_name.rpartition(":")[2].rpartition("<locals>.")[2]


class _Writer:
    """Writes one value and counts what it has written."""

    def __init__(self, limit: int, width: int | None) -> None:
        self._left = limit
        self._width = width

    def lines(self, value: Any, depth: int) -> list[str]:
        parts = self._parts(value, depth)
        if isinstance(parts, str):
            return [parts]
        opening, items, closing = parts
        if all(len(item) == 1 for item in items):
            comma = "," if opening == "(" and len(items) == 1 else ""
            whole = f"{opening}{', '.join(item for [item] in items)}{comma}{closing}"
            if self._width is None or len(whole) + 2 * depth <= self._width or not items:
                return [whole]
        lines = [opening]
        for item in items:
            lines += [f"  {line}" for line in item]
            lines[-1] += ","
        return [*lines, closing]

    def _parts(self, value: Any, depth: int) -> str | tuple[str, list[list[str]], str]:
        """Return the text of a value, or its brackets and the items between them."""
        if depth > _DEPTH_MAX:
            return "…"
        if type(value) is StoredValue and value.kind in ("enum", "flag"):
            dot = "." if value.kind == "enum" else " "
            return self._cut(f"{_name(value.type_name)}{dot}{value.data}")
        if isinstance(value, enum.Enum):
            name = getattr(value, "_name_", None)  # `None` for a combination of flags
            return self._cut(f"{type(value).__name__}.{name or value._value_}")
        fields = _fields_of(value)
        if fields is not None:
            name, pairs = fields
            return f"{name}(", list(self._pairs(pairs, "=", depth)), ")"
        if isinstance(value, Mapping):
            named = ((self._key(key), item) for key, item in value.items())
            return "{", list(self._pairs(named, ": ", depth)), "}"
        held = value
        for kind, brackets in _BRACKETS.items():
            if isinstance(value, kind):
                items = [self.lines(item, depth + 1) for item in self._some(held)]
                return brackets[0], items, brackets[1]
        return self._cut(self._text(value))

    def _pairs(
        self, pairs: Iterable[tuple[str, Any]], sign: str, depth: int
    ) -> Iterator[list[str]]:
        for name, item in self._some(pairs):
            lines = self.lines(item, depth + 1)
            yield [f"{self._cut(name)}{sign}{lines[0]}", *lines[1:]]

    def _key(self, key: Any) -> str:
        return " ".join(_Writer(200, None).lines(key, 0))

    def _text(self, value: Any) -> str:
        if isinstance(value, str):
            return repr(value[: max(self._left, 0) + 1])
        if isinstance(value, int) and abs(value) >= 1 << 1_000:
            return f"{value.bit_length():,} bits"
        if isinstance(value, (bytes, bytearray)):
            return f"{len(value):,} bytes"
        if isinstance(value, (datetime, date, time)):
            return value.isoformat()
        if isinstance(value, (timedelta, UUID)):
            return str(value)
        if type(value) is StoredValue:
            return str(value.data)
        return repr(value)

    def _some(self, items: Iterable[Any]) -> Iterator[Any]:
        for item in items:
            if self._left <= 0:
                return
            self._left -= 2
            yield item

    def _cut(self, text: str) -> str:
        part = text if len(text) <= self._left else f"{text[: max(self._left, 0)]}…"
        self._left -= len(part)
        return part
