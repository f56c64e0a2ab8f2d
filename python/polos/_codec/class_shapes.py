"""Describe the shape of stored classes: fields, a fingerprint of them, type arguments."""

from __future__ import annotations

import dataclasses
import re
import typing
from datetime import time, timedelta
from decimal import Decimal
from types import UnionType
from typing import Any
from uuid import UUID
from weakref import WeakKeyDictionary

import pydantic  # the module only: the first access to a name in it loads most of pydantic

from polos._codec.class_refs import class_tag
from polos._core.real_datetime import date, datetime
from polos._validate.formatting import is_class

__all__ = ["TYPE_ATOMS", "fingerprint", "generic_arguments", "is_named_tuple", "shape_fields"]


def is_named_tuple(cls: type) -> bool:
    """Whether ``cls`` was created by ``NamedTuple`` or ``namedtuple``, or derives from one."""
    fields = getattr(cls, "_fields", None)
    return tuple in cls.__mro__ and type(fields) is tuple and all(type(f) is str for f in fields)


def shape_fields(cls: type) -> tuple[str, ...]:
    """Return the names of the fields, in order."""
    if issubclass(cls, pydantic.BaseModel):
        return tuple(cls.model_fields)
    if is_named_tuple(cls):
        return tuple(cls._fields)  # type: ignore[attr-defined]
    return tuple(field.name for field in dataclasses.fields(cls))  # type: ignore[arg-type]


def fingerprint(cls: type) -> str:
    """Return a text that changes when a field is added, removed, renamed, or given another type.

    While it is unchanged, an object is restored exactly as it was, without its validators, which
    need not accept their own output. Otherwise they decide whether the old values are valid.
    """
    known = _fingerprints.get(cls)
    if known is None:
        known = _fingerprints[cls] = _fingerprint(cls)
    return known


_fingerprints: WeakKeyDictionary[type, str] = WeakKeyDictionary()


def _fingerprint(cls: type) -> str:
    parts: list[tuple[str, Any]]
    if issubclass(cls, pydantic.BaseModel):
        parts = [(name, field.annotation) for name, field in cls.model_fields.items()]
        parts += [(name, None) for name in sorted(cls.__private_attributes__)]
    elif is_named_tuple(cls):
        hints = getattr(cls, "__annotations__", {})
        parts = [(name, hints.get(name)) for name in shape_fields(cls)]
    else:
        parts = [(field.name, field.type) for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
    # A class names its neighbours after the module, which is called `__main__` in a script.
    module = re.compile(rf"\b{re.escape(str(cls.__module__))}\.| at 0x[0-9a-fA-F]+")
    texts = [hint if isinstance(hint, str) else repr(hint) for _, hint in parts]
    text = ";".join(
        f"{name}:{module.sub('', hint)}" for (name, _), hint in zip(parts, texts, strict=True)
    )
    import hashlib  # loads OpenSSL

    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:16]


_ATOMS: dict[Any, str] = {
    cls: cls.__name__
    for cls in (
        bool, bytes, bytearray, complex, date, datetime, dict, float, frozenset, int, list, set,
        str, time, timedelta, tuple, Decimal, UUID,
    )
} | {Any: "Any", type(None): "None", None: "None", ...: "..."}  # fmt: skip


def generic_arguments(cls: type) -> Any:
    """Return how to create ``Box[int]`` from ``Box``, in case nothing else in the process mentions
    it.
    """
    metadata = getattr(cls, "__pydantic_generic_metadata__", None) or {}
    origin, arguments = metadata.get("origin"), metadata.get("args")
    if origin is None or not arguments:
        return None
    parts = [_type_expression(argument) for argument in arguments]
    return None if None in parts else {"of": class_tag(origin), "args": parts}


def _type_expression(hint: Any) -> Any:
    try:
        atom = _ATOMS.get(hint)
    except TypeError:  # unhashable
        return None
    if atom is not None:
        return atom
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, UnionType):
        name: str | None = "|"
    elif origin is not None:
        name = _ATOMS.get(origin)
    elif is_class(hint):
        return generic_arguments(hint) or class_tag(hint)
    else:
        name = None
    parts = [_type_expression(argument) for argument in arguments]
    return None if name is None or None in parts else {"of": name, "args": parts}


TYPE_ATOMS: dict[str, Any] = {name: cls for cls, name in _ATOMS.items() if cls is not None}
