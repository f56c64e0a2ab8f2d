"""Waiting times between attempts."""

from __future__ import annotations

import dataclasses
import math
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polos._runtime.backoff import Backoff
from polos.exceptions import InvalidArgumentError


def seconds(backoff: Backoff, attempts: int, fraction: float = 0.0) -> list[float]:
    return [backoff.delay(n, fraction).total_seconds() for n in range(1, attempts + 1)]


def test_it_doubles_up_to_the_maximum() -> None:
    assert seconds(Backoff(), 4) == [1, 2, 4, 8]
    assert seconds(Backoff(5, factor=3, maximum=60), 5) == [5, 15, 45, 60, 60]
    assert seconds(Backoff(timedelta(minutes=1), factor=1), 3) == [60, 60, 60]
    assert seconds(Backoff(0), 3) == [0, 0, 0]


def test_jitter_shortens_by_at_most_its_fraction() -> None:
    assert seconds(Backoff(8, jitter=0.25), 1, 1.0) == [6]
    assert seconds(Backoff(8, jitter=1), 1, 0.5) == [4]
    assert seconds(Backoff(8, jitter=0), 1, 0.9) == [8]


@given(st.integers(1, 10**9), st.floats(0, 1), st.floats(0, 3e9), st.floats(1, 1e300))
def test_it_never_overflows(attempt: int, fraction: float, initial: float, factor: float) -> None:
    delay = Backoff(initial, factor=factor, maximum=60).delay(attempt, fraction)
    assert timedelta(0) <= delay <= timedelta(seconds=60)


def test_an_option_is_a_number_a_timedelta_or_a_backoff() -> None:
    mine = Backoff(2)
    assert Backoff.of(mine) is mine
    assert Backoff.of(2) == Backoff.of(timedelta(seconds=2)) == mine
    assert Backoff.of(None) == Backoff()
    assert hash(Backoff(2)) == hash(mine)
    with pytest.raises(dataclasses.FrozenInstanceError):
        mine.factor = 3  # type: ignore[misc]


BAD: list[dict[str, Any]] = [
    {"initial": -1}, {"initial": math.nan}, {"initial": math.inf}, {"initial": True},
    {"initial": "1s"}, {"initial": 1e30}, {"initial": timedelta.max}, {"initial": timedelta(-1)},
    {"factor": 0.5}, {"factor": math.inf}, {"factor": math.nan}, {"factor": "2"},
    {"jitter": -0.1}, {"jitter": 1.1}, {"jitter": True}, {"maximum": -1}, {"maximum": None},
]  # fmt: skip


@pytest.mark.parametrize("options", BAD)
def test_what_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgumentError, match=f"backoff {next(iter(options))}: .* given"):
        Backoff(**options)


def test_attempts_count_from_one() -> None:
    with pytest.raises(InvalidArgumentError, match="expected 1 for the first attempt"):
        Backoff().delay(0, 0.0)
