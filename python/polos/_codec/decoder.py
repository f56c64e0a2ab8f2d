"""Convert a tree of plain JSON types back to the value that it represents (see ``_codec``).

The tree comes from a database and may contain anything. Classes are looked up, never imported, and
rebuilt only where ``_known_classes`` allows it; any other object becomes a ``StoredValue``. Objects
are built without calling their class. The only application code that runs is the validators of a
known class that has changed, and ``__hash__`` of members of a set.
"""

from __future__ import annotations

import dataclasses
import enum
import pathlib
import re
from base64 import b64decode
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from datetime import time, timedelta, timezone
from fractions import Fraction
from pathlib import PurePath
from typing import Any, Union
from zoneinfo import ZoneInfo

import pydantic  # the module only: the first access to a name in it loads most of pydantic
from pydantic_core import TzInfo

from polos._codec.class_refs import class_tag, find_class
from polos._codec.class_shapes import TYPE_ATOMS, fingerprint, is_named_tuple, shape_fields
from polos._codec.encoder import FACTORIES, TEXT_TYPES, is_url
from polos._codec.format import TAG
from polos._codec.known_classes import is_known, is_related
from polos._codec.required_types import misplaced
from polos._codec.unknown_classes import StoredValue
from polos._core.real_datetime import date, datetime
from polos._validate.formatting import shown
from polos.exceptions import SerializationError

__all__ = ["read", "read_as_data", "validation_text"]

_TAG_MAX = 2_000

_set = object.__setattr__


class _Malformed(Exception):
    """The tree is not one that the encoder writes."""


class Reader:
    """The context of one restoration: which classes to rebuild, which unknown ones were found."""

    __slots__ = ("annotation", "builds", "function", "is_strict", "unknown")

    def __init__(
        self,
        annotation: Any = None,
        function: Callable[..., Any] | None = None,
        is_strict: bool = False,
        builds: bool = True,
    ) -> None:
        self.annotation = annotation
        self.builds = builds
        self.function = function
        self.is_strict = is_strict
        self.unknown = False  # whether anything became a StoredValue


_ANYBODY = Reader()


def read(
    node: Any,
    annotation: Any = None,
    *,
    function: Callable[..., Any] | None = None,
    is_strict: bool = False,
) -> Any:
    """Return the value that ``node`` represents. It reuses lists and dicts of ``node``.

    :param annotation: the reader's type hint. Classes that it mentions are rebuilt.
    :param function: the function that returned the value; ``_known_classes`` says what that allows.
    :param is_strict: whether an object whose class is not rebuilt is an error anywhere, not only
        where ``annotation`` requires a type.

    Raises :class:`SerializationError` for a required class that is unknown or has changed
    incompatibly, and for a tree that represents no value.
    """
    reader = Reader(annotation, function, is_strict)
    value = restore(node, reader)
    if reader.unknown and annotation is not None:
        bad = misplaced(value, annotation)
        if bad is not None:
            raise SerializationError(_unknown(bad.type_name, annotation))
    return value


def read_as_data(node: Any) -> Any:
    """Return the value that ``node`` represents, with every object as a :class:`StoredValue`."""
    return restore(node, Reader(builds=False))


def restore(node: Any, reader: Reader = _ANYBODY) -> Any:
    """Return the value that ``node`` represents; see :func:`read`."""
    kind = type(node)
    if kind is list:
        for index, item in enumerate(node):
            if type(item) in _CONTAINERS:
                node[index] = restore(item, reader)
        return node
    if kind is not dict:
        return node
    if TAG not in node:
        for key, item in node.items():
            if type(item) in _CONTAINERS:
                node[key] = restore(item, reader)
        return node
    tag = node[TAG]
    decoder = _DECODERS.get(tag) if type(tag) is str else None
    if decoder is None:
        raise SerializationError(
            f"stored data has the tag {shown(tag)}, which this version of polos doesn't know; "
            f"it was written by a newer version or is damaged"
        )
    try:
        return decoder(node, reader)
    except (SerializationError, RecursionError):
        raise
    except Exception as error:
        # A constructor may raise anything for damaged data; it gets only text and numbers.
        raise SerializationError(
            f"stored data isn't a valid `{tag}` ({type(error).__name__}); it was written by a "
            f"newer version or is damaged"
        ) from error


_CONTAINERS = (list, dict)


def _get(node: dict[str, Any], name: str, kind: type) -> Any:
    value = node.get(name)
    if type(value) is not kind:
        raise _Malformed(name)
    return value


