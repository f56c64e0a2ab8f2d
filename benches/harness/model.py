"""The rows of the benchmark: cases, sides, figures, and goals. Plain data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, eq=False)
class Side:
    """One measured program and its environment."""

    name: str
    """As the report calls it; unique in its case."""
    script: str
    """Below ``benches``."""
    env: str = "polos"
    """Where it runs: a name in :mod:`harness.environments`."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Its command line."""
    on_ram: bool = False
    """Its files are on a RAM disk; the row says so."""
    stored: int = 0
    """It starts on a database that holds so many schedules, which ``store.py`` beside it makes."""
    repeats: int = 1
    """Processes in a round, of which the median counts: for what takes milliseconds."""
    timeout: float = 150.0

    @classmethod
    def of_several(
        cls, what: str, plural: str, number: int, script: str, /, **options: Any
    ) -> Side:
        """Make a side of polos with several workers or processes, set by its option ``plural``."""
        name = f"{number} {what if number == 1 else plural}"
        return cls(name, script, "polos", {plural: number, **options})


@dataclass(frozen=True)
class Case:
    """Sides that are measured in turns."""

    name: str
    sides: tuple[Side, ...]
    on_disk: bool = True
    """Whether the disk matters: then it is probed around each round."""
    store: str = "sqlite"
    """``sqlite``, or ``postgres``: then each side is given the URL of an empty database of its own.
    ``--store`` chooses cases by it."""


@dataclass(frozen=True)
class Figure:
    """A column of the report."""

    key: str
    """In what a side reports; ``lateness_ms@99`` is the 99th percentile of a list."""
    title: str
    unit: str = ""


@dataclass(frozen=True)
class Goal:
    """A goal for ``value``, ``value / over``, or ``value - minus``.

    The three are written ``case/side/figure``. If two of them were measured in the same rounds,
    each round gives a ratio.
    """

    text: str
    value: str
    over: str | None = None
    minus: str | None = None
    at_least: float | None = None
    at_most: float | None = None
    unit: str = ""


Plot = Callable[["Any"], str]


@dataclass(frozen=True)
class Row:
    """One row: what is compared, on which terms, and its goals."""

    name: str
    title: str
    what: str
    """What is measured, from where to where."""
    fairness: tuple[str, ...]
    """What each side guarantees, and how it is set up."""
    cases: tuple[Case, ...]
    figures: tuple[Figure, ...]
    goals: tuple[Goal, ...] = ()
    plots: Mapping[str, Plot] = field(default_factory=dict)
    """File name below ``docs/plots`` to what draws it from the results."""
    minutes: float = 1.0
    """About how long it takes, for the progress."""


BENCHES = Path(__file__).resolve().parents[1]
ROOT = BENCHES.parent
WORK = ROOT / "target" / "bench"
