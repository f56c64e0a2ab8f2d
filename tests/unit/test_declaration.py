"""Options of a schedule: what is sent to the core, and what is refused before."""

from __future__ import annotations

import json
from datetime import date, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from counting import lines_executed
from hypothesis import given
from hypothesis import strategies as st

from polos._codec.codec import decode
from polos._validate.schedule_options import ScheduleDeclaration, normalise_schedule
from polos.exceptions import (
    InvalidCronError,
    InvalidScheduleError,
    InvalidTimezoneError,
    PolosError,
    SerializationError,
)

UTC = timezone.utc
FAR = datetime.max.replace(tzinfo=timezone(timedelta(hours=-12)))
CRON = {"cron": "0 9 * * *"}


class Weekends:
    """A calendar that only the application can evaluate, like `holidays.US()`."""

    def __contains__(self, day: object) -> bool:
        return isinstance(day, date) and day.weekday() > 4


class Holidays(dict[date, str]):
    pass


def test_defaults_are_filled_in() -> None:
    assert normalise_schedule(CRON) == {
        "cron": "0 9 * * *",
        "every_us": None,
        "at_us": None,
        "timezone": "UTC",
        "key": "global",
        "overlap": "buffer_one",
        "catch_up": "latest",
        "max_catch_up": 100,
        "catch_up_window_us": 86_400_000_000,
        "jitter_us": 0,
        "start_at_us": None,
        "end_at_us": None,
        "max_runs": None,
        "skip_dates": None,
        "skip_cron": None,
        "calendars": None,
        "on_skip": None,
        "pause_after_failures": None,
        "priority": None,
        "days": None,
        "weeks": None,
        "tags": None,
        "run_on_create": False,
        "input": None,
    }


ACCEPTED = [
    ({"every": timedelta(seconds=30), "cron": None}, "every_us", 30_000_000),
    ({"every": 30}, "every_us", 30_000_000),
    ({"every": 1.5}, "every_us", 1_500_000),
    (CRON | {"catch_up_window": 60}, "catch_up_window_us", 60_000_000),
    (CRON | {"jitter": 0.25}, "jitter_us", 250_000),
    ({"every": timedelta(seconds=1)}, "every_us", 1_000_000),
    ({"every": timedelta(seconds=1, microseconds=1)}, "every_us", 1_000_001),
    ({"every": timedelta(days=36_525)}, "every_us", 36_525 * 86_400 * 10**6),
    ({"at": datetime(2026, 1, 1, tzinfo=UTC)}, "at_us", 1_767_225_600_000_000),
    (
        {"at": datetime(2026, 11, 1, 1, 30, fold=1, tzinfo=ZoneInfo("America/New_York"))},
        "at_us",
        1_793_514_600_000_000,
    ),
    ({"at": datetime(1, 1, 1, tzinfo=UTC)}, "at_us", -62_135_596_800_000_000),
    ({"at": FAR}, "at_us", 253_402_343_999_999_999),
    (CRON | {"timezone": ZoneInfo("Asia/Tokyo")}, "timezone", "Asia/Tokyo"),
    (CRON | {"timezone": UTC}, "timezone", "UTC"),
    (CRON | {"key": "user_123"}, "key", "user_123"),
    (CRON | {"key": "'; DROP TABLE x"}, "key", "'; DROP TABLE x"),
    (CRON | {"jitter": timedelta(minutes=2)}, "jitter_us", 120_000_000),
    (CRON | {"catch_up_window": timedelta(0)}, "catch_up_window_us", 0),
    (CRON | {"max_runs": 1}, "max_runs", 1),
    (CRON | {"skip": [date(2026, 1, 2), "2026-01-01"]}, "skip_dates", ["2026-01-01", "2026-01-02"]),
    (CRON | {"skip": ()}, "skip_dates", []),
    (CRON | {"skip": {date(2026, 1, 1), "2026-01-01"}}, "skip_dates", ["2026-01-01"]),
    (CRON | {"skip": None}, "skip_dates", None),
    (CRON | {"input": {"a": [1, None]}}, "input", '{"a":[1,null]}'),
    (CRON | {"input": 0}, "input", "0"),
]  # fmt: skip


@pytest.mark.parametrize(("options", "name", "value"), ACCEPTED)
def test_what_is_sent_to_the_core(options: dict[str, Any], name: str, value: Any) -> None:
    spec = normalise_schedule(options)
    assert spec[name] == value
    assert json.loads(json.dumps(spec)) == spec


