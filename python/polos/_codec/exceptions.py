"""Convert exceptions to JSON records, and back where that is safe.

Recording must not fail, whatever the exception does: the record is the only trace of the failure.
Rebuilding returns nothing rather than guess.
"""

from __future__ import annotations

import builtins
import traceback
from collections.abc import Mapping
from typing import Any

from polos._codec.class_refs import class_tag, find_class
from polos._codec.codec import decode, encode
from polos._validate.formatting import printable
from polos.exceptions import RecordedError

__all__ = ["error_from_record", "error_record"]

MESSAGE_MAX = 8_000
TRACEBACK_MAX = 24_000
ARGS_MAX = 16_000
CAUSES_MAX = 10
MEMBERS_MAX = 20
_FRAMES_MAX = 60
_RECORDS_MAX = 100

_group: type | None = getattr(builtins, "BaseExceptionGroup", None)  # Python 3.11


def _field(name: str) -> Any:
    """Read a field of an exception without using attributes of the application, which may raise."""
    return BaseException.__dict__[name].__get__


_args, _traceback_of = _field("args"), _field("__traceback__")
_cause_of, _context_of = _field("__cause__"), _field("__context__")
_hides_context = _field("__suppress_context__")
_set = object.__setattr__


def error_record(exc: BaseException) -> dict[str, Any]:
    """Return a record of an exception as plain JSON data.

    It has ``type`` (``"module:Name"``), ``message``, ``traceback`` (text), and if there are any,
    ``notes``, ``cause`` (a record of what it was raised from, or while handling), and ``members``
    of a group (records). ``args`` and ``state`` are JSON texts to rebuild it from; they are missing
    if it holds values that cannot be stored. Long texts are shortened, and long chains cut, so that
    a record stays below a few hundred kilobytes. Never raises.
    """
    return _record(exc, 0, set(), [0])


def _record(exc: BaseException, depth: int, seen: set[int], count: list[int]) -> dict[str, Any]:
    seen.add(id(exc))
    count[0] += 1
    cls = type(exc)
    record: dict[str, Any] = {
        "type": _tag(cls),
        "message": _message(exc),
        "traceback": _traceback(exc),
    }
    notes = _notes(exc)
    if notes:
        record["notes"] = notes
    state = _state(exc)
    if state is not None:
        record["args"], record["state"] = state
    members = _members(exc)
    if members is not None:
        record["members_total"] = len(members)
        record["members"] = [
            _record(member, depth + 1, seen, count)
            for member in members[:MEMBERS_MAX]
            if depth < CAUSES_MAX and id(member) not in seen and count[0] < _RECORDS_MAX
        ]
    cause = _cause(exc)
    if (
        cause is not None
        and depth < CAUSES_MAX
        and id(cause) not in seen
        and count[0] < _RECORDS_MAX
    ):
        record["cause"] = _record(cause, depth + 1, seen, count)
    return record


def _tag(cls: type) -> str:
    try:
        return printable(class_tag(cls))
    except Exception:  # a __module__ that isn't text
        return "builtins:" + printable(type.__dict__["__name__"].__get__(cls))


def _message(exc: BaseException) -> str:
    try:
        text = str(exc)
        # Cut first: a message may be a whole response body.
        short = str.__getitem__(text, slice(MESSAGE_MAX + 1))
        if len(short) <= MESSAGE_MAX:
            return printable(short)
        return printable(short[:MESSAGE_MAX]) + f"… ({str.__len__(text):,} characters)"
    except BaseException as error:  # a __str__ may raise anything; the worker must continue
        return f"<no message: __str__ raised {type(error).__name__}>"


def _traceback(exc: BaseException) -> str:
    try:
        # Without the exception's text, which may be arbitrarily long, and its causes, which have
        # their own records. The innermost frames matter most.
        frames = traceback.extract_tb(_traceback_of(exc), limit=-_FRAMES_MAX)
        text = printable("".join(traceback.format_list(frames)))
    except BaseException:  # a source file or loader that raises
        return ""
    if len(text) > TRACEBACK_MAX:
        text = "  …\n" + text[-TRACEBACK_MAX:].partition("\n")[2]
    return text