# --- types of the standard library -----------------------------------------------------------


def _int(node: dict[str, Any], reader: Reader) -> int:
    return int(_get(node, "v", str), 16)


def _float(node: dict[str, Any], reader: Reader) -> float:
    return {"nan": float("nan"), "inf": float("inf"), "-inf": float("-inf")}[_get(node, "v", str)]


def _str(node: dict[str, Any], reader: Reader) -> str:
    return b64decode(_get(node, "v", str), validate=True).decode("utf-8", "surrogatepass")


def _plain_str(value: Any) -> str:
    """Return a string inside a tag, which may itself be tagged because of a lone surrogate."""
    text = restore(value)
    if type(text) is not str:
        raise _Malformed
    return text


def _items(node: dict[str, Any], reader: Reader) -> list[Any]:
    items = _get(node, "v", list)
    for index, item in enumerate(items):
        if type(item) in _CONTAINERS:
            items[index] = restore(item, reader)
    return items  # type: ignore[no-any-return]


def _tuple(node: dict[str, Any], reader: Reader) -> tuple[Any, ...]:
    return tuple(_items(node, reader))


def _of_items(kind: Callable[[list[Any]], Any]) -> Callable[[dict[str, Any], Any], Any]:
    return lambda node, reader: kind(_items(node, reader))


def _deque(node: dict[str, Any], reader: Reader) -> deque[Any]:
    length = None if "maxlen" not in node else _get(node, "maxlen", int)
    return deque(_items(node, reader), length)


def _pairs(node: dict[str, Any], reader: Reader) -> list[tuple[Any, Any]]:
    pairs = _get(node, "v", list)
    for index, (key, value) in enumerate(pairs):
        pairs[index] = (restore(key, reader), restore(value, reader))
    return pairs  # type: ignore[no-any-return]


def _mapping(kind: Callable[[], Any]) -> Callable[[dict[str, Any], Any], Any]:
    def decode(node: dict[str, Any], reader: Reader) -> Any:
        made = kind()
        for key, value in _pairs(node, reader):
            made[key] = value
        return made

    return decode


def _defaultdict(node: dict[str, Any], reader: Reader) -> defaultdict[Any, Any]:
    name = node.get("factory")
    factory = None if name is None else FACTORIES[name]
    return defaultdict(factory, _pairs(node, reader))


def _binary(kind: Callable[[bytes], Any]) -> Callable[[dict[str, Any], Any], Any]:
    return lambda node, reader: kind(b64decode(_get(node, "v", str), validate=True))


def _text(kind: type) -> Callable[[dict[str, Any], Any], Any]:
    return lambda node, reader: kind(_get(node, "v", str))


def _numbers(node: dict[str, Any], count: int, *kinds: type) -> list[Any]:
    numbers = [restore(part) for part in _get(node, "v", list)]
    if len(numbers) != count or any(type(number) not in kinds for number in numbers):
        raise _Malformed
    return numbers


def _complex(node: dict[str, Any], reader: Reader) -> complex:
    return complex(*_numbers(node, 2, float))


def _fraction(node: dict[str, Any], reader: Reader) -> Fraction:
    return Fraction(*_numbers(node, 2, int))


def _timedelta(node: dict[str, Any], reader: Reader) -> timedelta:
    return timedelta(*_numbers(node, 3, int))


def _date(node: dict[str, Any], reader: Reader) -> date:
    return date.fromisoformat(_get(node, "v", str))


def _clock(kind: type[datetime] | type[time]) -> Callable[[dict[str, Any], Any], Any]:
    def decode(node: dict[str, Any], reader: Reader) -> Any:
        value = kind.fromisoformat(_get(node, "v", str))
        fold = node.get("fold", 0)
        zone = value.tzinfo
        if "offset" in node:
            offset_us = _get(node, "offset", int)
            if zone is not None or not 0 < abs(offset_us) < 1_000_000:
                raise _Malformed
            zone = timezone(timedelta(microseconds=offset_us))
        if "zone" in node:
            key = _get(node, "zone", str)
            # Without dots, so that only zone files can be named.
            if zone is not None or not re.fullmatch(r"[A-Za-z0-9_+/-]{1,80}", key):
                raise _Malformed
            try:
                zone = ZoneInfo(key)
            except Exception as error:
                raise SerializationError(
                    f"a stored {tag_of(kind)} is in the time zone `{key}`, which this machine "
                    f"doesn't know; update the `tzdata` package"
                ) from error
        elif "of" in node:
            offset = None if zone is None else zone.utcoffset(None)
            if node["of"] != "pydantic" or zone is None or offset is None:
                raise _Malformed
            zone = TzInfo(int(offset.total_seconds()))
        elif "name" in node:
            offset = None if zone is None else zone.utcoffset(None)
            if zone is None or offset is None:
                raise _Malformed
            zone = timezone(offset, _plain_str(node["name"]))
        return value.replace(tzinfo=zone, fold=fold)

    return decode


