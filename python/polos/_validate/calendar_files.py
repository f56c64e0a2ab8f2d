"""Read dates from calendar files: iCalendar, or one date per line."""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from polos._core.real_datetime import date, datetime
from polos._validate.formatting import shown
from polos.exceptions import InvalidArgumentError

__all__ = ["YEARS", "dates_in"]

# How many years ahead rules are expanded that have no end.
YEARS = 10

_DAYS_MAX = 366
_WEEKDAYS = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")
_RULE_PARTS = {"FREQ", "INTERVAL", "COUNT", "UNTIL", "BYMONTH", "BYMONTHDAY", "BYDAY", "WKST"}


def dates_in(text: str, until: date | None) -> list[date]:
    """Do what :func:`polos.calendars.parse` does."""
    lines = text.removeprefix("\ufeff").splitlines()
    first = next((line.strip() for line in lines if line.strip()), "")
    if until is None:
        until = date(datetime.now().year + YEARS, 12, 31)
    if first.upper() == "BEGIN:VCALENDAR":
        found = {day for event in _events(lines) for day in event.dates(until)}
    else:
        found = set(_listed(lines))
    return sorted(found)


def _listed(lines: list[str]) -> Iterator[date]:
    for number, line in enumerate(lines, 1):
        text = line.partition("#")[0].strip()
        if text:
            try:
                day = date.fromisoformat(text)
            except ValueError:
                day = None
            if day is None or day.isoformat() != text:
                raise InvalidArgumentError(
                    f"line {number}: {shown(text)} isn't a date; expected one such as "
                    f"`2026-12-25` per line, or an iCalendar file, which begins with "
                    f"`BEGIN:VCALENDAR`"
                )
            yield day


@dataclass
class _Property:
    line: int
    name: str
    value: str

    def wrong(self, why: str) -> InvalidArgumentError:
        return InvalidArgumentError(f"line {self.line}: {self.name}: {shown(self.value)} {why}")


@dataclass
class _Event:
    line: int
    properties: list[_Property] = field(default_factory=list)

    def one(self, name: str) -> _Property | None:
        return next((found for found in self.properties if found.name == name), None)

    def dates(self, until: date) -> Iterator[date]:
        status = self.one("STATUS")
        if status is not None and status.value.strip().upper() == "CANCELLED":
            return
        start = self.one("DTSTART")
        if start is None:
            raise InvalidArgumentError(f"line {self.line}: an event without DTSTART")
        first = _day(start, start.value)
        length = self._length(start, first)
        starts = {first}
        for found in self.properties:
            if found.name == "RRULE":
                starts.update(_yearly(found, first, until))
            elif found.name == "RDATE":
                starts.update(_day(found, part) for part in found.value.split(","))
            elif found.name == "EXRULE":
                raise found.wrong("isn't supported; list the dates with EXDATE")
        for found in self.properties:
            if found.name == "EXDATE":
                starts -= {_day(found, part) for part in found.value.split(",")}
        for day in starts:
            yield from (day + timedelta(days=number) for number in range(length))

    def _length(self, start: _Property, first: date) -> int:
        """Return the number of days that the event touches."""
        end, duration = self.one("DTEND"), self.one("DURATION")
        if end is not None:
            last = _day(end, end.value)
            # The end is exclusive: an event up to midnight does not touch the next day.
            if last > first and _time(end.value) in ("", "000000"):
                last -= timedelta(days=1)
        elif duration is not None:
            last = _end(start, duration)
        else:
            last = first
        if last < first:
            raise (end or duration or start).wrong("is before DTSTART")
        days = (last - first).days + 1
        if days > _DAYS_MAX:
            raise (end or duration or start).wrong(
                f"makes the event {days} days long, at most {_DAYS_MAX} are allowed"
            )
        return days


def _unfolded(lines: list[str]) -> Iterator[tuple[int, str]]:
    """Join continuation lines, which begin with a blank."""
    number, text = 0, ""
    for place, line in enumerate(lines, 1):
        if line[:1] in (" ", "\t") and text:
            text += line[1:]
            continue
        if text.strip():
            yield number, text
        number, text = place, line
    if text.strip():
        yield number, text


def _events(lines: list[str]) -> Iterator[_Event]:
    event: _Event | None = None
    inside: list[str] = []
    for number, text in _unfolded(lines):
        head, separator, value = text.partition(":")
        while separator and head.count('"') % 2:
            # A colon in a quoted parameter.
            more, separator, value = value.partition(":")
            head += ":" + more
        if not separator:
            raise InvalidArgumentError(f"line {number}: {shown(text)} isn't `NAME:VALUE`")
        name = head.partition(";")[0].strip().upper()
        if name == "BEGIN":
            inside.append(value.strip().upper())
            if inside[-1] == "VEVENT":
                event = _Event(number)
        elif name == "END":
            if not inside or inside.pop() != value.strip().upper():
                raise InvalidArgumentError(f"line {number}: {shown(text)} ends what was not begun")
            if value.strip().upper() == "VEVENT" and event is not None:
                yield event
                event = None
        elif event is not None and inside[-1:] == ["VEVENT"]:
            event.properties.append(_Property(number, name, value.strip()))
    if inside:
        raise InvalidArgumentError(
            f"the file ends inside of {inside[-1]}; it is not complete, download it again"
        )


def _time(value: str) -> str:
    return value.strip().upper().partition("T")[2].rstrip("Z")