REFUSED = [
    ({}, InvalidScheduleError, "exactly one of `cron`, `every` and `at`; none given"),
    ({"cron": None}, InvalidScheduleError, "none given"),
    (CRON | {"every": timedelta(1)}, InvalidScheduleError, "`cron` and `every` given"),
    (CRON | {"timezne": "UTC"}, InvalidScheduleError, "did you mean `timezone`"),
    (CRON | {"zzz": 1}, InvalidScheduleError, "expected one of `cron`, `every`, `at`"),
    (CRON | {5: 1}, InvalidScheduleError, "unknown schedule option `5`"),
    ({"cron": 5}, InvalidCronError, "of type `int` given, expected text of five fields"),
    ({"cron": b"0 9 * * *"}, InvalidCronError, "of type `bytes`"),
    ({"cron": "\ud800"}, InvalidCronError, "aren't Unicode"),
    (CRON | {"timezone": None}, InvalidTimezoneError, "`None` given, expected an IANA name"),
    (CRON | {"timezone": 1}, InvalidTimezoneError, "`1` given"),
    (CRON | {"timezone": timezone(timedelta(hours=1))}, InvalidTimezoneError, "no rules for dayl"),
    (CRON | {"timezone": "\ud800"}, InvalidTimezoneError, "IANA"),
    (CRON | {"key": 123}, InvalidScheduleError, r"schedule key: `123` of type `int` given.*`str\("),
    (CRON | {"key": None}, InvalidScheduleError, "schedule key"),
    (CRON | {"key": ""}, InvalidScheduleError, "non-empty"),
    (CRON | {"key": "a\0"}, InvalidScheduleError, "control characters"),
    (CRON | {"key": "x" * 10_240}, InvalidScheduleError, "has 10240 characters, at most 255"),
    ({"every": "30"}, InvalidScheduleError, "expected a number of seconds or a `datetime.timed"),
    ({"every": 0.5}, InvalidScheduleError, "expected 1 second or more and at most 100 years"),
    ({"every": float("nan")}, InvalidScheduleError, "expected 1 second or more and at most 100"),
    (
        {"every": True},
        InvalidScheduleError,
        "of type `bool` given, expected a number of seconds or a `datetime.timedelta`",
    ),
    ({"every": 10**5000}, InvalidScheduleError, "expected 1 second or more and at most 100 ye"),
    ({"every": timedelta(0)}, InvalidScheduleError, "expected 1 second or more and at most 100 ye"),
    ({"every": timedelta(seconds=-5)}, InvalidScheduleError, "1 second or more"),
    ({"every": timedelta.max}, InvalidScheduleError, "at most 100 years"),
    ({"every": timedelta(milliseconds=999)}, InvalidScheduleError, "1 second or more"),
    ({"at": "2026-01-01"}, InvalidScheduleError, "expected an aware `datetime.datetime`"),
    ({"at": date(2026, 1, 1)}, InvalidScheduleError, "expected an aware"),
    ({"at": datetime(2026, 1, 1)}, InvalidScheduleError, "has no time zone; add one, for example"),
    (CRON | {"start_at": datetime(2026, 1, 1)}, InvalidScheduleError, "start_at: `2026-01-01T00"),
    (
        CRON
        | {
            "start_at": datetime(2026, 1, 2, tzinfo=UTC),
            "end_at": datetime(2026, 1, 1, tzinfo=UTC),
        },
        InvalidScheduleError,
        "`end_at` `2026-01-01T00:00:00\\+00:00` isn't after `start_at`",
    ),
    (CRON | {"overlap": "skipp"}, InvalidScheduleError, "did you mean `skip`"),
    (CRON | {"overlap": None}, InvalidScheduleError, "expected one of `buffer_one`, `skip`"),
    (CRON | {"overlap": ["skip"]}, InvalidScheduleError, "expected one of"),
    (CRON | {"catch_up": True}, InvalidScheduleError, "expected one of `latest`, `all`, `none`"),
    (CRON | {"max_catch_up": 0}, InvalidScheduleError, "whole number of 1 or more"),
    (CRON | {"max_runs": True}, InvalidScheduleError, "`True` given"),
    (CRON | {"max_runs": 1.0}, InvalidScheduleError, "`1.0` given"),
    (CRON | {"max_runs": 10**30}, InvalidScheduleError, "whole number"),
    (CRON | {"pause_after_failures": "3"}, InvalidScheduleError, "`3` given"),
    (CRON | {"jitter": timedelta(-1)}, InvalidScheduleError, "0 or more"),
    (CRON | {"catch_up_window": -60}, InvalidScheduleError, "catch_up_window"),
    (CRON | {"skip": "2026-01-01"}, InvalidScheduleError, "expected a list of dates"),
    (CRON | {"skip": 5}, InvalidScheduleError, "expected a list of dates"),
    (CRON | {"skip": iter([])}, InvalidScheduleError, "expected a list of dates"),
    (CRON | {"skip": ["20260101"]}, InvalidScheduleError, "a text such as `2026-12-25`"),
    (CRON | {"skip": ["to morrow"]}, InvalidScheduleError, "skip: `to morrow` given"),
    (CRON | {"skip": [datetime(2026, 1, 1)]}, InvalidScheduleError, r"use `\.date\(\)`"),
    (CRON | {"input": {"a": object()}}, SerializationError, r"`input\['a'\]` has type `object`"),
]


