"""Convert triggers of APScheduler, as plain data, to options of a schedule."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, timezone, tzinfo
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from polos._validate.schedule_options import WEEKS_MAX
from polos.cli.importers.cron_fields import MONTHS, DayFields, expand, render, render_days
from polos.cli.importers.plain_pickle import Plain

__all__ = ["Converted", "Unsupported", "converted", "described"]

# APScheduler counts Monday as 0; these are its numbers.
_WEEKDAYS = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
_POSITIONS = ["1st", "2nd", "3rd", "4th", "5th", "last"]
_NAMES = ["year", "month", "day", "week", "day_of_week", "hour", "minute", "second"]
_IN_HANDLER = "use the nearest cron expression, and return early in the function on other days"


class Unsupported(ValueError):
    """polos has no such trigger; ``remedy`` says what to do."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(reason)
        self.remedy = remedy


@dataclass
class Converted:
    """The trigger of a schedule."""

    options: dict[str, Any]
    jitter: timedelta | None = None
    differences: list[str] = field(default_factory=list)


def converted(trigger: Any, version: int) -> list[Converted]:
    """Return the schedules that fire as the trigger does. Raises :class:`Unsupported`."""
    if not isinstance(trigger, Plain):
        raise Unsupported("its trigger is no trigger of APScheduler", "add the schedule by hand")
    state = vars(trigger)
    newest = {3: 2, 4: 1}[version]
    if state.get("version", 1) > newest:
        raise Unsupported(
            f"a newer APScheduler wrote its trigger (version {state['version']}, at most "
            f"{newest} is known)",
            "add the schedule by hand",
        )
    if trigger.kind == "OrTrigger":
        return [one for part in state["triggers"] for one in converted(_part(part), version)]
    convert = _TRIGGERS.get(trigger.kind)
    if convert is None:
        raise Unsupported(
            f"polos has no trigger like `{trigger.class_name}`",
            "write it as cron, `every`, or `at`; for times that only code knows, let the function "
            "create its next schedule with `at`",
        )
    result = convert(state)
    jitter = state.get("jitter")
    if jitter:
        result.jitter = timedelta(seconds=jitter)
        result.differences.append("jitter: the delay of a time is always the same one")
    return [result]


def _part(part: Any) -> Plain:
    """A combining trigger stores pairs of a class's name and a state."""
    name, state = part
    made: Plain = type("part", (Plain,), {"class_name": str(name).replace(":", ".")})()
    made.__setstate__(state)
    return made


def described(trigger: Any) -> str:
    """Return the trigger in a line."""
    if not isinstance(trigger, Plain):
        return "an unknown trigger"
    state = vars(trigger)
    if trigger.kind in ("OrTrigger", "AndTrigger"):
        return f"{trigger.kind}({', '.join(described(_part(p)) for p in state['triggers'])})"
    if trigger.kind == "CronTrigger":
        fields = {name: text for name, text in _texts(state).items() if text != "*"}
        return f"CronTrigger({', '.join(f'{n}={t!r}' for n, t in fields.items())})"
    if trigger.kind == "IntervalTrigger":
        return f"IntervalTrigger({_period(state)})"
    if trigger.kind == "DateTrigger":
        return f"DateTrigger({state.get('run_date', state.get('run_time'))})"
    if trigger.kind == "CalendarIntervalTrigger":
        units = zip(("years", "months", "weeks", "days"), state["interval"], strict=True)
        return f"CalendarIntervalTrigger({', '.join(f'{n}={c}' for n, c in units if c)})"
    return f"{trigger.kind}(...)"


# --- cron ------------------------------------------------------------------------------------


def _cron(state: dict[str, Any]) -> Converted:
    texts = _texts(state)
    for name in ("year", "week"):
        if texts[name] != "*":
            raise Unsupported(
                f"it names the {name} ({texts[name]}), which cron has no field for", _IN_HANDLER
            )
    zone = _zone(state["timezone"])
    if texts["second"] != "0":
        return _seconds(texts, state, zone)
    numbers = {
        "minute": expand(texts["minute"], 0, 59, {}),
        "hour": expand(texts["hour"], 0, 23, {}),
        "month": expand(texts["month"], 1, 12, MONTHS),
    }
    day, weekday, options = _days(texts["day"], texts["day_of_week"])
    cron = " ".join(
        [
            render(numbers["minute"], 0, 59, starred="*" in texts["minute"]),
            render(numbers["hour"], 0, 23, starred="*" in texts["hour"]),
            day,
            render(numbers["month"], 1, 12, starred="*" in texts["month"]),
            weekday,
        ]
    )
    result = Converted({"cron": cron, "timezone": zone, **options, **_bounds(state)})
    if texts["day"] != "*" and texts["day_of_week"] != "*":
        result.differences.append(
            "days: APScheduler wants day and weekday to match both; so does this schedule"
        )
    if texts["day_of_week"] != "*" and any(c.isdigit() for c in weekday + texts["day_of_week"]):
        result.differences.append(f"weekdays: Monday is 0 in `{texts['day_of_week']}`, 1 here")
    if _has_clock_changes(zone):
        result.differences.append(_clock_changes(cron))
    return result