def _notes(exc: BaseException) -> list[str]:
    try:
        notes = getattr(exc, "__notes__", None)
        if not isinstance(notes, (list, tuple)):
            return []
        return [printable(note[:MESSAGE_MAX]) for note in notes[:10] if isinstance(note, str)]
    except BaseException:  # overridden by a property that raises
        return []


def _state(exc: BaseException) -> tuple[str, str] | None:
    """Return its ``args`` and attributes as JSON texts, if both can be stored and are not long."""
    if _is_group(exc):
        return None
    try:
        arguments = _arguments(exc)
        attributes = {name: value for name, value in vars(exc).items() if name != "__notes__"}
        return (
            encode(list(arguments), limit=ARGS_MAX).decode(),
            encode(attributes, limit=ARGS_MAX).decode(),
        )
    except BaseException:  # stored objects can raise anything when they are read
        return None


def _arguments(exc: BaseException) -> tuple[Any, ...]:
    """Return the arguments of its base class in C, without using attributes of the application."""
    if issubclass(type(exc), OSError):
        # `args` lacks the file names.
        return OSError.__reduce__(exc)[1]  # type: ignore[return-value]
    return _args(exc)  # type: ignore[no-any-return]


def _is_group(exc: BaseException) -> bool:
    # Check the type: `isinstance` reads the exception's own `__class__`, which may be overridden.
    return _group is not None and issubclass(type(exc), _group)


def _members(exc: BaseException) -> tuple[BaseException, ...] | None:
    if _group is None or not _is_group(exc):
        return None
    return _group.__dict__["exceptions"].__get__(exc)  # type: ignore[no-any-return]


def _cause(exc: BaseException) -> BaseException | None:
    cause: BaseException | None = _cause_of(exc)
    if cause is None and not _hides_context(exc):
        cause = _context_of(exc)
    return cause


def error_from_record(record: Mapping[str, Any] | None) -> BaseException | None:
    """Rebuild a recorded exception with its type, ``args``, attributes, notes, and cause.

    Returns ``None`` if its class is not imported in this process or is not an ``Exception``, or if
    it held values that cannot be stored. A constructor written in Python is not run, because it may
    expect other arguments than the ``args`` it leaves behind.
    """
    try:
        return _rebuilt(record, 0)
    except Exception:  # the record may be damaged in any way
        return None


def _rebuilt(record: Mapping[str, Any] | None, depth: int) -> BaseException | None:
    if not isinstance(record, Mapping) or depth > CAUSES_MAX:
        return None
    tag = record["type"]
    cls = find_class(tag)
    if cls is None or Exception not in cls.__mro__:
        return None
    if any("__del__" in vars(base) for base in cls.__mro__):
        return None  # it would be called with whatever the record contains
    # The nearest base class written in C stores `args` and similar state.
    base: Any = next(base for base in cls.__mro__ if base.__module__ == "builtins")
    made: BaseException
    if _group is not None and _group in cls.__mro__:
        members = [_rebuilt(member, depth + 1) for member in record["members"]]
        if None in members or len(members) != record["members_total"]:
            return None
        made = base.__new__(cls, _group_message(record), members)
    else:
        arguments = decode(record["args"], is_strict=True)
        made = base.__new__(cls, *arguments)
        base.__init__(made, *arguments)
        # OSError chooses a subclass by its errno, and others check their arguments.
        if type(made) is not cls or _arguments(made) != tuple(arguments):
            return None
        attributes = decode(record["state"], is_strict=True)
        if not isinstance(attributes, dict):
            return None
        made.__dict__.update(attributes)
    if isinstance(record.get("notes"), list):
        _set(made, "__notes__", record["notes"])
    if record.get("cause") is not None:
        cause = _rebuilt_or_none(record["cause"], depth + 1)
        made.__cause__ = RecordedError.from_record(record["cause"]) if cause is None else cause
    return made


def _rebuilt_or_none(record: Any, depth: int) -> BaseException | None:
    try:
        return _rebuilt(record, depth)
    except Exception:  # as above: a damaged cause must not affect the exception itself
        return None


def _group_message(record: Mapping[str, Any]) -> str:
    # str(group) is "message (2 sub-exceptions)".
    return str(record["message"]).rpartition(" (")[0]
