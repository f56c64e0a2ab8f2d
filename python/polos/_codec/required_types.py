"""Find a placeholder where an annotation requires a type."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterable, Iterator, Mapping, Set
from types import NoneType, UnionType
from typing import Any

import pydantic  # the module only: the first access to a name in it loads most of pydantic

from polos._codec.class_shapes import is_named_tuple
from polos._codec.unknown_classes import StoredValue
from polos._validate.formatting import is_class

__all__ = ["misplaced"]


def misplaced(value: Any, hint: Any) -> StoredValue | None:
    """Return a :class:`StoredValue` in ``value`` where ``hint`` requires some type, or ``None``.
    ``Any``, ``object``, and missing annotations require nothing.
    """
    if hint is None or hint is Any or hint is object:
        return None
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return misplaced(value, arguments[0])
    if origin in (typing.Union, UnionType):
        found = [misplaced(value, part) for part in arguments if part is not NoneType]
        return None if None in found or not found else found[0]
    for name in ("__supertype__", "__value__"):  # NewType; `type X = ...`
        if origin is None and not is_class(hint) and hasattr(hint, name):
            return misplaced(value, getattr(hint, name))
    if type(value) is StoredValue:
        return value if origin is not None or is_class(hint) else None
    return next((bad for bad in _inside(value, arguments) if bad is not None), None)


def _inside(value: Any, arguments: tuple[Any, ...]) -> Iterator[StoredValue | None]:
    cls = type(value)
    if pydantic.BaseModel in cls.__mro__:
        for name, field in cls.model_fields.items():
            yield misplaced(value.__dict__.get(name), field.annotation)
    elif is_named_tuple(cls) or dataclasses.is_dataclass(cls):
        try:
            hints = typing.get_type_hints(cls, include_extras=True)
        except Exception:  # names that can't be resolved require nothing
            return
        held = zip(cls._fields, value, strict=False) if is_named_tuple(cls) else _fields(value)
        for name, item in held:
            yield misplaced(item, hints.get(name))
    elif not arguments:
        return
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield misplaced(key, arguments[0])
            yield misplaced(item, arguments[-1])
    elif cls is tuple and len(arguments) > 1 and arguments[-1] is not ...:
        for item, hint in zip(value, arguments, strict=False):
            yield misplaced(item, hint)
    elif isinstance(value, (list, tuple, Set)) or cls.__name__ == "deque":
        for item in value:
            yield misplaced(item, arguments[0])


def _fields(value: Any) -> Iterable[tuple[str, Any]]:
    return [(field.name, getattr(value, field.name, None)) for field in dataclasses.fields(value)]
