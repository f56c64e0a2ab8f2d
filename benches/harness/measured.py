"""Results: for each case, side, and figure, one value per round."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.model import Goal

Value = float | list[float]


@dataclass
class CaseResult:
    """The rounds of one case, without discarded rounds."""

    rounds: list[dict[str, dict[str, Any]]] = field(default_factory=list)
    thrown: int = 0
    failures: dict[str, str] = field(default_factory=dict)
    probes_ms: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Summary:
    """A median, minimum, and maximum."""

    median: float
    least: float
    most: float


class Results:
    """The results of a row."""

    def __init__(self) -> None:
        self.cases: dict[str, CaseResult] = {}

    def rounds(self, place: str) -> list[float | None]:
        """Return ``case/side/figure`` for each round; ``None`` if it is missing."""
        case, side, key = place.split("/", 2)
        key, _, percentile = key.partition("@")
        values: list[float | None] = []
        for each in self.cases.get(case, CaseResult()).rounds:
            value = each.get(side, {}).get(key)
            if isinstance(value, list):
                value = quantile(value, float(percentile or 50)) if value else None
            values.append(value)
        return values

    def summary(self, place: str) -> Summary | None:
        """Return median and spread. For lists, of the percentile of all rounds together."""
        values = [value for value in self.rounds(place) if value is not None]
        if not values:
            return None
        middle = statistics.median(values)
        case, side, key = place.split("/", 2)
        key, _, percentile = key.partition("@")
        if percentile:
            rounds = self.cases[case].rounds
            samples = [sample for each in rounds for sample in each.get(side, {}).get(key) or []]
            middle = quantile(samples, float(percentile))
        return Summary(middle, min(values), max(values))

    def value_of(self, goal: Goal) -> Summary | None:
        """Return the goal's ratio, difference, or value."""
        other = goal.over or goal.minus
        if other is None:
            return self.summary(goal.value)
        ours, theirs = self.summary(goal.value), self.summary(other)
        if ours is None or theirs is None:
            return None

        def compare(a: float, b: float) -> float:
            if goal.minus:
                return a - b
            return a / b if b else math.inf

        paired = [
            compare(a, b)
            for a, b in zip(self.rounds(goal.value), self.rounds(other), strict=False)
            if a is not None and b is not None
        ]
        pooled = "@" in goal.value or "@" in other
        if goal.value.split("/")[0] != other.split("/")[0] or pooled or not paired:
            middle = compare(ours.median, theirs.median)
        else:
            middle = statistics.median(paired)
        spread = [*paired, middle]
        return Summary(middle, min(spread), max(spread))


def met(goal: Goal, found: Summary | None) -> bool | None:
    """Return whether the goal is reached; ``None`` if it was not measured."""
    if found is None:
        return None
    enough = goal.at_least is None or found.median >= goal.at_least
    return enough and (goal.at_most is None or found.median <= goal.at_most)


def quantile(values: Sequence[float], percent: float) -> float:
    """Return the smallest value that ``percent`` of the values don't exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]
