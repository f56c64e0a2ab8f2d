"""Convert a value to a tree of plain JSON types (see ``_codec``).

The exact type of a value decides. A subclass is a different type, and an unknown type is rejected
rather than stored as something similar.
"""

from __future__ import annotations

import dataclasses
import enum
import typing
from base64 import b64encode
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from datetime import time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from functools import cached_property
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)
from pathlib import PurePath
from types import CoroutineType
from typing import Any
from uuid import UUID
from weakref import WeakKeyDictionary
from zoneinfo import ZoneInfo

import pydantic  # the module only: the first access to a name in it loads most of pydantic
from pydantic_core import MultiHostUrl, TzInfo, Url

from polos._codec.class_refs import class_tag, remember
from polos._codec.class_shapes import fingerprint, generic_arguments, is_named_tuple, shape_fields
from polos._codec.format import DEPTH_MAX, PLAIN_INT_MAX, TAG, Refused, TooLarge
from polos._codec.unknown_classes import StoredValue
from polos._core.real_datetime import date, datetime
from polos._validate.formatting import brief, printable, type_name

__all__ = ["FACTORIES", "TEXT_TYPES", "tree"]

_INF = float("inf")

# Types that convert to text and back without loss.
TEXT_TYPES: dict[str, type] = {
    "Decimal": Decimal,
    "UUID": UUID,
    "IPv4Address": IPv4Address,
    "IPv4Interface": IPv4Interface,
    "IPv4Network": IPv4Network,
    "IPv6Address": IPv6Address,
    "IPv6Interface": IPv6Interface,
    "IPv6Network": IPv6Network,
}

# The default factories that a stored defaultdict may name.
FACTORIES: dict[str, type] = {
    factory.__name__: factory
    for factory in (
        bool, bytes, complex, dict, float, frozenset, int, list, set, str, tuple,
        Counter, Decimal, OrderedDict, deque,
    )
}  # fmt: skip
_FACTORY_NAMES = {factory: name for name, factory in FACTORIES.items()}


class _Budget:
    """Counts what is encoded, to stop at a value that sharing makes huge (or endless).

    The count is a lower bound: the final size decides about the limit.
    """

    __slots__ = ("limit", "used")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0

    def take(self, size: int) -> None:
        self.used += size
        if self.used > self.limit:
            raise TooLarge(self.used)


_Encoder = Callable[[Any, int, _Budget], Any]


def tree(value: Any, limit: int) -> Any:
    """Return the JSON tree for ``value``; raises :class:`Refused` or :class:`TooLarge`."""
    return _encoder(type(value))(value, 0, _Budget(limit))


# --- plain values ----------------------------------------------------------------------------


def _as_is(value: Any, depth: int, budget: _Budget) -> Any:
    budget.take(4)
    return value