@pytest.mark.parametrize(("options", "error", "message"), REFUSED)
def test_what_is_refused(options: Any, error: type[PolosError], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        normalise_schedule(options)
    assert isinstance(caught.value, ValueError)
    assert len(str(caught.value)) < 500
    str(caught.value).encode()


@pytest.mark.parametrize("name", ["cron", "timezone", "key", "overlap", "skip"])
def test_a_megabyte_is_refused_or_passed_on_at_once(name: str) -> None:
    def normalise(length: int) -> None:
        if name in ("cron", "timezone"):  # refused by the core
            normalise_schedule(CRON | {name: "x" * length})
        else:
            with pytest.raises(InvalidScheduleError, match=r"^.{1,500}$"):
                normalise_schedule(CRON | {name: "x" * length})

    normalise(1_000)  # imports what it needs
    lines = lines_executed(lambda: normalise(1_000))
    assert lines_executed(lambda: normalise(1_000_000)) < 2 * lines


@pytest.mark.parametrize("calendar", [Weekends(), Holidays(), {date(2026, 1, 1): "New Year"}])
def test_a_calendar_stays_in_the_application(calendar: Any) -> None:
    spec = normalise_schedule(CRON | {"skip": calendar})
    assert spec["skip_calendar"] is calendar
    assert spec["skip_dates"] is None
    declaration = ScheduleDeclaration.of(CRON | {"skip": calendar})
    assert declaration.skip_calendar is calendar
    json.dumps(dict(declaration.spec))
    with pytest.raises(TypeError):
        declaration.spec["cron"] = "x"  # type: ignore[index]


def test_the_input_keeps_its_types() -> None:
    spec = normalise_schedule(CRON | {"input": {"since": date(2026, 1, 1), 1: (2,)}})
    assert decode(spec["input"]) == {"since": date(2026, 1, 1), 1: (2,)}


def test_an_update_gives_what_it_was_given() -> None:
    assert normalise_schedule({}, partial=True) == {}
    assert normalise_schedule({"max_runs": None, "jitter": timedelta(1)}, partial=True) == {
        "max_runs": None,
        "jitter_us": 86_400_000_000,
    }
    assert normalise_schedule({"every": timedelta(1)}, partial=True) == {
        "cron": None,
        "days": None,
        "weeks": None,
        "every_us": 86_400_000_000,
        "at_us": None,
    }
    with pytest.raises(InvalidScheduleError):
        normalise_schedule(CRON | {"every": timedelta(1)}, partial=True)


@given(st.datetimes(timezones=st.timezones()))
def test_instants_are_exact(at: datetime) -> None:
    micros = normalise_schedule({"at": at})["at_us"]
    assert datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros) == at.astimezone(UTC)


@given(
    st.dictionaries(
        st.sampled_from(list(normalise_schedule(CRON))) | st.text(max_size=5),
        st.none() | st.integers() | st.text() | st.floats() | st.lists(st.integers()) | st.binary(),
    )
)
def test_anything_else_is_an_error_of_ours_or_fine(options: dict[str, Any]) -> None:
    try:
        json.dumps(normalise_schedule(options))
    except PolosError as error:
        str(error).encode()