def _day(found: _Property, text: str) -> date:
    digits = text.strip().upper().partition("T")[0]
    try:
        if len(digits) == 8 and digits.isascii() and digits.isdigit():
            return date(int(digits[:4]), int(digits[4:6]), int(digits[6:]))
    except ValueError:
        pass
    raise found.wrong("isn't a date such as 20261225 or a time such as 20261225T090000")


def _end(start: _Property, duration: _Property) -> date:
    """Return the last day of an event with a duration such as ``P1D`` or ``PT36H``."""
    text = duration.value.strip().upper().removeprefix("+")
    units = {"W": "weeks", "D": "days", "H": "hours", "M": "minutes", "S": "seconds"}
    length, number = timedelta(0), ""
    if text[:1] != "P" or len(text) < 3:
        raise duration.wrong("isn't a duration such as P1D")
    for sign in text[1:].replace("T", ""):
        if sign.isdigit():
            number += sign
        elif sign in units and number and len(number) < 7:
            length += timedelta(**{units[sign]: int(number)})
            number = ""
        else:
            raise duration.wrong("isn't a duration such as P1D")
    clock = _time(start.value).ljust(6, "0")
    first = datetime.combine(_day(start, start.value), datetime.min.time())
    if clock.isdigit():
        first += timedelta(hours=int(clock[:2]), minutes=int(clock[2:4]), seconds=int(clock[4:6]))
    if not length:
        return first.date()
    return (first + length - timedelta(microseconds=1)).date()


def _yearly(found: _Property, first: date, until: date) -> list[date]:
    """Return the dates of a yearly rule from ``first`` on."""
    rule = _rule(found)
    if rule.get("FREQ") != "YEARLY":
        raise found.wrong(
            "is no yearly rule; only FREQ=YEARLY is supported; skip other regular days with a cron "
            "expression such as `cron:* * * * SAT`, or list the dates"
        )
    interval, count = _number(found, rule, "INTERVAL") or 1, _number(found, rule, "COUNT")
    last = min(until, _day(found, rule["UNTIL"])) if "UNTIL" in rule else until
    if count is not None and "UNTIL" not in rule:
        last = max(last, date(min(9999, first.year + count * interval), 12, 31))
    days: list[date] = []
    for year in range(first.year, last.year + 1, interval):
        for day in _in_year(found, rule, first, year):
            if first <= day <= last and (count is None or len(days) < count):
                days.append(day)
    return days


def _rule(found: _Property) -> Mapping[str, str]:
    rule: dict[str, str] = {}
    for part in filter(None, found.value.strip().upper().split(";")):
        name, separator, value = part.partition("=")
        if not separator or name not in _RULE_PARTS:
            raise found.wrong(
                f"has {shown(part)}; supported are {', '.join(sorted(_RULE_PARTS))}; list the "
                f"dates instead"
            )
        rule[name] = value
    return rule


def _number(found: _Property, rule: Mapping[str, str], name: str) -> int | None:
    if name not in rule:
        return None
    if not rule[name].isdigit() or not 1 <= int(rule[name]) <= 1_000:
        raise found.wrong(f"has {name}={rule[name]}; expected a number from 1 to 1000")
    return int(rule[name])


def _in_year(found: _Property, rule: Mapping[str, str], first: date, year: int) -> list[date]:
    """Return the dates of the rule in one year, in order."""
    months = _numbers(found, rule, "BYMONTH", 1, 12)
    by_day, by_month_day = rule.get("BYDAY"), _numbers(found, rule, "BYMONTHDAY", -31, 31)
    if by_day is not None and not months:
        raise found.wrong("has BYDAY without BYMONTH; list the dates instead")
    days: set[date] = set()
    for month in months or ([first.month] if not by_month_day else range(1, 13)):
        length = monthrange(year, month)[1]
        wanted = [number if number > 0 else length + 1 + number for number in by_month_day]
        if not wanted:
            wanted = [*range(1, length + 1)] if by_day is not None else [first.day]
        valid = [date(year, month, number) for number in wanted if 1 <= number <= length]
        if by_day is not None:
            allowed = {
                day for part in by_day.split(",") for day in _weekday(found, part, year, month)
            }
            valid = [day for day in valid if day in allowed]
        days.update(valid)
    return sorted(days)


def _numbers(
    found: _Property, rule: Mapping[str, str], name: str, least: int, most: int
) -> list[int]:
    if name not in rule:
        return []
    numbers = []
    for part in rule[name].split(","):
        digits = part.removeprefix("-")
        number = int(part) if digits.isascii() and digits.isdigit() and len(digits) < 4 else 0
        if number == 0 or not least <= number <= most:
            raise found.wrong(f"has {name}={rule[name]}; expected numbers from {least} to {most}")
        numbers.append(number)
    return numbers


def _weekday(found: _Property, part: str, year: int, month: int) -> list[date]:
    """Return the dates of ``4TH``, ``-1MO``, or ``SU`` in a month."""
    weekday, number = part[-2:], part[:-2].removeprefix("+")
    digits = number.removeprefix("-")
    if weekday not in _WEEKDAYS or (number and not (digits.isdigit() and 1 <= int(digits) <= 5)):
        raise found.wrong(f"has BYDAY={shown(part)}; expected such as 4TH or -1MO")
    length = monthrange(year, month)[1]
    days = [date(year, month, day) for day in range(1, length + 1)]
    days = [day for day in days if day.weekday() == _WEEKDAYS.index(weekday)]
    if not number:
        return days
    place = int(number) - 1 if int(number) > 0 else int(number)
    return days[place : place + 1 or None] if -len(days) <= place < len(days) else []
