"""Read a pickle as data. No class or function that it names is imported or called.

Dates, durations, and time zones become what they are; every other object becomes a
:class:`Plain`, which has the name of its class and its attributes.
"""

from __future__ import annotations

import io
import pickle
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

__all__ = ["Plain", "load"]


class Plain:
    """An object of a class that was not imported."""

    class_name = ""

    def __new__(cls, *args: Any, **options: Any) -> Plain:
        """Accept whatever the pickle passes."""
        made = super().__new__(cls)
        made.__dict__["_args"] = args
        return made

    def __init__(self, *args: Any, **options: Any) -> None: ...

    def __setstate__(self, state: Any) -> None:
        # A slotted class has a pair of states.
        for part in state if isinstance(state, tuple) else (state,):
            if isinstance(part, dict):
                self.__dict__.update({str(name): value for name, value in part.items()})

    def __call__(self, *args: Any, **options: Any) -> Plain:
        """Do nothing; a pickle may call what it took from an object."""
        return self

    # A pickle may treat an object as a list or a dict.
    def append(self, value: Any) -> None:
        """Ignore an element."""

    def __setitem__(self, key: Any, value: Any) -> None: ...

    @property
    def kind(self) -> str:
        """The class's name, without its module."""
        return self.class_name.rpartition(".")[2]


class _PlainZone(Plain, tzinfo):
    """A time zone of a library other than ``zoneinfo``."""


def load(data: bytes) -> Any:
    """Return the content. Raises ``ValueError`` for what is no pickle, or a newer one."""
    try:
        return _Reader(io.BytesIO(data)).load()
    except Exception as error:  # a damaged pickle raises anything
        raise ValueError(f"its pickle can't be read: {error}") from None


_DATA: dict[tuple[str, str], Any] = {
    ("datetime", "datetime"): datetime,
    ("datetime", "date"): date,
    ("datetime", "time"): time,
    ("datetime", "timedelta"): timedelta,
    ("datetime", "timezone"): timezone,
    ("builtins", "set"): set,
    ("builtins", "frozenset"): frozenset,
    ("builtins", "bytearray"): bytearray,
}


class _Reader(pickle.Unpickler):
    """Gives each name in a pickle a meaning of ours."""

    def find_class(self, module: str, name: str) -> Any:
        module = "builtins" if module == "__builtin__" else module
        known = _DATA.get((module, name)) or _ZONES.get((module, name))
        if known is not None:
            return known
        base = _PlainZone if module.partition(".")[0] in ("pytz", "dateutil", "tzlocal") else Plain
        return type(name, (base,), {"class_name": f"{module}.{name}"})


class _ZoneClass:
    """Stands for ``zoneinfo.ZoneInfo``, of which a pickle takes ``_unpickle``."""


def _attribute(of: Any, name: Any) -> Any:
    if of is _ZoneClass and name == "_unpickle":
        return _zone
    return type("getattr", (Plain,), {"class_name": "builtins.getattr"})()


def _zone(name: Any, *_: Any) -> tzinfo:
    return ZoneInfo(str(name))


def _encoded(text: Any, encoding: Any) -> bytes:
    """Old protocols write bytes as text in Latin-1."""
    return str(text).encode("latin-1")


def _utc(*_: Any) -> tzinfo:
    return timezone.utc


_ZONES: dict[tuple[str, str], Any] = {
    ("zoneinfo", "ZoneInfo"): _ZoneClass,
    ("zoneinfo", "ZoneInfo._unpickle"): _zone,
    ("backports.zoneinfo", "ZoneInfo"): _ZoneClass,
    ("builtins", "getattr"): _attribute,
    ("_codecs", "encode"): _encoded,
    ("pytz", "_p"): _zone,
    ("pytz", "_UTC"): _utc,
}
