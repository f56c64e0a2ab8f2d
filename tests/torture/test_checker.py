"""The checker finds each kind of damage."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from polos import LedgerEntry, Run, Schedule

SECOND = 1_000_000
START = 1_000 * SECOND


@pytest.fixture(scope="module")
def checker(load_module: Any) -> Any:
    return load_module(Path(__file__).with_name("checker.py"))


RUN = Run._from_core({"id": "r", "workflow": "job", "status": "failed", "created_at": START})


@pytest.mark.parametrize(
    ("recorded", "violated"),
    [
        ("before r a -/after r a x/ack r a x/ack r a x", set()),
        ("before r a -/after r a x/before r a -/after r a y/ack r a y", set()),
        ("before r a -/after r a x/ack r a x/before r a -", {"I3"}),
        ("before r a -/after r a x/ack r a x/after r a y/ack r a y", {"I5"}),
        ("before r a -/ack r a x", {"I3"}),
        ("before other a -", {"I2"}),
    ],
)
def test_damage_in_what_steps_recorded(
    checker: Any, tmp_path: Path, recorded: str, violated: set[str]
) -> None:
    oracle = tmp_path / "oracle.txt"
    lines = [line.split(" ") for line in recorded.split("/")]
    oracle.write_text("".join(f"{k} {r} {s} 1 7 0.5 {token}\n" for k, r, s, token in lines))
    verdict = checker.Verdict()
    checker.check_steps(verdict, checker.OracleReader(oracle).read(), [RUN])
    assert {text.partition(":")[0] for text in verdict.violations} == violated


@pytest.mark.parametrize(
    ("tokens", "is_right"),
    [
        (["1000/-/1001", "1001/1000/1002", "1003/1001/1004"], True),
        (["1000/999/1001", "1001/1000/1002", "1003/1001/1004"], False),
        (["1000/-/1001", "1001/1000/1002", "1003/1002/1004"], False),
        # 1002 was skipped by the decision that made 1001, so 1003 really comes next.
        (["1000/-/1001", "1001/1000/1003", "1003/1001/1004"], True),
        (["1000/-/1003", "1001/1000/1002", "1003/1001/1004"], False),
        (["1000/-/1001", "1002/1000/1003", "1003/1001/1004"], False),
        # The test ends before 1005. The ledger says that 1004 does not run; it doesn't have 1005.
        (["1000/-/1001", "1001/1000/1003", "1003/1001/1005"], True),
        (["1000/-/1001", "1001/1000/1003", "1003/1001/1006"], False),
    ],
)
def test_damage_in_payloads(checker: Any, tokens: list[str], is_right: bool) -> None:
    schedule = Schedule._from_core(
        {
            "id": "s",
            "workflow": "tick",
            "key": "k",
            "every": SECOND,
            "timezone": "UTC",
            "status": "active",
            "created_at": 0,
            "updated_at": 0,
        }
    )
    slots = [1000, 1001, 1003]
    found = [
        Run._from_core(
            {
                "id": f"r{slot}",
                "workflow": "tick",
                "schedule_id": "s",
                "timestamp": slot * SECOND,
                "timezone": "UTC",
                "status": "succeeded",
                "created_at": 0,
            }
        )
        for slot in slots
    ]
    lines = []
    for slot, token in zip(slots, tokens, strict=True):
        fields = "/".join("-" if part == "-" else f"{part}000000" for part in token.split("/"))
        fields += "/UTC/s/k"
        lines.append(checker.Line(0, "payload", f"r{slot}", "-", 1, 7, 0.5, fields))
    verdict = checker.Verdict()
    skipped = datetime.fromtimestamp(1004, timezone.utc)
    entry = LedgerEntry(skipped, skipped, 1, "skipped", "overlap", None, None, None)
    checker.check_payloads(verdict, lines, found, {"s": schedule}, {"s": [entry]}, {})
    assert verdict.checked["I8"] == 3
    assert (not verdict.violations) == is_right


@pytest.mark.parametrize(
    ("slots", "violated"),
    [
        ([(1, 1), (2, 2), (4, 1)], set()),
        ([(1, 1), (4, 1)], {"I1"}),
        ([(1, 1), (2, 3), (4, 1)], {"I1"}),
        ([(1, 1), (2, 2)], {"I1"}),
        ([(-1, 1), (1, 4)], {"I2"}),
        ([(1, 4), (1.5, 1)], {"I2"}),
    ],
)
def test_damage_in_the_outcomes_of_slots(
    checker: Any, slots: list[tuple[float, int]], violated: set[str]
) -> None:
    schedule = Schedule._from_core(
        {
            "id": "s",
            "workflow": "tick",
            "key": "k",
            "every": SECOND,
            "status": "active",
            "created_at": START,
            "updated_at": START,
        }
    )
    entries = [
        LedgerEntry._from_core(
            {
                "timestamp": START + int(slot * SECOND),
                "until": START + int((slot + count - 1) * SECOND),
                "count": count,
                "status": "missed",
            }
        )
        for slot, count in slots
    ]
    verdict = checker.Verdict()
    end = checker.EPOCH + timedelta(seconds=1_005)
    checker.check_slots(verdict, schedule, entries, end)
    assert {text.partition(":")[0] for text in verdict.violations} == violated


@pytest.mark.parametrize(
    ("slots", "violated"),
    [
        ([1, 2, 3, 4, 6, 8, 9, 10], set()),
        ([1, 2, 3, 4, 5, 6, 8, 9, 10], set()),  # the change may come before 5 or after it
        ([1, 2, 3, 4, 8, 9, 10], {"I1"}),  # 6 is a slot of both
        ([1, 3, 4, 6, 8, 9, 10], {"I1"}),
        ([1, 2, 3, 4, 6, 7, 8, 9, 10], {"I2"}),
        ([1, 2, 3, 4, 6, 8, 10], {"I1"}),
        ([1, 2, 3, 4, 6, 6, 8, 9, 10], {"I1"}),
    ],
)
def test_damage_in_outcomes_while_the_period_changes(
    checker: Any, slots: list[int], violated: set[str]
) -> None:
    schedule = Schedule._from_core(
        {
            "id": "s",
            "workflow": "tick",
            "key": "k",
            "every": SECOND,
            "status": "active",
            "created_at": START,
            "updated_at": START,
        }
    )

    def at(second: float) -> datetime:
        return datetime.fromtimestamp(1_000 + second, timezone.utc)

    second = timedelta(seconds=1)
    phases = [
        checker.Phase(second, at(0), at(4.5)),
        checker.Phase(2 * second, at(5.5), at(8.1)),
        checker.Phase(second, at(8.9), at(20)),
    ]
    entries = [LedgerEntry(at(n), at(n), 1, "ran", None, None, None, None) for n in slots]
    verdict = checker.Verdict()
    checker.check_slots(verdict, schedule, entries, at(11), phases)
    assert {text.partition(":")[0] for text in verdict.violations} == violated


@pytest.mark.parametrize(
    ("calls", "violated"),
    [
        ("failed r 1", set()),
        ("failed r 7/failed r 1", set()),
        ("failed r 1/failed r 7", {"I3"}),  # 1 lived on
        ("failed r 7/failed r 7", {"I3"}),
        ("failed r 1/failed r 2", {"I3"}),
        ("", {"I4"}),
        ("succeeded r 1", {"I2"}),
        ("failed r 1/failed other 1", {"I2"}),
    ],
)
def test_damage_in_calls_of_hooks(checker: Any, calls: str, violated: set[str]) -> None:
    verdict = checker.Verdict()
    lines = [line.split(" ") for line in calls.split("/") if line]
    checker.check_hook_calls(verdict, [RUN], lines, {"7"})
    assert {text.partition(":")[0] for text in verdict.violations} == violated
