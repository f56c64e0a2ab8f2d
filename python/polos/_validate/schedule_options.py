"""Check the options of a schedule, once, for the decorator and for the API.

This module checks names, types, and ranges. It does not check cron syntax or time zones:
the core checks those.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import timedelta, timezone, tzinfo
from types import MappingProxyType
from typing import Any
from zoneinfo import ZoneInfo

from polos._codec.codec import encode
from polos._core.real_datetime import date, datetime
from polos._validate.formatting import nearest, printable, shown, type_name
from polos.exceptions import (
    InvalidArgumentError,
    InvalidCronError,
    InvalidScheduleError,
    InvalidTimezoneError,
)

__all__ = [
    "CATCH_UPS",
    "OVERLAPS",
    "WEEKS_MAX",
    "ScheduleDeclaration",
    "check_calendar_name",
    "check_identifier",
    "check_input",
    "check_key",
    "check_run_on_create",
    "check_tags",
    "core_spec",
    "iso_date",
    "normalise_schedule",
]

OVERLAPS = ("buffer_one", "skip", "buffer_all", "cancel_running", "allow")
CATCH_UPS = ("latest", "all", "none")

IDENTIFIER_LENGTH_MAX = 255
WEEKS_MAX = 520
TAGS_MAX = 32
TAG_NAME_LENGTH_MAX = 100
CALENDARS_MAX = 16
CALENDAR_NAME_LENGTH_MAX = 100
_LONGEST = timedelta(days=36_525)
_COUNT_MAX = 1_000_000_000
_NAME = r"[A-Za-z0-9._-]+"
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MICROSECOND = timedelta(microseconds=1)


class ScheduleDeclaration:
    """A checked schedule, as :func:`normalise_schedule` returns it.

    ``spec`` is plain JSON data for the core. ``skip_calendar`` is the container of excluded dates
    that only the application can evaluate, if there is one.
    """

    __slots__ = ("skip_calendar", "spec")

    def __init__(self, spec: Mapping[str, Any], skip_calendar: Any = None) -> None:
        self.spec = spec
        self.skip_calendar = skip_calendar

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> ScheduleDeclaration:
        """Check ``options`` and keep them. Raises what :func:`normalise_schedule` raises."""
        spec = normalise_schedule(options)
        calendar = spec.pop("skip_calendar", None)
        return cls(MappingProxyType(spec), calendar)


def normalise_schedule(options: Mapping[str, Any], *, partial: bool = False) -> dict[str, Any]:
    """Check the options of a schedule and return them as plain JSON data for the core.

    Takes exactly one of ``cron`` (text, or a list of texts), ``every`` (seconds or ``timedelta``,
    at least 1 s), and ``at`` (aware ``datetime``), and ``timezone``, ``key``, ``overlap``,
    ``catch_up``, ``max_catch_up``, ``catch_up_window``, ``jitter``, ``start_at``, ``end_at``,
    ``max_runs``, ``skip``, ``on_skip``, ``pause_after_failures``, ``priority``, ``days``,
    ``weeks``, ``tags``, ``run_on_create``, and ``input``.

    Returns every name, with defaults filled in: durations as integer microseconds (``every_us``,
    ``catch_up_window_us``, ``jitter_us``), instants as integer microseconds since the epoch
    (``at_us``, ``start_at_us``, ``end_at_us``), lists of dates as ISO texts, of the cron
    expressions that name days to skip, and of the names of stored calendars (``skip_dates``,
    ``skip_cron``, ``calendars``),
    ``tags`` as a dict, and ``input`` as JSON text in the format of the codec. Another container of
    dates cannot be stored. It is returned under ``skip_calendar``, a key that is otherwise absent
    and must be removed before the rest is sent as JSON.

    With ``partial`` (an update), only the names in ``options`` are returned, and a trigger may be
    missing. ``None`` means "not given" for the triggers, and "none" for the optional rest. What
    only a creation can have is rejected.

    Raises :class:`InvalidScheduleError` (:class:`InvalidCronError` for a cron expression that is
    not text, and likewise :class:`InvalidTimezoneError`), and :class:`SerializationError` for an
    ``input`` that cannot be stored.
    """
    if not options.keys() <= _FIELDS.keys():
        name = next(name for name in options if name not in _FIELDS)
        raise InvalidScheduleError(
            f"unknown schedule option {shown(name)}{nearest(str(name), _FIELDS) or _allowed()}"
        )
    if partial and "run_on_create" in options:
        raise InvalidScheduleError(
            "run_on_create: the schedule exists, and is not created again; to start a run now, use "
            "`schedules.trigger`"
        )
    triggers = [name for name in _TRIGGERS if options.get(name) is not None]
    if len(triggers) > 1 or not (triggers or partial):
        given = " and ".join(f"`{name}`" for name in triggers) or "none"
        raise InvalidScheduleError(
            f"a schedule needs exactly one of `cron`, `every` and `at`; {given} given"
        )
    spec: dict[str, Any] = {} if partial else dict(_DEFAULTS)
    for name, value in options.items():
        stored, default, check = _FIELDS[name]
        if value is None and default is None:
            spec[stored] = None
            if name == "skip":
                spec["skip_cron"] = spec["calendars"] = None
        elif name == "skip":
            skips = _skips(value)
            spec |= skips
            if skips["skip_dates"] is None:
                spec["skip_calendar"] = value
        else:
            spec[stored] = check(name, value)
    if triggers:
        # This trigger replaces the previous one, of whatever kind.
        spec |= {_FIELDS[name][0]: None for name in _TRIGGERS if name not in triggers}
        if triggers != ["cron"]:
            spec |= {name: None for name in _OF_CRON if name not in options}
    if spec.get("skip_calendar") is not None and spec.get("on_skip"):
        raise InvalidScheduleError(
            "on_skip: `skip` is a calendar of the application, which is asked when a slot has "
            "come; store its dates with `calendars.set`, and give the calendar's name"
        )
    start, end = spec.get("start_at_us"), spec.get("end_at_us")
    if start is not None and end is not None and end <= start:
        raise InvalidScheduleError(
            f"`end_at` {shown(options['end_at'].isoformat())} isn't after `start_at` "
            f"{shown(options['start_at'].isoformat())}"
        )
    return spec


def core_spec(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Convert the result of :func:`normalise_schedule` to what the core needs to compute slots:
    without options that are not given, those stored separately, and those that only the application
    can evaluate.
    """
    return {
        name: value
        for name, value in spec.items()
        if value is not None and name not in _STORED_APART
    }


