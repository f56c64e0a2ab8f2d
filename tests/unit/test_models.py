"""The API's objects, made from what the core returns."""

from __future__ import annotations

import dataclasses
import pickle
from datetime import date, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import sample_types as t

from polos import StoredValue
from polos._codec.codec import encode
from polos._codec.exceptions import error_record
from polos.models import ErrorInfo, LedgerEntry, Run, Schedule, StepInfo

AT = 1_767_225_600_000_000  # 2026-01-01 00:00 UTC
CORE: dict[str, Any] = {
    "id": "sch_1", "workflow": "digest", "key": "user_1", "cron": "0 9 * * *", "every": None,
    "at": None, "timezone": "America/New_York", "status": "active", "note": None, "upcoming": AT,
    "last_timestamp": None, "overlap": "skip", "catch_up": "all", "max_catch_up": 5,
    "catch_up_window": 3_600_000_000, "jitter": 1, "start_at": AT, "end_at": None, "max_runs": 3,
    "pause_after_failures": None, "priority": None, "skip": ["2026-12-25"], "input": '{"a":1}',
    "owner": "app",
    "worker_available": True, "created_at": AT, "updated_at": AT + 1,
}  # fmt: skip
RUN: dict[str, Any] = {
    "id": "run_1", "workflow": "digest", "key": None, "schedule_id": None, "timestamp": AT,
    "status": "succeeded", "attempt": 2, "created_at": AT, "started_at": AT, "finished_at": None,
    "timezone": "Asia/Tokyo", "result": encode(t.User(id=1, email="e")).decode(), "error": None,
    "steps": [{"name": "a", "status": "waiting", "attempt": 1, "wakes_at": AT, "result": "null"}],
    "worker": "w1", "origin": "schedule",
}  # fmt: skip


def test_a_schedule() -> None:
    it = Schedule._from_core(CORE)
    assert it.upcoming == datetime(2025, 12, 31, 19, tzinfo=ZoneInfo("America/New_York"))
    assert it.upcoming.tzinfo is ZoneInfo("America/New_York")
    assert it.updated_at.microsecond == 1
    assert (it.catch_up_window, it.jitter) == (timedelta(hours=1), timedelta(microseconds=1))
    assert it.skip == (date(2026, 12, 25),)
    assert it.input == {"a": 1}
    assert (it.every, it.at, it.end_at, it.last_timestamp) == (None, None, None, None)
    assert it.worker_available is True


def test_an_interval() -> None:
    it = Schedule._from_core(CORE | {"cron": None, "every": 30_000_000, "skip": None})
    assert (it.cron, it.every, it.skip) == (None, timedelta(seconds=30), None)


def test_a_run_with_steps() -> None:
    it = Run._from_core(RUN)
    assert it.result == t.User(id=1, email="e")
    assert it.timestamp == datetime(2026, 1, 1, 9, tzinfo=ZoneInfo("Asia/Tokyo"))
    assert it.finished_at is None
    assert isinstance(it.steps[0], StepInfo)
    assert it.steps[0].wakes_at == it.timestamp
    assert it.steps[0].error is None


def test_without_a_zone_it_is_utc() -> None:
    assert Run._from_core(RUN | {"timezone": None}).created_at.tzinfo is timezone.utc
    assert Run._from_core(RUN | {"timezone": "Mars/Olympus"}).timestamp == datetime(
        2026, 1, 1, tzinfo=timezone.utc
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, None),
        ("null", None),
        ("0", 0),
        ('{"$polos":"model","type":"gone:Gone","v":{}}',
         StoredValue("model", "gone:Gone", {"v": {}})),
        ("not json", "not json"),
    ],
)  # fmt: skip
def test_a_damaged_result_does_not_hide_the_run(text: Any, expected: Any) -> None:
    assert Run._from_core(RUN | {"result": text}).result == expected


def test_an_error() -> None:
    error = ValueError("outer")
    error.__cause__ = KeyError("inner")
    it = Run._from_core(RUN | {"status": "failed", "error": error_record(error)}).error
    assert isinstance(it, ErrorInfo)
    assert str(it) == "ValueError: outer"
    assert str(it.cause) == "KeyError: 'inner'"
    assert Run._from_core(RUN | {"error": {}}).error == ErrorInfo("error", "")


def test_a_ledger_entry() -> None:
    core = {"timestamp": AT, "until": AT + 60_000_000, "count": 2, "status": "missed",
            "reason": "catch_up", "late_by": 1_500_000, "timezone": "Asia/Tokyo"}  # fmt: skip
    it = LedgerEntry._from_core(core)
    assert it.until - it.timestamp == timedelta(minutes=1)
    assert it.timestamp.tzinfo is ZoneInfo("Asia/Tokyo")
    assert (it.count, it.late_by, it.run_id) == (2, timedelta(seconds=1.5), None)
    assert LedgerEntry._from_core({"timestamp": AT, "status": "ran"}).until == datetime(
        2026, 1, 1, tzinfo=timezone.utc
    )


@pytest.mark.parametrize("it", [Schedule._from_core(CORE), Run._from_core(RUN)], ids=["s", "r"])
def test_they_are_frozen_hashable_and_picklable(it: Any) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        it.status = "paused"
    assert hash(it) == hash(pickle.loads(pickle.dumps(it)))
    assert pickle.loads(pickle.dumps(it)) == it