def tag_of(kind: type) -> str:
    """Return the tag of a type that is stored under its own name."""
    return kind.__name__


# --- classes ---------------------------------------------------------------------------------


class _Class:
    """A class to rebuild; ``is_known`` if its validators may run."""

    __slots__ = ("cls", "is_known", "is_unchanged")

    def __init__(self, cls: type, is_known: bool, is_unchanged: bool) -> None:
        self.cls = cls
        self.is_known = is_known
        self.is_unchanged = is_unchanged


def _class(
    node: dict[str, Any],
    reader: Reader,
    kind: str,
    fits: Callable[[type], bool],
    has_shape: bool = False,
) -> _Class | None:
    """Return the class that a node names, if it is one to rebuild."""
    tag = _get(node, "type", str)
    if not reader.builds:
        return None
    found = find_class(tag, reader.annotation) or _generic(node, tag, reader)
    if found is None:
        return None
    known = is_known(found, reader.annotation)
    if not known and not is_related(found, reader.annotation, reader.function):
        return None
    if not fits(found):
        if not known:
            return None
        raise SerializationError(
            f"stored data has the type {shown(tag)}, which was {kind} when it was stored and no "
            f"longer is one; restore the old class under that name until no run needs it"
        )
    unchanged = not has_shape or node.get("shape") == fingerprint(found)
    return _Class(found, known, unchanged) if known or unchanged else None


def _unknown(tag: str, annotation: Any) -> str:
    """Return the error that says why a class is not rebuilt, and what to do about it."""
    module, _, name = tag.partition(":")
    if "<locals>" in name:
        return (
            f"stored data has the type {shown(tag)}, defined inside a function, where it "
            f"can't be found again; define it at the top level of a module, or name it in "
            f"the return annotation of the function that returned it"
        )
    if find_class(tag, annotation) is None:
        return (
            f"stored data has the type {shown(tag)}, which this process has not imported; import "
            f"{shown(module)} before the worker starts and name the class in the annotation of "
            f"what reads it, or, if the class was renamed or moved, keep its old name there"
        )
    return (
        f"stored data has the type {shown(tag)}, and polos rebuilds only classes that the reader's "
        f"annotation mentions, that are registered, or that this process has stored itself; name "
        f"it in the return annotation of the function that returned it, or call "
        f"`polos.register_types({name if len(name) < 80 else '...'})` where it is defined"
    )


def _stored(node: dict[str, Any], reader: Reader, held: type = dict) -> Any:
    """Return the node as plain data, because its class is not rebuilt."""
    tag = _get(node, "type", str)
    module, _, name = tag.partition(":")
    if not module or not name or len(tag) > _TAG_MAX:
        raise _Malformed("type")
    if reader.is_strict:
        raise SerializationError(_unknown(tag, reader.annotation))
    reader.unknown = True
    parts = {key: item for key, item in node.items() if key not in (TAG, "type")}
    for name in ("v", "extra", "private", "more"):
        if name in parts:
            parts[name] = restore(parts[name], reader)
    if type(parts.get("v")) is not held:
        raise _Malformed("v")
    for name in ("extra", "private", "more"):
        if parts.get(name) is not None and type(parts[name]) is not dict:
            raise _Malformed(name)
    return StoredValue(node[TAG], tag, parts)


def _generic(node: dict[str, Any], tag: str, reader: Reader) -> type | None:
    expression = node.get("generic")
    if not isinstance(expression, dict):
        return None
    made = _type_from(expression, reader)
    return made if isinstance(made, type) and made.__qualname__ == tag.partition(":")[2] else None


