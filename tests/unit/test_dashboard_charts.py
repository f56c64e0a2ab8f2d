"""Positions in the charts of the dashboard, and texts of durations."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from polos import _polos
from polos._core.instants import to_micros
from polos.dashboard import charts
from polos.dashboard import queries as reading
from polos.dashboard.charts import Due
from polos.dashboard.filters import duration, english, period
from polos.dashboard.safe_repr import TEXT_MAX, as_text
from polos.models import Run, Schedule, StepInfo

NOW = datetime(2026, 3, 2, 9, 7, tzinfo=timezone.utc)


def test_a_day_begins_on_the_quarter_of_an_hour_and_counts_by_it():
    slots = [NOW + timedelta(minutes=minutes) for minutes in (1, 2, 30, 24 * 60, 25 * 60)]
    day = charts.agenda([Due("a", slot) for slot in slots], NOW)
    assert day.start == NOW.replace(minute=0)
    [lane] = day.lanes
    assert lane.total == 4  # the fourth is beyond the chart's end, the fifth is on another day
    first, second = lane.bars
    assert (first.x, first.label) == (0.0, "2 slots")
    assert second.x == pytest.approx(100 / 96 * 2)
    assert first.height > second.height
    assert sum(number for _, number in day.hours) == day.total == 4


def due_within_a_day(**spec: Any) -> list[Due]:
    core = {
        "id": "sch_1", "workflow": "w", "key": "k", "cron": None, "every": None, "at": None,
        "timezone": "America/New_York", "status": "active", "upcoming": to_micros(NOW),
        "overlap": "skip", "catch_up": "all", "max_catch_up": 5, "catch_up_window": 1, "jitter": 0,
        "created_at": 0, "updated_at": 0, "worker_available": True,
    }  # fmt: skip
    found = Schedule._from_core(core | spec)
    return reading._slots_of([found], NOW + timedelta(days=1), {})


def multiples(seconds: int) -> list[datetime]:
    """Return the slots of an interval within a day, counted from the epoch."""
    start = int(NOW.timestamp())
    found = range(-(-start // seconds) * seconds, start + 86_400, seconds)
    return [datetime.fromtimestamp(second, timezone.utc) for second in found]


@pytest.mark.parametrize("seconds", [1, 7, 15, 61, 433, 900, 3_600, 86_399])
def test_every_slot_of_the_next_day_is_counted_however_dense(seconds: int):
    slots = multiples(seconds)
    first = to_micros(slots[0])
    due = due_within_a_day(every=seconds * 1_000_000, upcoming=first)
    assert sum(item.count for item in due) == len(slots)
    assert len(due) <= 100
    day = charts.agenda(due, NOW)
    assert day.total == sum(number for _, number in day.hours) == len(slots)
    end = to_micros(slots[0] + timedelta(seconds=10 * seconds))
    due = due_within_a_day(every=seconds * 1_000_000, upcoming=first, end_at=end)
    assert sum(item.count for item in due) == min(10, len(slots))


@pytest.mark.parametrize("seconds", [59, 600, 1_200])
def test_slots_on_excluded_days_are_not_counted(seconds: int):
    slots = multiples(seconds)
    due = due_within_a_day(
        every=seconds * 1_000_000, upcoming=to_micros(slots[0]), skip=["2026-03-02"]
    )
    midnight = datetime(2026, 3, 3, 5, tzinfo=timezone.utc)  # in New York
    counted = sum(item.count for item in due if item.slot >= midnight)
    assert counted == len([slot for slot in slots if slot >= midnight])


def test_a_cron_of_every_minute_is_counted_whole():
    due = due_within_a_day(cron="* * * * *")
    assert sum(item.count for item in due) == 1_440


def test_the_picture_of_a_day_stands_still_within_a_quarter_of_an_hour():
    slots = [Due("a", NOW + timedelta(hours=hour)) for hour in range(1, 20)]
    assert charts.agenda(slots, NOW) == charts.agenda(slots, NOW + timedelta(minutes=7))


def test_many_workflows_share_the_last_lane():
    slots = [Due(f"w{number:02}", NOW + timedelta(minutes=number + 1)) for number in range(30)]
    day = charts.agenda(slots, NOW)
    assert len(day.lanes) == charts.LANES_MAX
    assert day.lanes[0].name == "w00"
    assert (day.lanes[-1].name, day.lanes[-1].total) == ("21 other workflows", 21)


def test_the_end_of_the_known_slots_is_marked():
    slots = [Due("a", NOW + timedelta(minutes=1))] * 1_000
    assert charts.agenda(slots, NOW, NOW + timedelta(minutes=1)).known_until == pytest.approx(
        100 / 96
    )
    assert charts.agenda(slots, NOW).known_until is None
    assert charts.agenda(slots, NOW, NOW + timedelta(days=2)).known_until is None


def test_every_run_is_in_one_class_of_lateness():
    spans = [timedelta(microseconds=10**place) for place in range(1, 12)] + [timedelta()]
    found = charts.lateness(spans)
    assert found is not None
    assert sum(row.count for row in found.classes) == found.count == 12
    assert found.most == timedelta(microseconds=10**11)
    assert found.classes[0].label == "≤ 1 ms"
    assert found.classes[-1].label == "over 1 h"
    assert max(row.width for row in found.classes) == 100.0
    assert charts.lateness([]) is None


@dataclass
class RunTimes:
    """The times of a run, in seconds since its creation."""

    began: float | None = 0
    ended: float | None = None
    steps: list[tuple[str, float, float | None]] = field(default_factory=list)

    def run(self, **more: Any) -> Run:
        steps = tuple(
            StepInfo(str(number), status, 1, at(began), at(ended), None, None, None)  # type: ignore[arg-type]
            for number, (status, began, ended) in enumerate(self.steps)
        )
        given: dict[str, Any] = {
            "id": "run_1", "workflow": "w", "key": "global", "schedule_id": None,
            "timestamp": None, "status": "running" if self.ended is None else "succeeded",
            "attempt": 1, "created_at": NOW, "started_at": at(self.began),
            "finished_at": at(self.ended), "result": None, "error": None, "steps": steps,
            "worker": None, "origin": "invoke", **more,
        }  # fmt: skip
        return Run(**given)


def at(seconds: float | None) -> datetime | None:
    return None if seconds is None else NOW + timedelta(seconds=seconds)


def test_steps_are_where_they_were_in_their_run():
    times = RunTimes(began=10, ended=110, steps=[("succeeded", 10, 60), ("failed", 85, 110)])
    line = charts.timeline(times.run(), NOW)
    assert line.waited is not None
    assert line.waited.label == "waited 10 s to be started"
    (_, first), (_, second) = line.rows
    assert first.x == pytest.approx(1_000 / 110)
    assert first.width == pytest.approx(5_000 / 110)
    assert second.x + second.width == pytest.approx(100.0)
    assert [tick.label for tick in line.ticks] == ["30 s", "1 min", "1 min 30 s"]


def test_what_is_in_progress_extends_to_now():
    times = RunTimes(steps=[("succeeded", 0, 1), ("waiting", 1, 1)])
    line = charts.timeline(times.run(), NOW + timedelta(seconds=100))
    assert line.whole.width == pytest.approx(100.0)
    assert line.rows[1][1].x + line.rows[1][1].width == pytest.approx(100.0)


@pytest.mark.parametrize("ended", [0, 1e-6, 1e-3, 1, 3_600, 86_400 * 400, 86_400 * 5_000])
def test_runs_of_any_length_fit(ended: float):
    times = RunTimes(ended=ended, steps=[("succeeded", 0, ended), ("succeeded", ended, ended)])
    line = charts.timeline(times.run(), NOW)
    for _, bar in line.rows:
        assert 0 <= bar.x <= 100
        assert 0 < bar.width <= 100
        assert bar.x + bar.width <= 100.001
    assert len(line.ticks) <= 16


def test_a_run_that_has_not_begun_has_a_line_too():
    line = charts.timeline(RunTimes(began=None).run(status="queued"), NOW - timedelta(seconds=5))
    assert line.rows == ()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 ms"), (0.0004, "<1 ms"), (0.34, "340 ms"), (0.9996, "1.0 s"), (1.23, "1.2 s"),
        (9.96, "10 s"), (59.6, "1 min"), (125, "2 min 5 s"), (3_600, "1 h"), (12_000, "3 h 20 min"),
        (86_399.9, "1 d"), (100_000, "1 d 3 h"), (-5, "-5.0 s"),
    ],
)  # fmt: skip
def test_durations_are_short(seconds: float, text: str):
    assert duration(timedelta(seconds=seconds)) == text


def test_periods_and_single_times_are_described_in_english():
    assert english(timedelta(minutes=1), None, None) == "Every minute"
    assert english(timedelta(seconds=90), None, None) == "Every 1 minute 30 seconds"
    assert (
        english(timedelta(days=14), None, NOW)
        == "Every 14 days, counted from Mon 2 Mar 2026, 09:07 UTC"
    )
    assert english(None, NOW, None) == "Once, Mon 2 Mar 2026, 09:07 UTC"
    assert english(None, None, None) == "Its trigger cannot be read"
    assert period(timedelta(milliseconds=1_500)) == "1.5 seconds"


class Nasty:
    def __repr__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    "value",
    [
        Nasty(), {"a": Nasty()}, "x" * 10_000_000, ["x" * 100_000] * 1_000, 10**5_000,
        {n: n for n in range(100_000)}, float("nan"), "\ud800", b"\xff" * 10_000_000,
        {Nasty: {(1, 2): {3}}}, [[[]]] * 50_000,
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_any_value_becomes_a_short_text(value: Any):
    text = as_text(value)
    assert 0 < len(text) < TEXT_MAX + 100
    text.encode()


def test_a_value_that_contains_itself_is_shown_as_far_as_it_goes():
    value: list[Any] = [1]
    value.append(value)
    assert "…" in as_text(value)


@pytest.mark.parametrize("count", [0, 1, 5])
def test_as_many_slots_come_as_were_asked_for(count: int) -> None:
    slots = _polos.spec_slots('{"cron": "0 9 * * *", "timezone": "UTC"}', count, 0)
    assert slots == [(9 + 24 * day) * 3_600_000_000 for day in range(count)]
