"""Times and durations on the command line: parsing and formatting."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest

from polos.cli.ui.table import cell_width, cut, cut_inside
from polos.cli.ui.times import duration, instant, seconds, spoken, took, until, when
from polos.exceptions import InvalidArgumentError

BASE = datetime(2026, 3, 7, 12, tzinfo=timezone.utc)
PARIS = ZoneInfo("Europe/Paris")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90s", timedelta(seconds=90)),
        ("15m", timedelta(minutes=15)),
        ("15 min", timedelta(minutes=15)),
        ("1h30m", timedelta(minutes=90)),
        ("1h 30m", timedelta(minutes=90)),
        ("1.5H", timedelta(minutes=90)),
        ("2d", timedelta(days=2)),
        ("1w", timedelta(weeks=1)),
        ("250ms", timedelta(milliseconds=250)),
        ("0s", timedelta(0)),
        ("0", timedelta(0)),
    ],
)
def test_durations(text: str, expected: timedelta) -> None:
    assert duration("--every", text) == expected


@pytest.mark.parametrize("text", ["", " ", "5", "m", "5mm", "-5m", "5m ago", "1e3s", "5h-", "²s"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match=r"^--every: .* isn't a duration; expected"):
        duration("--every", text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("now", "2026-03-07T12:00:00+00:00"),
        ("2h ago", "2026-03-07T10:00:00+00:00"),
        ("in 1h30m", "2026-03-07T13:30:00+00:00"),
        ("2026-07-01", "2026-07-01T00:00:00+02:00"),
        ("2026-01-01 09:30", "2026-01-01T09:30:00+01:00"),
        ("2026-01-01T09:30:15", "2026-01-01T09:30:15+01:00"),
        ("2026-01-01 09:30-05:00", "2026-01-01T09:30:00-05:00"),
        ("2026-01-01T09:30Z", "2026-01-01T09:30:00+00:00"),
    ],
)
def test_instants(text: str, expected: str) -> None:
    assert instant("--from", text, PARIS, base=BASE).isoformat() == expected


@pytest.mark.parametrize(
    "text",
    ["", "tomorrow", "2026-02-30", "2026-1-1", "09:30", "in", "ago", "in 99999999w", "0001-01-01"],
)
def test_what_is_no_instant(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match=r"^--from: .* isn't a time; expected"):
        instant("--from", text, PARIS, base=BASE)


@pytest.mark.parametrize("text", ["2026-03-07 12:00+00:00", "2026-07-01 09:30:15+02:00"])
def test_what_is_shown_can_be_typed(text: str) -> None:
    assert when(instant("--from", text, PARIS)) == text


@pytest.mark.parametrize(
    ("delta", "expected"),
    [
        (timedelta(0), "now"),
        (timedelta(seconds=59), "in 59 s"),
        (timedelta(minutes=-5), "5 min ago"),
        (timedelta(hours=30), "in 30 h"),
        (timedelta(days=1_200), "in 1,200 d"),
    ],
)
def test_distances(delta: timedelta, expected: str) -> None:
    assert until(BASE + delta, BASE) == expected


def test_how_long_something_lasted() -> None:
    given = [timedelta(milliseconds=7), timedelta(seconds=1.5), timedelta(minutes=3)]
    assert [took(delta) for delta in given] == ["7 ms", "1.5 s", "3 min"]
    assert [spoken(timedelta(hours=hours)) for hours in (1, 24, 1.5)] == ["1 h", "1 d", "90 min"]
    assert [seconds(delta) for delta in (None, timedelta(seconds=2), timedelta(seconds=0.5))] == [
        None, 2, 0.5,
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text", ["", "short", "a longer name/with-a-key", "日本語のワークフロー/キー"]
)
@pytest.mark.parametrize("size", [8, 11, 40])
def test_a_text_is_cut_to_its_columns_and_no_further(text: str, size: int) -> None:
    for shortened in (cut(text, size), cut_inside(text, size)):
        assert cell_width(shortened) <= size
        assert (shortened == text) is (cell_width(text) <= size)
        assert cell_width(shortened) >= min(cell_width(text), size - 2)
    assert cut_inside(text, size)[-1:] == text[-1:]
