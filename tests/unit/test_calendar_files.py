"""Dates that calendar files name."""

from __future__ import annotations

from datetime import date

import pytest

from polos import InvalidArgumentError, calendars

UNTIL = date(2029, 12, 31)


def days(text: str) -> list[str]:
    return [day.isoformat() for day in calendars.parse(text, until=UNTIL)]


def events(*events: str) -> str:
    inside = "".join(f"BEGIN:VEVENT\r\n{event}\r\nEND:VEVENT\r\n" for event in events)
    return f"BEGIN:VCALENDAR\r\nVERSION:2.0\r\n{inside}END:VCALENDAR\r\n"


def test_one_date_per_line_with_comments():
    assert days("# us\n2026-12-25 # Christmas\n\n  2026-07-04\n2026-12-25\n") == [
        "2026-07-04",
        "2026-12-25",
    ]
    assert days("") == []
    assert days("\ufeff2026-12-25") == ["2026-12-25"]


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        ("DTSTART;VALUE=DATE:20261225", ["2026-12-25"]),
        ("DTSTART;VALUE=DATE:20261225\nDTEND;VALUE=DATE:20261226", ["2026-12-25"]),
        ("DTSTART;VALUE=DATE:20261225\nDTEND;VALUE=DATE:20261227", ["2026-12-25", "2026-12-26"]),
        ("DTSTART;VALUE=DATE:20261225\nDURATION:P2D", ["2026-12-25", "2026-12-26"]),
        ("DTSTART:20261225T090000Z\nDTEND:20261225T170000Z", ["2026-12-25"]),
        ("DTSTART:20261231T220000\nDTEND:20270101T000000", ["2026-12-31"]),
        ("DTSTART:20261231T220000\nDURATION:PT3H", ["2026-12-31", "2027-01-01"]),
        ("DTSTART:20261231T220000\nDURATION:PT2H", ["2026-12-31"]),
        ('DTSTART;TZID="Europe/Paris:x":20261225T090000', ["2026-12-25"]),
        ("DTSTART;VALUE=DATE:2026\n 1225", ["2026-12-25"]),
        ("dtstart:20261225\nSUMMARY:Christmas: a day\\, or two", ["2026-12-25"]),
        ("DTSTART:20261225\nSTATUS:CANCELLED", []),
        ("DTSTART:20261225\nRDATE:20261231,20270101", ["2026-12-25", "2026-12-31", "2027-01-01"]),
        ("DTSTART:20261225\nBEGIN:VALARM\nTRIGGER:-PT1H\nEND:VALARM", ["2026-12-25"]),
    ],
)
def test_each_day_of_an_event_counts(event: str, expected: list[str]):
    assert days(events(event)) == expected


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("FREQ=YEARLY", ["2026-11-26", "2027-11-26", "2028-11-26", "2029-11-26"]),
        ("FREQ=YEARLY;INTERVAL=2", ["2026-11-26", "2028-11-26"]),
        ("FREQ=YEARLY;COUNT=2", ["2026-11-26", "2027-11-26"]),
        ("FREQ=YEARLY;UNTIL=20271126T000000Z", ["2026-11-26", "2027-11-26"]),
        # Thanksgiving.
        (
            "FREQ=YEARLY;BYMONTH=11;BYDAY=4TH",
            ["2026-11-26", "2027-11-25", "2028-11-23", "2029-11-22"],
        ),
        ("FREQ=YEARLY;BYMONTH=5;BYDAY=-1MO;COUNT=1", ["2026-11-26", "2027-05-31"]),
        ("FREQ=YEARLY;BYMONTH=12;BYMONTHDAY=-1;COUNT=1", ["2026-11-26", "2026-12-31"]),
        (
            "FREQ=YEARLY;BYMONTH=11;BYMONTHDAY=24,25,26,27;BYDAY=FR;COUNT=1",
            ["2026-11-26", "2026-11-27"],
        ),
        ("FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29", ["2026-11-26", "2028-02-29"]),
    ],
)
def test_yearly_rules_are_expanded_up_to_a_last_date(rule: str, expected: list[str]):
    assert days(events(f"DTSTART;VALUE=DATE:20261126\nRRULE:{rule}")) == expected


def test_a_leap_day_recurs_in_leap_years():
    event = "DTSTART;VALUE=DATE:20240229\nRRULE:FREQ=YEARLY"
    assert days(events(event)) == ["2024-02-29", "2028-02-29"]


def test_excluded_dates_of_a_rule_do_not_count():
    event = "DTSTART:20261225\nDTEND:20261227\nRRULE:FREQ=YEARLY;COUNT=3\nEXDATE:20271225"
    expected = ["2026-12-25", "2026-12-26", "2028-12-25", "2028-12-26"]
    assert days(events(event)) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("25.12.2026", "line 1: `25.12.2026` isn't a date.*BEGIN:VCALENDAR"),
        ("2026-12-25\n20261226", "line 2"),
        (events("SUMMARY:x"), "line 3: an event without DTSTART"),
        (events("DTSTART:Friday"), "line 4: DTSTART: `Friday` isn't a date"),
        (events("DTSTART:20261325"), "isn't a date"),
        (events("DTSTART:20261225\nDTEND:20261224"), "is before DTSTART"),
        (events("DTSTART:20260101\nDTEND:20280101"), "730 days long, at most 366"),
        (events("DTSTART:20261225\nDURATION:1 day"), "isn't a duration"),
        (events("DTSTART:20261225\nRRULE:FREQ=MONTHLY"), "no yearly rule.*cron:"),
        (events("DTSTART:20261225\nRRULE:FREQ=YEARLY;BYWEEKNO=20"), "has `BYWEEKNO=20`.*supported"),
        (events("DTSTART:20261225\nRRULE:FREQ=YEARLY;BYDAY=MO"), "BYDAY without BYMONTH"),
        (events("DTSTART:20261225\nRRULE:FREQ=YEARLY;BYMONTH=13"), "numbers from 1 to 12"),
        (events("DTSTART:20261225\nRRULE:FREQ=YEARLY;BYMONTH=1;BYDAY=9MO"), "such as 4TH"),
        (events("DTSTART:20261225\nRRULE:FREQ=YEARLY;COUNT=0"), "from 1 to 1000"),
        (events("DTSTART:20261225\nEXRULE:FREQ=YEARLY"), "list the dates with EXDATE"),
        ("BEGIN:VCALENDAR\nBEGIN:VEVENT\nDTSTART:20261225", "ends inside of VEVENT"),
        ("BEGIN:VCALENDAR\nEND:VEVENT", "ends what was not begun"),
        ("BEGIN:VCALENDAR\nhello", "isn't `NAME:VALUE`"),
    ],
)
def test_what_cannot_be_read_is_rejected_with_its_line(text: str, message: str):
    with pytest.raises(InvalidArgumentError, match=message):
        calendars.parse(text, until=UNTIL)


def test_without_a_last_date_rules_end_after_ten_years():
    event = "DTSTART;VALUE=DATE:20200101\nRRULE:FREQ=YEARLY"
    found = calendars.parse(events(event))
    assert found[-1] == date(date.today().year + 10, 1, 1)