def check_identifier(
    what: str, value: Any, error: Callable[[str], Exception] = InvalidArgumentError
) -> str:
    """Return ``value`` if it is a valid workflow id or schedule key; ``what`` is for the error.

    Valid is any text of 1 to 255 characters without control characters, lone surrogates, or leading
    and trailing blanks.
    """
    if type(value) is not str:
        if isinstance(value, str):
            return check_identifier(what, str.__getitem__(value, slice(None)), error)
        advice = "; use `str(...)`" if type(value) is int else ""
        raise error(f"{what}: {shown(value)} of type `{type(value).__name__}` given, "
                    f"expected text{advice}")  # fmt: skip
    if not value:
        raise error(f"{what}: expected a non-empty text")
    if len(value) > IDENTIFIER_LENGTH_MAX:
        raise error(
            f"{what}: {shown(value)} has {len(value)} characters, at most "
            f"{IDENTIFIER_LENGTH_MAX} are allowed"
        )
    if value != value.strip():
        raise error(f"{what}: {shown(value)} begins or ends with a blank; remove it")
    if value.isprintable():
        return value
    for character in value:
        if character < " " or "\x7f" <= character <= "\x9f" or "\ud800" <= character <= "\udfff":
            raise error(
                f"{what}: {shown(value)} contains the character `{character!a}`; control "
                f"characters and lone surrogates aren't allowed"
            )
    return value


def _allowed() -> str:
    return f"; expected one of {', '.join(f'`{name}`' for name in _FIELDS)}"


def _cron(name: str, value: Any) -> str | list[str]:
    """Return one expression, or several in their order, each once."""
    if not isinstance(value, (list, tuple)):
        return _expression(value)
    if not value:
        raise InvalidCronError("cron: an empty list given, expected at least one expression")
    found = list(dict.fromkeys(map(_expression, value)))
    return found[0] if len(found) == 1 else found


def _expression(value: Any) -> str:
    if not isinstance(value, str):
        raise InvalidCronError(
            f"cron: {shown(value)} of type `{type_name(type(value))}` given, expected text "
            f"of five fields such as `0 9 * * *`, or a list of such texts"
        )
    if printable(value) != value:
        raise InvalidCronError(f"cron: {shown(value)} contains characters that aren't Unicode")
    return value


def _timezone(name: str, value: Any) -> str:
    if isinstance(value, ZoneInfo) and value.key is not None:
        return value.key
    if value is timezone.utc:
        return "UTC"
    if not isinstance(value, str) or printable(value) != value:
        other = " (fixed offsets have no rules for daylight saving)" * isinstance(value, tzinfo)
        raise InvalidTimezoneError(
            f"timezone: {shown(value)} given, expected an IANA name such as "
            f"`America/New_York`{other}"
        )
    return value


def check_key(name: str, value: Any) -> str:
    """Check a schedule's key; ``name`` is not used."""
    return check_identifier("schedule key", value, InvalidScheduleError)