def _type_from(expression: Any, reader: Reader) -> Any:
    """Return the type that an expression describes, ``None`` if it needs an unknown class; raises
    if it describes none.
    """
    if isinstance(expression, str):
        atom = TYPE_ATOMS.get(expression)
        return _known_class(expression, reader) if atom is None else atom
    name = expression["of"]
    arguments = tuple(_type_from(part, reader) for part in _get(expression, "args", list))
    if None in arguments:
        return None
    if name == "|":
        return Union[arguments]  # noqa: UP007 - there is no other way to spell a computed union
    atom = TYPE_ATOMS.get(name)
    if isinstance(atom, type) and atom in (list, dict, tuple, set, frozenset):
        return atom[arguments]
    origin = _known_class(name, reader)
    if origin is None:
        return None
    if pydantic.BaseModel not in origin.__mro__:
        raise _Malformed(name)
    # Pydantic's own: a class may define another attribute of that name, which must not be used.
    subscript = vars(pydantic.BaseModel)["__class_getitem__"].__func__
    return subscript(origin, arguments)


def _known_class(name: Any, reader: Reader) -> type | None:
    found = find_class(name, reader.annotation)
    return found if found is not None and is_known(found, reader.annotation) else None


def _fields(node: dict[str, Any], name: str, reader: Reader) -> dict[str, Any]:
    fields = _get(node, name, dict)
    for key, item in fields.items():
        if type(item) in _CONTAINERS:
            fields[key] = restore(item, reader)
    return fields  # type: ignore[no-any-return]


def _is_enum(cls: type) -> bool:
    return isinstance(cls, enum.EnumMeta)


def _enum(node: dict[str, Any], reader: Reader) -> Any:
    name = _get(node, "v", str)
    known = _class(node, reader, "an enum", _is_enum)
    if known is None:
        return _stored(node, reader, str)
    members = vars(known.cls)["_member_map_"]
    member = members.get(name)
    if member is None:
        raise SerializationError(
            f"stored data has the member {shown(name)} of the enum `{class_tag(known.cls)}`, which "
            f"has only {shown(list(members))}; bring the member back"
        )
    return member


def _is_flag(cls: type) -> bool:
    return isinstance(cls, enum.EnumMeta) and enum.Flag in cls.__mro__


def _flag(node: dict[str, Any], reader: Reader) -> Any:
    value = restore(node.get("v"))
    if type(value) is not int:
        raise _Malformed
    known = _class(node, reader, "a flag", _is_flag)
    if known is None:
        return _stored({**node, "v": value}, reader, int)
    cls: Any = known.cls
    member = cls._value2member_map_.get(value)
    if member is not None:
        return member
    # A combination: made by the standard library's method, bypassing one that the class defines.
    base = next(b for b in cls.__mro__ if b.__module__ == "enum" and "_missing_" in vars(b))
    member = vars(base)["_missing_"].__func__(cls, value)
    if type(member) is not cls:
        raise _Malformed
    return member


def _path(node: dict[str, Any], reader: Reader) -> PurePath:
    name = _get(node, "type", str)
    kinds = ("PurePosixPath", "PureWindowsPath", "PosixPath", "WindowsPath")
    if name not in kinds:
        raise _Malformed
    return getattr(pathlib, name)(_plain_str(node["v"]))  # type: ignore[no-any-return]


def _secret(node: dict[str, Any], reader: Reader) -> pydantic.SecretStr | pydantic.SecretBytes:
    value = restore(node["v"])
    if node["type"] == "SecretStr" and type(value) is str:
        return pydantic.SecretStr(value)
    if node["type"] == "SecretBytes" and type(value) is bytes:
        return pydantic.SecretBytes(value)
    raise _Malformed


def _url(node: dict[str, Any], reader: Reader) -> Any:
    text = _get(node, "v", str)
    known = _class(node, reader, "a URL type of pydantic", is_url)
    if known is None or not known.is_known:  # only its validator can create one
        return _stored(node, reader, str)
    return pydantic.TypeAdapter(known.cls).validate_python(text)


def _named_tuple(node: dict[str, Any], reader: Reader) -> Any:
    known = _class(node, reader, "a named tuple", is_named_tuple, has_shape=True)
    if known is None:
        return _stored(node, reader)
    fields = _fields(node, "v", reader)
    if not known.is_unchanged or tuple(fields) != shape_fields(known.cls):
        if not known.is_known:
            raise _Malformed
        return _validated(known.cls, fields)
    return tuple.__new__(known.cls, fields.values())


def _dataclass(node: dict[str, Any], reader: Reader) -> Any:
    known = _class(node, reader, "a dataclass", dataclasses.is_dataclass, has_shape=True)
    if known is None:
        return _stored(node, reader)
    cls = known.cls
    fields = _fields(node, "v", reader)
    if known.is_unchanged:
        made: Any = object.__new__(cls)
        names = shape_fields(cls)
        if not fields.keys() <= set(names):
            raise _Malformed
    else:
        settable = {f.name for f in dataclasses.fields(cls) if f.init}
        made = _validated(cls, {n: v for n, v in fields.items() if n in settable}, fields)
        fields = {}
    for name, value in fields.items():
        _set(made, name, value)
    if "more" in node:
        made.__dict__.update(_fields(node, "more", reader))
    return made


