"""Values as JSON that remembers their types: results of steps and runs, payloads, inputs.

What JSON has is stored as JSON: ``None``, ``bool``, ``str``, ``list``, ``dict`` with ``str``
keys, finite ``float``, ``int`` of up to 64 bits. Everything else is an object with the key
``"$polos"``, which says what it is:

=========================================  ====================================================
``{"$polos": "datetime", "v": ...,``       ISO text; ``zone`` if it is in a ``ZoneInfo``, ``fold``
``"zone": "Europe/Paris", "fold": 1}``     if it is 1, ``name`` if a fixed offset has one
``{"$polos": "tuple", "v": [...]}``        likewise ``set``, ``frozenset``, ``deque``
``{"$polos": "dict", "v": [[k, v], ...]}`` a ``dict`` with other keys, or with the key
                                           ``"$polos"``; likewise ``OrderedDict``, ``Counter``
``{"$polos": "bytes", "v": "aGk="}``       base64; likewise ``bytearray``, and ``str`` with lone
                                           surrogates
``{"$polos": "Decimal", "v": "1.50"}``     likewise ``UUID``, ``float`` (``nan``, ``inf``), ``int``
                                           (hexadecimal), ``date``, ``time``, IP addresses
``{"$polos": "enum", "type": "app:Color",  the member's name; a ``flag`` has its value
``"v": "RED"}``
``{"$polos": "model", "type": "app:User",  a pydantic model by its fields, ``extra``, ``private``
``"shape": "90a4…", "v": {...}}``          and the fields that were ``set``; likewise
                                           ``dataclass`` and ``namedtuple``
=========================================  ====================================================

**Models and dataclasses** are stored field by field with this codec, not with
``model_dump``: a field of type ``Any`` that holds a datetime, a ``SecretStr``, a subclass in a
field of its base class all come back as they were. They are restored without ``__init__`` and
validators, as ``copy`` does, because a validator need not accept what it has returned. ``shape``
is a fingerprint of the field names and types: where the class has changed since, the stored
values are validated by the new class instead.

**Decoding** runs nothing that stored data names: no pickle, no import, no call. ``_classes`` says
how a class is found, ``_known_classes`` which classes are rebuilt. Any other object is read as a
``StoredValue``, plain data with its type name; where the reader requires a type, that is a
:class:`SerializationError`, as is data that isn't ours.

Secrets are stored readable, as the run needs them back: protect the database accordingly.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from pydantic_core import from_json, to_json

from polos._codec.format import DEPTH_MAX, PLAIN_INT_MAX, TAG, Refused, TooLarge
from polos.exceptions import PayloadTooLargeError, SerializationError

__all__ = ["SIZE_MAX", "decode", "decode_for_display", "encode", "parsed", "to_jsonable"]

SIZE_MAX = 16 * 1024 * 1024
"""Bytes that one stored value may take as JSON, unless a call says otherwise (16 MiB).

