"""Format values and types for error messages: short, on one line, and without ever raising."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, TypeGuard

__all__ = ["brief", "is_class", "may_hold_password", "nearest", "printable", "shown", "type_name"]

_LONGEST = 80
# How many characters are searched for a password. Messages cut off longer texts before that.
_SEARCHED = 4_096
_PASSWORD = re.compile(r":/+[^@]*@|password\s*=", re.IGNORECASE)
_HIDDEN = "not shown, it may hold a password"


def shown(value: Any) -> str:
    """Return ``value`` in backticks, shortened; only its type if it has no readable form."""
    text = brief(value)
    if text is None:
        return f"an object of type `{type_name(type(value))}`"
    if type(value) is str and len(text) > 2:
        # Backticks replace the quotes; what repr escapes stays escaped.
        text = text[1:-1] if text[-1] in "'\"" else text[1:]
    return f"`{text}`"


def brief(value: Any) -> str | None:
    """Return the ``repr`` of ``value`` on one line, shortened, or ``None`` if it has none.

    Callers can pass a database URL in any argument by mistake, so a value that looks like one is
    not shown.
    """
    if type(value) is str and may_hold_password(value):
        value = _HIDDEN
    try:
        # Sliced first: the repr of a megabyte would cost more than the check that failed.
        text = printable(repr(value[: _LONGEST + 1] if type(value) is str else value))
    except BaseException:  # a __repr__ that fails must not suppress the message
        return None
    if may_hold_password(text):
        text = f"<{_HIDDEN}>"
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "…"


def may_hold_password(text: str) -> bool:
    """Whether a text looks like a connection URL with user and password, or like a part of one."""
    return _PASSWORD.search(str.__getitem__(text, slice(_SEARCHED))) is not None


def printable(text: str) -> str:
    """Return ``text`` as plain ``str`` for any log or JSON: lone surrogates are escaped."""
    # A subclass may override anything; `str`'s own slicing returns a plain `str`.
    text = str.__getitem__(text, slice(None))
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace").decode()
    return text


def is_class(value: Any) -> TypeGuard[type]:
    """Whether ``value`` is a class. A generic alias is not one, although Python 3.10 says so."""
    return issubclass(type(value), type)


def type_name(cls: type) -> str:
    """Return the dotted name of a class, without ``builtins``."""
    name = printable(cls.__qualname__)
    module: Any = cls.__module__
    if not isinstance(module, str) or module == "builtins":
        return name
    return f"{printable(module)}.{name}"


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a suggestion to append to an error, "; did you mean `x`?", or an empty text."""
    import difflib  # for mistakes only

    found = difflib.get_close_matches(name[:_LONGEST], list(known), n=1, cutoff=0.6)
    return f"; did you mean `{found[0]}`?" if found else ""