def _clock_changes(cron: str) -> str:
    minute, hour, *_ = cron.split()
    if minute.startswith("*") or hour.startswith("*"):
        return (
            "clock changes: it fires in both passes of a repeated hour, as in APScheduler, and "
            "not for skipped times (APScheduler: as long after the gap as they are in it)"
        )
    return (
        "clock changes: a skipped time fires at the end of the gap (APScheduler: as long after "
        "it as the time is in it), and a repeated time fires once (APScheduler: twice)"
    )


def _seconds(texts: dict[str, str], state: dict[str, Any], zone: str) -> Converted:
    """A cron expression with seconds is a period, or cannot be converted."""
    seconds = sorted(expand(texts["second"], 0, 59, {}))
    rest = {name: text for name, text in texts.items() if name != "second" and text != "*"}
    steps = {later - sooner for sooner, later in zip(seconds, [*seconds[1:], 60], strict=True)}
    if rest or len(steps) != 1 or seconds[0] != 0:
        raise Unsupported(
            f"its seconds ({texts['second']}) have no field in cron",
            "round it to a minute, or wait in the function: `await ctx.sleep(30)`",
        )
    result = Converted({"every": timedelta(seconds=steps.pop()), "timezone": zone})
    result.options |= _bounds(state)
    result.options.pop("start_at", None)  # it would move the slots off the full minute
    return result


def _texts(state: dict[str, Any]) -> dict[str, str]:
    """Return the fields as text. Version 4 stores text, version 3 objects."""
    found = dict.fromkeys(_NAMES, "*")
    for index, value in enumerate(state["fields"]):
        if isinstance(value, Plain):
            field_state = vars(value)
            found[field_state["name"]] = ",".join(map(_expression, field_state["expressions"]))
        else:
            found[_NAMES[index]] = str(value)
    return found


def _expression(value: Any) -> str:
    state = vars(value)
    step = f"/{state['step']}" if state.get("step") else ""
    if value.kind == "LastDayOfMonthExpression":
        return "last"
    if value.kind == "WeekdayPositionExpression":
        return f"{_POSITIONS[state['option_num']]} {_WEEKDAYS[state['weekday']]}"
    if value.kind == "AllExpression":
        return f"*{step}"
    first, last = state["first"], state["last"]
    return (f"{first}" if last in (None, first) else f"{first}-{last}") + step


def _days(day: str, weekday: str) -> DayFields:
    """Return the day fields. APScheduler wants both to match."""
    parts = [part.strip() for part in day.lower().split(",")]
    positions = [part.split() for part in parts if part.partition(" ")[0] in _POSITIONS]
    numbers = {name: number for number, name in enumerate(_WEEKDAYS)}
    weekdays = {(number + 1) % 7 for number in expand(weekday, 0, 6, numbers)}
    if positions or "last" in parts:
        if len(weekdays) < 7:
            raise Unsupported("it combines a day such as `last` with weekdays", _IN_HANDLER)
        named = [_position(*pair) for pair in positions if len(pair) == 2]
        rest = [part for part in parts if " " not in part]
        if not rest:
            return DayFields("*", ",".join(named))
        if named:
            raise Unsupported("it combines weekdays of a month with days", _IN_HANDLER)
        days = [part for part in rest if part != "last"]
        listed = [render(expand(",".join(days), 1, 31, {}), 1, 31)] if days else []
        return DayFields(",".join([*listed, "L"]), "*")
    return render_days(expand(day, 1, 31, {}), weekdays)


def _position(position: str, weekday: str) -> str:
    number = (_WEEKDAYS.index(weekday) + 1) % 7
    return f"{number}L" if position == "last" else f"{number}#{_POSITIONS.index(position) + 1}"


# --- the others ------------------------------------------------------------------------------


def _period(state: dict[str, Any]) -> timedelta:
    value = state["interval"]
    if isinstance(value, timedelta):
        return value
    names = ("weeks", "days", "hours", "minutes", "seconds", "microseconds")
    return timedelta(**dict(zip(names, value, strict=True)))


