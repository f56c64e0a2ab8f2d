"""The standard library's ``date`` and ``datetime``, even if a tool has replaced them.

A tool such as freezegun replaces both names while a test runs. A module imported meanwhile would
keep the replacement in tables that are looked up by type, and in constants. So modules of polos
that have either import the two names from here.
"""

from __future__ import annotations

from datetime import date as _date
from datetime import datetime as _datetime
from typing import TYPE_CHECKING, Any

__all__ = ["date", "datetime"]


def _real(cls: type) -> Any:
    # A replacement class derives from the class that it replaces.
    return next(base for base in cls.__mro__ if base.__module__ == "datetime")


if TYPE_CHECKING:
    from datetime import date, datetime
else:
    date, datetime = _real(_date), _real(_datetime)