def _int(value: int, depth: int, budget: _Budget) -> Any:
    if -PLAIN_INT_MAX <= value <= PLAIN_INT_MAX:
        budget.take(1)
        return value
    # Other JSON parsers round integers beyond 64 bits. Hexadecimal, because conversion to decimal
    # takes quadratic time, and Python rejects it for long integers.
    budget.take(value.bit_length() // 4)
    return {TAG: "int", "v": hex(value)}


def _float(value: float, depth: int, budget: _Budget) -> Any:
    budget.take(3)
    return value if -_INF < value < _INF else {TAG: "float", "v": repr(value)}


def _str(value: str, depth: int, budget: _Budget) -> Any:
    budget.take(len(value) + 2)
    if value.isascii():
        return value
    try:
        value.encode()
    except UnicodeEncodeError:
        # A lone surrogate is not valid Unicode: databases and JSON parsers reject it.
        return {TAG: "str", "v": b64encode(value.encode("utf-8", "surrogatepass")).decode()}
    return value


def _list(value: Any, depth: int, budget: _Budget) -> list[Any]:
    if depth >= DEPTH_MAX:
        raise Refused(f"is nested more than {DEPTH_MAX} levels deep")
    budget.take(len(value) + 1)
    items: list[Any] = []
    append = items.append
    try:
        for item in value:
            append(_encoder(type(item))(item, depth + 1, budget))
    except Refused as refused:
        refused.inside(value, f"[{len(items)}]")
        raise
    return items


def _dict(value: dict[Any, Any], depth: int, budget: _Budget) -> Any:
    if TAG in value:
        return _pairs("dict", value, depth, budget)
    used = budget.used
    for key in value:
        if type(key) is not str or type(_str(key, depth, budget)) is not str:
            budget.used = used  # `_pairs` counts the keys too
            return _pairs("dict", value, depth, budget)
    return _named(value, value, depth, budget, "[{!r}]")


def _pairs(tag: str, value: dict[Any, Any], depth: int, budget: _Budget) -> dict[str, Any]:
    if depth >= DEPTH_MAX:
        raise Refused(f"is nested more than {DEPTH_MAX} levels deep")
    pairs: list[list[Any]] = []
    step = ""
    try:
        for key, item in value.items():
            step = f", key {len(pairs) + 1}"
            name = _encoder(type(key))(key, depth + 1, budget)
            step = f"[{brief(key)}]"
            pairs.append([name, _encoder(type(item))(item, depth + 1, budget)])
    except Refused as refused:
        refused.inside(value, step)
        raise
    budget.take(4 * len(pairs) + 2)
    return {TAG: tag, "v": pairs}


def _named(
    owner: object, values: dict[str, Any], depth: int, budget: _Budget, step: str
) -> dict[str, Any]:
    """Encode the values of a dict, or of an object's fields, under their names."""
    if depth >= DEPTH_MAX:
        raise Refused(f"is nested more than {DEPTH_MAX} levels deep")
    encoded = {}
    name = ""
    try:
        for name, item in values.items():
            encoded[name] = _encoder(type(item))(item, depth + 1, budget)
    except Refused as refused:
        refused.inside(owner, step.format(name))
        raise
    budget.take(len(encoded) + 1)
    return encoded


# --- types of the standard library -----------------------------------------------------------


def _sequence(tag: str) -> _Encoder:
    def encode(value: Any, depth: int, budget: _Budget) -> Any:
        if depth >= DEPTH_MAX:
            raise Refused(f"is nested more than {DEPTH_MAX} levels deep")
        budget.take(len(value) + 20)
        items: list[Any] = []
        try:
            for item in value:
                items.append(_encoder(type(item))(item, depth + 1, budget))  # noqa: PERF401
        except Refused as refused:
            refused.inside(value, f"[{len(items)}]" if tag == "tuple" else "{…}")
            raise
        return {TAG: tag, "v": items}

    return encode


def _deque(value: deque[Any], depth: int, budget: _Budget) -> Any:
    node: dict[str, Any] = {TAG: "deque", "v": _list(value, depth, budget)}
    if value.maxlen is not None:
        node["maxlen"] = value.maxlen
    return node


def _defaultdict(value: defaultdict[Any, Any], depth: int, budget: _Budget) -> Any:
    factory = value.default_factory
    name = None if factory is None else _FACTORY_NAMES.get(factory)  # type: ignore[call-overload]
    if factory is not None and name is None:
        raise Refused(
            "is a defaultdict whose factory isn't a built-in type, and functions can't be "
            "stored; convert it with `dict(...)`"
        )
    node = _pairs("defaultdict", value, depth, budget)
    node["factory"] = name
    return node


def _mapping(tag: str) -> _Encoder:
    return lambda value, depth, budget: _pairs(tag, value, depth, budget)


def _binary(tag: str) -> _Encoder:
    def encode(value: bytes | bytearray, depth: int, budget: _Budget) -> Any:
        budget.take(len(value) * 4 // 3)
        return {TAG: tag, "v": b64encode(value).decode()}

    return encode


def _text(tag: str) -> _Encoder:
    def encode(value: Any, depth: int, budget: _Budget) -> Any:
        text = str(value)
        budget.take(len(text) + 20)
        return {TAG: tag, "v": text}

    return encode


def _complex(value: complex, depth: int, budget: _Budget) -> Any:
    return {TAG: "complex", "v": [_float(part, depth, budget) for part in (value.real, value.imag)]}


def _fraction(value: Fraction, depth: int, budget: _Budget) -> Any:
    parts = (value.numerator, value.denominator)
    return {TAG: "Fraction", "v": [_int(part, depth, budget) for part in parts]}


def _date(value: date, depth: int, budget: _Budget) -> Any:
    budget.take(30)
    return {TAG: "date", "v": value.isoformat()}


def _timedelta(value: timedelta, depth: int, budget: _Budget) -> Any:
    budget.take(30)
    return {TAG: "timedelta", "v": [value.days, value.seconds, value.microseconds]}


def _clock(tag: str) -> _Encoder:
    """Encode ``datetime`` and ``time``: ISO text, with the name of the zone if there is one."""

    def encode(value: datetime | time, depth: int, budget: _Budget) -> Any:
        budget.take(30)
        zone = value.tzinfo
        node: dict[str, Any] = {TAG: tag}
        kind = type(zone)
        if zone is None:
            node["v"] = value.isoformat()
        elif kind is ZoneInfo:
            key = typing.cast("ZoneInfo", zone).key
            if key is None:
                raise Refused(
                    "has a ZoneInfo without a name (from_file), which no other process can "
                    "find; use ZoneInfo with an IANA name"
                )
            # Store local time and zone: an offset would be wrong after a tzdata change.
            node["v"] = value.replace(tzinfo=None).isoformat()
            node["zone"] = key
        elif kind is timezone:
            offset = typing.cast("timezone", zone).utcoffset(None)
            if offset and abs(offset) < timedelta(seconds=1):
                # `fromisoformat` reads such offsets as UTC.
                node["v"] = value.replace(tzinfo=None).isoformat()
                node["offset"] = offset // timedelta(microseconds=1)
            else:
                node["v"] = value.isoformat()
            name = _given_name(zone)
            if name is not None:
                node["name"] = _str(name, depth, budget)
        elif kind is TzInfo:
            node["v"] = value.isoformat()
            node["of"] = "pydantic"
        else:
            raise Refused(
                f"has a tzinfo of type `{type_name(kind)}`, which would not come back as such; "
                f"convert it, for example with `.astimezone(ZoneInfo(...))`"
            )
        if value.fold:
            node["fold"] = 1
        return node

    return encode


def _given_name(zone: Any) -> str | None:
    arguments = zone.__getinitargs__()
    return arguments[1] if len(arguments) > 1 else None


_EXACT: dict[type, _Encoder] = {
    type(None): _as_is,
    bool: _as_is,
    int: _int,
    float: _float,
    str: _str,
    list: _list,
    dict: _dict,
    tuple: _sequence("tuple"),
    set: _sequence("set"),
    frozenset: _sequence("frozenset"),
    deque: _deque,
    OrderedDict: _mapping("OrderedDict"),
    Counter: _mapping("Counter"),
    defaultdict: _defaultdict,
    bytes: _binary("bytes"),
    bytearray: _binary("bytearray"),
    complex: _complex,
    Fraction: _fraction,
    datetime: _clock("datetime"),
    time: _clock("time"),
    date: _date,
    timedelta: _timedelta,
    **{cls: _text(tag) for tag, cls in TEXT_TYPES.items()},
}


# --- classes ---------------------------------------------------------------------------------

_of_class: WeakKeyDictionary[type, _Encoder] = WeakKeyDictionary()


def _encoder(cls: type) -> _Encoder:
    exact = _EXACT.get(cls)
    if exact is not None:
        return exact
    known = _of_class.get(cls)
    if known is None:
        known = _of_class[cls] = _class_encoder(cls)
        remember(cls)
    return known


def _class_encoder(cls: type) -> _Encoder:
    """Return how values of a class are stored. It must not refer to the class, which may be
    short-lived.
    """
    bases = cls.__mro__
    if cls.__module__ == "freezegun.api":
        # Replacements that tests install for the real types, such as freezegun's. A restarted
        # process would not have them. (`datetime` and `date` in this module may be replaced, too.)
        return next(_EXACT[base] for base in bases if base in _EXACT)
    if isinstance(cls, enum.EnumMeta):
        return _flag if enum.Flag in bases else _enum
    if pydantic.BaseModel in bases:
        return _model(cls)
    if is_named_tuple(cls):
        return _named_tuple(cls)
    if "__dataclass_fields__" in dir(cls) and dataclasses.is_dataclass(cls):
        if not _has_builtin_state(cls):
            return _dataclass(cls)
    elif PurePath in bases and cls.__module__.partition(".")[0] == "pathlib":
        return _path
    elif cls is pydantic.SecretStr or cls is pydantic.SecretBytes:
        return _secret
    elif is_url(cls):
        return _url
    elif cls is StoredValue:
        return _stored_value
    return _refuse


def _has_builtin_state(cls: type) -> bool:
    # For example a dataclass that is also a dict: its fields are not its whole state.
    return any(base.__module__ == "builtins" and base is not object for base in cls.__mro__)


def _refuse(value: Any, depth: int, budget: _Budget) -> Any:
    cls = type(value)
    name = type_name(cls)
    for base in (bool, int, float, str, bytes, bytearray, list, tuple, dict, set, frozenset,
                 datetime, date, time, timedelta, Decimal, UUID):  # fmt: skip
        if base in cls.__mro__:
            call = f"{base.__name__}(...)"
            raise Refused(
                f"has type `{name}`, a subclass of `{base.__name__}` that would come back as a "
                f"plain one; convert it with `{call}`"
            )
    # Check only the class: the attributes of an unknown object are not reliable.
    if cls is CoroutineType or any("__await__" in vars(base) for base in cls.__mro__):
        raise Refused(f"has type `{name}`; was an `await` forgotten?")
    raise Refused(
        f"has type `{name}`, which can't be stored; use JSON types, pydantic models, "
        f"dataclasses, named tuples, enums, or the standard library's dates, numbers and "
        f"collections"
    )


def _enum(value: enum.Enum, depth: int, budget: _Budget) -> Any:
    cls = type(value)
    budget.take(35)
    return {TAG: "enum", "type": _checked_tag(cls), "v": value._name_}


def _flag(value: enum.Flag, depth: int, budget: _Budget) -> Any:
    # Combinations have no name of their own.
    cls = type(value)
    return {TAG: "flag", "type": _checked_tag(cls), "v": _int(value._value_, depth, budget)}


def _path(value: PurePath, depth: int, budget: _Budget) -> Any:
    return {TAG: "path", "type": type(value).__name__, "v": _str(str(value), depth, budget)}


def _secret(value: Any, depth: int, budget: _Budget) -> Any:
    inner = value.get_secret_value()
    return {
        TAG: "secret",
        "type": type(value).__name__,
        "v": _encoder(type(inner))(inner, depth, budget),
    }


def _url(value: Any, depth: int, budget: _Budget) -> Any:
    text = str(value)
    budget.take(len(text) + 35)
    return {TAG: "url", "type": _checked_tag(type(value)), "v": text}


def is_url(cls: type) -> bool:
    """Whether this is one of pydantic's URL types, or derives from one."""
    from pydantic import networks

    # Private, and missing in old versions, whose URL types were all pydantic_core's.
    bases = (getattr(networks, name, Url) for name in ("_BaseUrl", "_BaseMultiHostUrl"))
    return cls is Url or cls is MultiHostUrl or any(base in cls.__mro__ for base in bases)


def _stored_value(value: StoredValue, depth: int, budget: _Budget) -> Any:
    budget.take(50)
    node: dict[str, Any] = {TAG: value.kind, "type": printable(value.type_name)}
    for name, part in value._parts.items():
        if name in ("v", "private", "more") and type(part) is dict:
            node[name] = _named(value, part, depth, budget, ".{}")
        elif name in ("v", "extra"):
            node[name] = _encoder(type(part))(part, depth, budget)
        else:
            node[name] = part
    return node


def _named_tuple(cls: type) -> _Encoder:
    tag, shape, names = _checked_tag(cls), fingerprint(cls), shape_fields(cls)

    def encode(value: Any, depth: int, budget: _Budget) -> Any:
        if getattr(value, "__dict__", None):
            raise Refused(f"has type `{type_name(type(value))}` and attributes besides its fields")
        budget.take(50)
        fields = _named(value, dict(zip(names, tuple(value), strict=True)), depth, budget, ".{}")
        return {TAG: "namedtuple", "type": tag, "shape": shape, "v": fields}

    return encode


def _dataclass(cls: type) -> _Encoder:
    tag, shape, names = _checked_tag(cls), fingerprint(cls), shape_fields(cls)
    known = frozenset(names)
    # Cached properties are computed again on demand; `__orig_class__` belongs to typing.
    derived = {"__orig_class__"} | {
        name
        for base in cls.__mro__
        for name, member in vars(base).items()
        if isinstance(member, cached_property)
    }

    def encode(value: Any, depth: int, budget: _Budget) -> Any:
        budget.take(50)
        fields = {name: getattr(value, name) for name in names if hasattr(value, name)}
        node: dict[str, Any] = {TAG: "dataclass", "type": tag, "shape": shape}
        node["v"] = _named(value, fields, depth, budget, ".{}")
        more = {
            name: item
            for name, item in getattr(value, "__dict__", {}).items()
            if name not in known and name not in derived
        }
        if more:
            node["more"] = _named(value, more, depth, budget, ".{}")
        return node

    return encode


def _model(cls: type) -> _Encoder:
    tag, shape, names = _checked_tag(cls), fingerprint(cls), shape_fields(cls)
    everything = frozenset(names)
    arguments = generic_arguments(cls)

    def encode(value: Any, depth: int, budget: _Budget) -> Any:
        budget.take(50)
        held = value.__dict__
        fields = {name: held[name] for name in names if name in held}
        node: dict[str, Any] = {TAG: "model", "type": tag, "shape": shape}
        if arguments is not None:
            node["generic"] = arguments
        node["v"] = _named(value, fields, depth, budget, ".{}")
        extra = value.__pydantic_extra__
        if extra is not None:
            node["extra"] = _dict(extra, depth, budget)
        private = value.__pydantic_private__
        if private:
            node["private"] = _named(value, private, depth, budget, ".{}")
        given = value.__pydantic_fields_set__
        if given != everything:
            node["set"] = _list(sorted(given), depth, budget)
        return node

    return encode


def _checked_tag(cls: type) -> str:
    return printable(class_tag(cls))