def _interval(state: dict[str, Any]) -> Converted:
    period = _period(state)
    if period < timedelta(seconds=1):
        raise Unsupported(
            f"its period of {period.total_seconds():g} s is shorter than a second",
            "loop in the function; a schedule is for a second or more",
        )
    zone = state.get("timezone")
    options: dict[str, Any] = {"every": period}
    result = Converted({**options, **_bounds(state)})
    result.differences.append(
        "interval: times are counted from the start date, so a late run or a restart moves none"
    )
    if zone is not None and period % timedelta(days=1) == timedelta(0):
        name = _zone(zone)
        if _has_clock_changes(name):
            result.differences.append(
                "clock changes: it follows elapsed time, as in APScheduler, so the local time "
                "moves by an hour; a cron expression keeps it"
            )
    return result


def _date(state: dict[str, Any]) -> Converted:
    at = state.get("run_date", state.get("run_time"))
    if not isinstance(at, datetime):
        raise Unsupported("it has no date", "add the schedule by hand")
    return Converted({"at": at})


def _calendar_interval(state: dict[str, Any]) -> Converted:
    years, months, weeks, days = state["interval"]
    hour, minute, second = state["time"]
    start: date = state["start_date"]
    given = {"years": years, "months": months, "weeks": weeks, "days": days}
    text = ", ".join(f"{name}={count}" for name, count in given.items() if count)
    fields = None
    if second == 0:
        fields = _calendar_fields(given, start)
    if fields is None:
        raise Unsupported(
            f"polos can't count `{text}`" if second == 0 else f"its time has seconds ({second})",
            "use `every` if the local time may move when clocks change, or the nearest cron "
            "expression",
        )
    zone = _zone(state["timezone"])
    place = ZoneInfo(zone)
    options: dict[str, Any] = {"cron": f"{minute} {hour} {fields.cron}", "timezone": zone}
    if fields.weeks > 1:
        options["weeks"] = fields.weeks
    options["start_at"] = datetime(start.year, start.month, start.day, tzinfo=place)
    end = state.get("end_date")
    if end is not None:
        after = end + timedelta(days=1)
        options["end_at"] = datetime(after.year, after.month, after.day, tzinfo=place)
    result = Converted(options)
    if _has_clock_changes(zone):
        result.differences.append(
            "clock changes: a skipped time fires at the end of the gap (APScheduler: not at all)"
        )
    return result


class _CalendarFields(NamedTuple):
    """When a calendar's period fires, besides the time of day."""

    cron: str
    """Day, month, and weekday."""
    weeks: int = 1
    """Every so many weeks."""


def _calendar_fields(given: dict[str, int], start: date) -> _CalendarFields | None:
    """Return the fields for periods that a schedule can count."""
    (unit, count), *more = [(unit, count) for unit, count in given.items() if count]
    if more:
        return None
    if (unit, count) == ("days", 1):
        return _CalendarFields("* * *")
    if unit == "days" and count % 7 == 0:
        unit, count = "weeks", count // 7
    if unit == "weeks" and count <= WEEKS_MAX:
        return _CalendarFields(f"* * {start.isoweekday() % 7}", count)
    if unit == "months" and 12 % count == 0:
        months = sorted((start.month - 1 + step) % 12 + 1 for step in range(0, 12, count))
        return _CalendarFields(f"{start.day} {render(months, 1, 12)} *")
    if (unit, count) == ("years", 1):
        return _CalendarFields(f"{start.day} {start.month} *")
    return None


_TRIGGERS: dict[str, Callable[[dict[str, Any]], Converted]] = {
    "CronTrigger": _cron,
    "IntervalTrigger": _interval,
    "DateTrigger": _date,
    "CalendarIntervalTrigger": _calendar_interval,
}


# --- bounds and zones ------------------------------------------------------------------------


def _bounds(state: dict[str, Any]) -> dict[str, Any]:
    """Return `start_at` and `end_at`. APScheduler's end is inclusive."""
    start = state.get("start_date", state.get("start_time"))
    end = state.get("end_date", state.get("end_time"))
    options: dict[str, Any] = {}
    if start is not None:
        options["start_at"] = start
    if end is not None:
        options["end_at"] = end + timedelta(microseconds=1)
    return options


def _zone(value: tzinfo) -> str:
    """Return the IANA name of a zone."""
    if isinstance(value, ZoneInfo):
        return value.key
    if isinstance(value, timezone):
        offset = value.utcoffset(None)
        if not offset:
            return "UTC"
        hours, rest = divmod(offset, timedelta(hours=1))
        if not rest and -12 <= hours <= 14:
            return f"Etc/GMT{-hours:+d}"
    raise Unsupported(
        f"its time zone ({getattr(value, 'class_name', value)}) has no IANA name",
        "give the trigger a zone by name, such as `Europe/Paris`, and store the job again",
    )


def _has_clock_changes(name: str) -> bool:
    zone = ZoneInfo(name)
    year = datetime.now(timezone.utc).year
    moments = [datetime(year, month, 1, tzinfo=zone) for month in range(1, 13)]
    return len({moment.utcoffset() for moment in moments}) > 1