def _is_model(cls: type) -> bool:
    return pydantic.BaseModel in cls.__mro__


def _model(node: dict[str, Any], reader: Reader) -> Any:
    known = _class(node, reader, "a pydantic model", _is_model, has_shape=True)
    if known is None:
        return _stored(node, reader)
    cls: Any = known.cls
    fields = _fields(node, "v", reader)
    extra = restore(node.get("extra"), reader)
    private = _fields(node, "private", reader) if "private" in node else {}
    given = set(_get(node, "set", list)) if "set" in node else set(cls.model_fields)
    if not known.is_unchanged:
        changed: pydantic.BaseModel = _validated(
            cls, _by_alias(cls, fields) | (extra or {}), fields
        )
        for name, value in private.items():
            if name in cls.__private_attributes__:
                setattr(changed, name, value)
        return changed
    if not fields.keys() <= cls.model_fields.keys() or not (extra is None or type(extra) is dict):
        raise _Malformed
    made: pydantic.BaseModel = object.__new__(cls)
    _set(made, "__dict__", fields)
    _set(made, "__pydantic_fields_set__", given)
    if not cls.__pydantic_root_model__:  # root models have neither
        _set(made, "__pydantic_extra__", extra)
        _set(made, "__pydantic_private__", private if cls.__private_attributes__ else None)
    return made


def _by_alias(cls: type[pydantic.BaseModel], fields: dict[str, Any]) -> dict[str, Any]:
    """Return ``fields`` under the names that validation expects."""
    named = {}
    for name, value in fields.items():
        field = cls.model_fields.get(name)
        alias = field.validation_alias if field is not None else None
        if isinstance(alias, pydantic.AliasChoices):
            alias = next((choice for choice in alias.choices if isinstance(choice, str)), None)
        named[alias if isinstance(alias, str) else name] = value
    return named


def _validated(cls: type, values: dict[str, Any], stored: dict[str, Any] | None = None) -> Any:
    """Build an object of a class that has changed, if the class accepts the stored values."""
    gone = sorted((values if stored is None else stored).keys() - set(shape_fields(cls)))
    problem = f"it has no field `{gone[0]}` any more" if gone else ""
    if not gone:
        try:
            return pydantic.TypeAdapter(cls).validate_python(values)
        except pydantic.ValidationError as error:
            problem = validation_text(error)
        except Exception as error:  # an error in a validator, or no schema for the class
            problem = f"{type(error).__name__}: {shown(str(error))}"
    raise SerializationError(
        f"stored data has the type `{class_tag(cls)}`, which has changed and doesn't take the "
        f"stored values: {problem}; give new fields defaults, and keep old ones until no run "
        f"needs them"
    )


def validation_text(error: pydantic.ValidationError, limit: int = 3) -> str:
    """Describe validation errors field by field, without the values, which may be secret."""
    problems = error.errors(include_url=False, include_context=False, include_input=False)
    parts = []
    for problem in problems[:limit]:
        place = ".".join(str(part) for part in problem["loc"])
        message = problem["msg"]
        text = message[:1].lower() + message[1:]
        parts.append(f"`{place}`: {text}" if place else text)
    more = len(problems) - limit
    return "; ".join(parts) + (f"; and {more} more" if more > 0 else "")


_DECODERS: dict[str, Callable[[dict[str, Any], Any], Any]] = {
    "int": _int,
    "float": _float,
    "str": _str,
    "tuple": _tuple,
    "set": _of_items(set),
    "frozenset": _of_items(frozenset),
    "deque": _deque,
    "dict": _mapping(dict),
    "OrderedDict": _mapping(OrderedDict),
    "Counter": _mapping(Counter),
    "defaultdict": _defaultdict,
    "bytes": _binary(bytes),
    "bytearray": _binary(bytearray),
    "complex": _complex,
    "Fraction": _fraction,
    "datetime": _clock(datetime),
    "time": _clock(time),
    "date": _date,
    "timedelta": _timedelta,
    "enum": _enum,
    "flag": _flag,
    "path": _path,
    "secret": _secret,
    "url": _url,
    "namedtuple": _named_tuple,
    "dataclass": _dataclass,
    "model": _model,
    **{tag: _text(cls) for tag, cls in TEXT_TYPES.items()},
}