def _one_of(*names: str) -> Callable[[str, Any], str]:
    def check(name: str, value: Any) -> str:
        if isinstance(value, str) and value in names:
            return value
        suggestion = nearest(value, names) if isinstance(value, str) else ""
        allowed = ", ".join(f"`{n}`" for n in names)
        raise InvalidScheduleError(
            f"{name}: {shown(value)} given, expected one of {allowed}{suggestion}"
        )

    return check


def _count(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _COUNT_MAX:
        raise InvalidScheduleError(
            f"{name}: {shown(value)} given, expected a whole number of 1 or more"
        )
    return int(value)


def _weeks(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= WEEKS_MAX:
        raise InvalidScheduleError(
            f"{name}: {shown(value)} given, expected a whole number from 1 (every week) to "
            f"{WEEKS_MAX}"
        )
    return int(value)


def _priority(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 9:
        raise InvalidScheduleError(
            f"{name}: {shown(value)} given, expected a whole number from 0 to 9 (higher is earlier)"
        )
    return int(value)


def _duration(least: timedelta, least_text: str) -> Callable[[str, Any], int]:
    def check(name: str, value: Any) -> int:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            try:
                value = timedelta(seconds=value)
            except (OverflowError, ValueError):  # out of range for a timedelta, or not a number
                raise InvalidScheduleError(
                    f"{name}: {shown(value)} seconds given, expected {least_text} and at most 100 "
                    f"years"
                ) from None
        if not isinstance(value, timedelta):
            raise InvalidScheduleError(
                f"{name}: {shown(value)} of type `{type_name(type(value))}` given, expected a "
                f"number of seconds or a `datetime.timedelta`"
            )
        if not least <= value <= _LONGEST:
            raise InvalidScheduleError(
                f"{name}: {shown(str(value))} given, expected {least_text} and at most 100 years"
            )
        return value // _MICROSECOND

    return check


def _instant(name: str, value: Any) -> int:
    if not isinstance(value, datetime):
        raise InvalidScheduleError(
            f"{name}: {shown(value)} of type `{type_name(type(value))}` given, expected an aware "
            f"`datetime.datetime`"
        )
    if value.utcoffset() is None:
        raise InvalidScheduleError(
            f"{name}: {shown(value.isoformat())} has no time zone; add one, for example "
            f'`.replace(tzinfo=ZoneInfo("America/New_York"))` or `.astimezone()` for local time'
        )
    return (value - _EPOCH) // _MICROSECOND


def _skips(value: Any) -> dict[str, list[str] | None]:
    """Return what can be stored: dates as sorted ISO texts, and the cron expressions and the names
    of calendars, if there are any. Everything is ``None`` for another container.
    """
    if isinstance(value, str) and (value.startswith(_CRON_PREFIX) or _is_name(value)):
        value = [value]
    if isinstance(value, (list, tuple, set, frozenset)):
        texts = {item for item in value if isinstance(item, str)}
        days = {item for item in texts if item.startswith(_CRON_PREFIX)}
        names = {
            check_calendar_name("skip", item, InvalidScheduleError)
            for item in texts - days
            if _is_name(item)
        }
        if len(names) > CALENDARS_MAX:
            raise InvalidScheduleError(
                f"skip: {len(names)} calendars given, a schedule can have at most {CALENDARS_MAX}"
            )
        rest = {_skipped_date(item) for item in value if item not in days and item not in names}
        return {
            "skip_dates": sorted(rest),
            "skip_cron": sorted(_expression(day.removeprefix(_CRON_PREFIX)) for day in days)
            or None,
            "calendars": sorted(names) or None,
        }
    if isinstance(value, (str, bytes, date)) or not hasattr(type(value), "__contains__"):
        raise InvalidScheduleError(
            f"skip: {shown(value)} of type `{type_name(type(value))}` given, expected a list of "
            f"dates and of texts such as `cron:* * 1 * *`, the name of a stored calendar, or a "
            f"container that answers `date in container`, such as `holidays.US()`"
        )
    return {"skip_dates": None, "skip_cron": None, "calendars": None}


def _is_name(text: str) -> bool:
    """Whether a text in ``skip`` names a stored calendar: dates begin with a digit."""
    return text[:1].isascii() and text[:1].isalpha() and re.fullmatch(_NAME, text) is not None


def check_calendar_name(
    what: str, value: Any, error: Callable[[str], Exception] = InvalidArgumentError
) -> str:
    """Return ``value`` if it can be the name of a calendar; ``what`` is for the error."""
    if isinstance(value, str) and _is_name(value) and len(value) <= CALENDAR_NAME_LENGTH_MAX:
        return value
    raise error(
        f"{what}: {shown(value)} given, expected a letter, then letters, digits, `-`, `_`, and "
        f"`.`, at most {CALENDAR_NAME_LENGTH_MAX} characters, such as `us-holidays`"
    )


def _skipped_date(value: Any) -> str:
    expected = (
        "a date, a text such as `2026-12-25` or `cron:* * 1 * *`, or the name of a stored "
        "calendar such as `us-holidays`"
    )
    return iso_date("skip", value, expected, InvalidScheduleError)


def iso_date(
    what: str,
    value: Any,
    expected: str = "a date, or a text such as `2026-12-25`",
    error: Callable[[str], Exception] = InvalidArgumentError,
) -> str:
    """Return a date as ISO text; ``what`` and ``expected`` are for the error."""
    if isinstance(value, datetime):
        raise error(
            f"{what}: {shown(value.isoformat())} is a datetime, expected a date; use `.date()`"
        )
    if isinstance(value, date):
        return value.isoformat()
    try:
        # Only some versions of Python read other ISO forms (`20261225`).
        if isinstance(value, str) and date.fromisoformat(value).isoformat() == value:
            return value
    except ValueError:
        pass
    raise error(f"{what}: {shown(value)} given, expected {expected}")


def check_input(name: str, value: Any) -> str:
    """Return a schedule's input as JSON text; ``name`` is not used."""
    return encode(value, name="input").decode()


def check_tags(name: str, value: Any) -> dict[str, str]:
    """Return tags: names and values, both texts. ``name`` is that of the option."""
    if not isinstance(value, Mapping):
        raise InvalidScheduleError(
            f"{name}: {shown(value)} of type `{type_name(type(value))}` given, expected a dict of "
            f'texts such as `{{"team": "billing"}}`'
        )
    tags: dict[str, str] = {}
    for tag, text in value.items():
        tag = check_identifier(f"{name}, a name", tag, InvalidScheduleError)
        if len(tag) > TAG_NAME_LENGTH_MAX:
            raise InvalidScheduleError(
                f"{name}: the name {shown(tag)} has {len(tag)} characters, at most "
                f"{TAG_NAME_LENGTH_MAX} are allowed"
            )
        if "=" in tag:
            raise InvalidScheduleError(
                f"{name}: the name {shown(tag)} contains `=`, which separates name and value on "
                f"the command line; use another sign"
            )
        tags[tag] = check_identifier(
            f"{name}, the value of {shown(tag)}", text, InvalidScheduleError
        )
    if len(tags) > TAGS_MAX:
        raise InvalidScheduleError(
            f"{name}: {len(tags)} tags given, a schedule can have at most {TAGS_MAX}"
        )
    return tags


def check_run_on_create(name: str, value: Any) -> bool:
    """Return ``value`` if it is a boolean."""
    if value is True or value is False:
        return bool(value)
    raise InvalidScheduleError(f"{name}: {shown(value)} given, expected True or False")


_Check = Callable[[str, Any], Any]
_TRIGGERS = ("cron", "every", "at")
# How a cron expression is marked among the dates of `skip`.
_CRON_PREFIX = "cron:"
# What a specification can only say beside cron expressions.
_OF_CRON = ("days", "weeks")
# What is no part of the core's specification.
_STORED_APART = frozenset(("key", "input", "tags", "run_on_create", "skip_calendar"))
_positive = _duration(timedelta(0), "0 or more")

# name: (name for the core, default, check)
_FIELDS: dict[str, tuple[str, Any, _Check]] = {
    "cron": ("cron", None, _cron),
    "every": ("every_us", None, _duration(timedelta(seconds=1), "1 second or more")),
    "at": ("at_us", None, _instant),
    "timezone": ("timezone", "UTC", _timezone),
    "key": ("key", "global", check_key),
    "overlap": ("overlap", "buffer_one", _one_of(*OVERLAPS)),
    "catch_up": ("catch_up", "latest", _one_of(*CATCH_UPS)),
    "max_catch_up": ("max_catch_up", 100, _count),
    "catch_up_window": ("catch_up_window_us", timedelta(days=1), _positive),
    "jitter": ("jitter_us", timedelta(0), _positive),
    "start_at": ("start_at_us", None, _instant),
    "end_at": ("end_at_us", None, _instant),
    "max_runs": ("max_runs", None, _count),
    "skip": ("skip_dates", None, lambda name, value: value),
    "on_skip": ("on_skip", None, _one_of("next_workday")),
    "pause_after_failures": ("pause_after_failures", None, _count),
    "priority": ("priority", None, _priority),
    "days": ("days", None, _one_of("or", "and")),
    "weeks": ("weeks", None, _weeks),
    "tags": ("tags", None, check_tags),
    "run_on_create": ("run_on_create", False, check_run_on_create),
    "input": ("input", None, check_input),
}

_DEFAULTS: dict[str, Any] = {
    stored: None if default is None else check(name, default)
    for name, (stored, default, check) in _FIELDS.items()
} | {"skip_cron": None, "calendars": None}