A value is read and written whole, in memory, on every replay of its run; what is larger belongs
in a file or an object store, and its name in the result.
"""

_INF = float("inf")
_NOT_PLAIN = -1
# Levels of JSON that a value of `DEPTH_MAX` levels may take; tags add up to four for each.
_JSON_DEPTH_MAX = 5 * DEPTH_MAX


def encode(
    value: Any, annotation: Any = None, *, limit: int = SIZE_MAX, name: str = "result"
) -> bytes:
    """Encode ``value`` as JSON in UTF-8.

    ``annotation`` is the type hint under which the value was returned or passed, if there is one.
    It is not needed to store a value, only to restore one (see :func:`decode`). ``limit`` is in
    bytes. ``name`` is the value's name in errors.

    Raises :class:`SerializationError`, with the type and the place inside the value, for a value
    that cannot be stored, and :class:`PayloadTooLargeError` for one that is larger than ``limit``.
    """
    if value is None:
        return b"null"
    try:
        # Most results are plain: checking each value is faster than building a second tree.
        if _plain_size(value, 0, limit) >= 0:
            try:
                data = to_json(value)
            except ValueError:  # a lone surrogate
                data = _rich(value, limit)
        else:
            data = _rich(value, limit)
    except Refused as refused:
        raise _refusal(refused, name) from None
    except TooLarge as large:
        raise _too_large(name, large.size, limit, "at least ") from None
    except RecursionError:
        raise SerializationError(f"`{name}` is nested too deeply to be stored") from None
    except Exception as error:
        # A dict changed while it was read, or a property of an application's class raised.
        raise SerializationError(
            f"`{name}` can't be stored: reading it raised {type(error).__name__}"
        ) from error
    if len(data) > limit:
        raise _too_large(name, len(data), limit, "")
    return data


def decode(
    data: bytes | str,
    annotation: Any = None,
    *,
    name: str = "result",
    function: Callable[..., Any] | None = None,
    is_strict: bool = False,
) -> Any:
    """Return the value that :func:`encode` was given, with the same types at all levels.

    Objects are rebuilt if their class is known: mentioned by ``annotation`` (the reader's type
    hint, which finds classes wherever they are defined), registered, or stored by this process
    before. Other objects are read as ``StoredValue``. ``function`` is the function that returned
    the value: classes that its code names are also rebuilt, where that runs none of their code.

    Raises :class:`SerializationError` for data that :func:`encode` did not write, for an unknown
    class where ``annotation`` requires a type (anywhere, if ``is_strict``), and for a class that
    has changed so that it does not accept the stored values.
    """
    if type(data) is bytes:
        if data == b"null":
            return None
        marked = b"$polos" in data or b"\\u0024" in data
    elif type(data) is str:
        marked = "$polos" in data or "\\u0024" in data
    else:
        raise SerializationError(
            f"stored `{name}` is of type `{type(data).__name__}`, expected JSON text"
        )
    try:
        try:
            node = from_json(data, allow_inf_nan=False)
        except ValueError as error:
            if "recursion limit" not in str(error):
                raise
            # That parser supports 200 levels of JSON; with tags, fewer levels of values reach that.
            node = json.loads(data)
            if _is_deeper(node, _JSON_DEPTH_MAX):  # newer Pythons parse any depth
                raise RecursionError from None
        return _restored(node, annotation, function, is_strict) if marked else node
    except RecursionError:
        raise SerializationError(
            f"stored `{name}` is nested too deeply; it is damaged or wasn't written by polos"
        ) from None
    except SerializationError:
        raise
    except ValueError as error:
        raise SerializationError(f"stored `{name}` isn't JSON: {error}") from None


def _is_deeper(node: Any, limit: int) -> bool:
    level = [node]
    for _ in range(limit):
        inner: list[Any] = []
        for item in level:
            if type(item) is list:
                inner += [child for child in item if type(child) in (list, dict)]
            elif type(item) is dict:
                inner += [child for child in item.values() if type(child) in (list, dict)]
        if not inner:
            return False
        level = inner
    return True


def decode_for_display(data: bytes | str, annotation: Any = None, *, name: str = "result") -> Any:
    """Return what :func:`decode` returns, or, if that fails, as much as can be shown.

    Secrets are always masked. Never raises.
    """
    try:
        return decode(data, annotation, name=name)
    except SerializationError:
        pass
    try:
        node = from_json(data)
    except ValueError:
        # Damaged text: it is unknown where a secret begins.
        return f"{len(data):,} bytes that can't be read" if "$polos" in str(data) else data
    try:
        from polos._codec.decoder import read_as_data

        return read_as_data(json.loads(data))
    except (SerializationError, ValueError, RecursionError):
        return _masked(node, 0)


def _masked(node: Any, depth: int) -> Any:
    if depth > DEPTH_MAX:
        return "…"
    if isinstance(node, dict):
        if node.get(TAG) == "secret":
            return "**********"
        return {key: _masked(item, depth + 1) for key, item in node.items()}
    return [_masked(item, depth + 1) for item in node] if isinstance(node, list) else node


def to_jsonable(value: Any, *, limit: int = SIZE_MAX, name: str = "input") -> Any:
    """Convert ``value`` to a tree of plain JSON types, in the format of :func:`encode`.

    Plain values are returned unchanged (as a copy). Raises what :func:`encode` raises.
    """
    return parsed(encode(value, limit=limit, name=name))


def parsed(text: bytes | str) -> Any:
    """Parse JSON that this process or the core has written."""
    try:
        return from_json(text)  # several times as fast as `json.loads`
    except ValueError:  # nested deeply, or a lone surrogate
        return json.loads(text)


def _plain_size(value: Any, depth: int, limit: int) -> int:
    """Return a lower bound for the size in bytes of a plain JSON value; -1 if the value is not
    plain.
    """
    kind = type(value)
    size = 1  # a digit; every other value takes more
    if kind is dict:
        if TAG in value or depth >= DEPTH_MAX:
            return _NOT_PLAIN
        size = 2
        for key, item in value.items():
            if type(key) is not str:
                return _NOT_PLAIN
            kind = type(item)
            if kind is str:
                size += len(key) + len(item)
            elif kind is int:
                if not -PLAIN_INT_MAX <= item <= PLAIN_INT_MAX:
                    return _NOT_PLAIN
                size += len(key)
            elif item is None or kind is bool:
                size += len(key)
            else:
                inner = _plain_size(item, depth + 1, limit)
                if inner < 0:
                    return _NOT_PLAIN
                size += len(key) + inner
                if size > limit:
                    raise TooLarge(size)
    elif kind is list:
        if depth >= DEPTH_MAX:
            return _NOT_PLAIN
        size = len(value) + 1
        for item in value:
            kind = type(item)
            if kind is str:
                size += len(item)
            elif kind is int:
                if not -PLAIN_INT_MAX <= item <= PLAIN_INT_MAX:
                    return _NOT_PLAIN
            elif item is not None and kind is not bool:
                inner = _plain_size(item, depth + 1, limit)
                if inner < 0:
                    return _NOT_PLAIN
                size += inner
                if size > limit:
                    raise TooLarge(size)
    elif kind is float:
        if not -_INF < value < _INF:
            return _NOT_PLAIN
    elif kind is str:
        size += len(value)
    elif kind is int:
        if not -PLAIN_INT_MAX <= value <= PLAIN_INT_MAX:
            return _NOT_PLAIN
    elif value is not None and kind is not bool:
        return _NOT_PLAIN
    if size > limit:
        raise TooLarge(size)
    return size


# Imported on demand: values that are not plain need modules that many programs never load.


def _rich(value: Any, limit: int) -> bytes:
    from polos._codec.encoder import tree

    node = tree(value, limit)
    try:
        return to_json(node)
    except ValueError:  # more than 254 levels
        return json.dumps(node, ensure_ascii=False, separators=(",", ":")).encode()


def _restored(
    node: Any, annotation: Any, function: Callable[..., Any] | None, is_strict: bool
) -> Any:
    from polos._codec.decoder import read

    return read(node, annotation, function=function, is_strict=is_strict)


def _refusal(refused: Refused, name: str) -> SerializationError:
    path, endless = refused.located()
    if endless:
        return SerializationError(
            f"`{name}{path}` contains itself, which JSON cannot represent; store a copy "
            f"without the reference"
        )
    return SerializationError(f"`{name}{path}` {refused.reason}")


def _too_large(name: str, size: int, limit: int, bound: str) -> PayloadTooLargeError:
    return PayloadTooLargeError(
        f"`{name}` takes {bound}{size:,} bytes as JSON, the limit is {limit:,}; store it in a "
        f"file or object store and return where it is",
        size=size,
        limit=limit,
    )
