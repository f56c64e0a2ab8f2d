"""The geometry of the charts, in percent of the picture.

The templates draw it as SVG. This module does not use a database, and time is an argument.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta, timezone

from polos._core.real_datetime import datetime
from polos.dashboard.filters import duration
from polos.models import Run, StepInfo

__all__ = [
    "CELL",
    "LATENESS_BOUNDS",
    "WIDTH",
    "Agenda",
    "Bar",
    "Due",
    "Lane",
    "Lateness",
    "LatenessClass",
    "Tick",
    "Timeline",
    "agenda",
    "floor",
    "lateness",
    "timeline",
]

WIDTH = 100.0
CELL = timedelta(minutes=15)
HORIZON = timedelta(hours=24)
LANES_MAX = 10
BAR_MIN = 0.4  # so that bars of no duration are visible

LATENESS_BOUNDS: tuple[float, ...] = (
    0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 3_600.0,
)  # fmt: skip
"""Upper ends of the classes of the lateness histogram, in seconds."""


@dataclass(frozen=True, slots=True)
class Bar:
    """A rectangle with its meaning in words."""

    x: float
    width: float
    kind: str
    label: str
    height: float = WIDTH


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark on an axis."""

    x: float
    label: str
    at: datetime | None = None


# --- next slots ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Lane:
    """The next slots of one workflow, or of several if there are too many."""

    name: str
    total: int
    bars: tuple[Bar, ...]
    first: datetime


@dataclass(frozen=True, slots=True)
class Agenda:
    """The next 24 hours."""

    start: datetime
    lanes: tuple[Lane, ...]
    ticks: tuple[Tick, ...]
    hours: tuple[tuple[datetime, int], ...]
    total: int
    known_until: float | None
    """Where knowledge ends, if it ends within the day."""


@dataclass(frozen=True, slots=True)
class Due:
    """A slot of a workflow, or several in one quarter of an hour that start with it."""

    workflow: str
    slot: datetime
    count: int = 1


def agenda(slots: Iterable[Due], now: datetime, known_until: datetime | None = None) -> Agenda:
    """Return the slots of the 24 hours from ``now``.

    The chart starts at a quarter of an hour, so that it does not move in between.
    """
    start = floor(now, CELL)
    cells: dict[str, Counter[int]] = {}
    firsts: dict[str, datetime] = {}
    per_hour: Counter[int] = Counter()
    for due in slots:
        workflow, slot = due.workflow, due.slot
        place = (slot - start) // CELL
        # The chart may end up to 15 minutes before the 24 hours do; slots due after its end are
        # counted but not drawn.
        if not 0 <= place <= HORIZON // CELL:
            continue
        cells.setdefault(workflow, Counter())[place] += due.count
        firsts[workflow] = min(slot, firsts.get(workflow, slot))
        per_hour[place // 4] += due.count
    names = sorted(cells, key=lambda name: (firsts[name], name))
    if len(names) > LANES_MAX:
        shown, rest = names[: LANES_MAX - 1], names[LANES_MAX - 1 :]
        together: Counter[int] = Counter()
        for name in rest:
            together.update(cells.pop(name))
        label = f"{len(rest)} other workflows"
        cells[label] = together
        firsts[label] = min(firsts[name] for name in rest)
        names = [*shown, label]
    lanes = tuple(_lane(name, cells[name], firsts[name]) for name in names)
    limit = None
    if known_until is not None and known_until < start + HORIZON:
        known_cells = (known_until - start) // CELL + 1
        limit = min(max(known_cells, 0) * CELL / HORIZON, 1.0) * WIDTH
    return Agenda(
        start=start,
        lanes=lanes,
        ticks=_hour_ticks(start),
        hours=tuple(
            (start + timedelta(hours=hour), per_hour[hour]) for hour in range(24 + (24 in per_hour))
        ),
        total=sum(lane.total for lane in lanes),
        known_until=limit,
    )


def _lane(name: str, cells: Counter[int], first: datetime) -> Lane:
    cell_width = WIDTH / (HORIZON / CELL)
    most = max(cells.values())
    bars = []
    for place in sorted(cells):
        if place >= HORIZON // CELL:
            continue
        number = cells[place]
        # Logarithmic, so that one daily run is visible beside one every second.
        height = WIDTH * (0.35 + 0.65 * (math.log(number + 1) / math.log(most + 1)))
        label = f"{number:,} slot{'' if number == 1 else 's'}"
        bars.append(Bar(place * cell_width, cell_width, "slot", label, height))
    return Lane(name, sum(cells.values()), tuple(bars), first)


def _hour_ticks(start: datetime) -> tuple[Tick, ...]:
    first = floor(start, timedelta(hours=1))
    if first < start:
        first += timedelta(hours=1)
    ticks = []
    for number in range(24):
        at = first + timedelta(hours=number)
        if at.hour % 3 == 0:
            ticks.append(Tick((at - start) / HORIZON * WIDTH, f"{at:%H:%M}", at))
    return tuple(ticks)


def floor(instant: datetime, step: timedelta) -> datetime:
    """Return the last multiple of ``step``, from the epoch, that is not after ``instant``."""
    epoch = datetime(1970, 1, 1, tzinfo=timezone.utc)
    return epoch + (instant - epoch) // step * step


# --- lateness of recent runs -----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LatenessClass:
    """Runs with a similar lateness."""

    label: str
    count: int
    width: float
    kind: str


@dataclass(frozen=True, slots=True)
class Lateness:
    """How long after their slots the last runs started."""

    classes: tuple[LatenessClass, ...]
    """All between the smallest and the largest that occurs."""

    count: int
    median: timedelta
    p99: timedelta
    most: timedelta


def lateness(spans: Sequence[timedelta]) -> Lateness | None:
    """Return the histogram; ``None`` without any runs."""
    if not spans:
        return None
    ordered = sorted(spans)
    counts = [0] * (len(LATENESS_BOUNDS) + 1)
    for span in ordered:
        seconds = span.total_seconds()
        place = next(
            (number for number, bound in enumerate(LATENESS_BOUNDS) if seconds <= bound),
            len(LATENESS_BOUNDS),
        )
        counts[place] += 1
    used = [number for number, amount in enumerate(counts) if amount]
    most = max(counts)
    classes = tuple(
        LatenessClass(
            label=_class_name(number),
            count=counts[number],
            width=counts[number] / most * WIDTH,
            kind=_lateness_kind(number),
        )
        for number in range(used[0], used[-1] + 1)
    )
    return Lateness(
        classes, len(ordered), _quantile(ordered, 0.5), _quantile(ordered, 0.99), ordered[-1]
    )


def _lateness_kind(place: int) -> str:
    bound = LATENESS_BOUNDS[place] if place < len(LATENESS_BOUNDS) else math.inf
    return "good" if bound <= 1 else "slow" if bound <= 15 else "late"


def _class_name(place: int) -> str:
    if place == len(LATENESS_BOUNDS):
        return f"over {duration(timedelta(seconds=LATENESS_BOUNDS[-1]))}"
    bound = LATENESS_BOUNDS[place]
    # Whole numbers without decimals: `1 s`, not `1.0 s`.
    text = f"{bound:g} s" if 1 <= bound < 60 else duration(timedelta(seconds=bound))
    return f"≤ {text}"


def _quantile(ordered: Sequence[timedelta], part: float) -> timedelta:
    return ordered[min(len(ordered) - 1, math.ceil(part * len(ordered)) - 1)]


# --- timeline of a run -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Timeline:
    """The steps of a run on a time axis."""

    rows: tuple[tuple[StepInfo, Bar], ...]
    waited: Bar | None
    """Between creation and first start, where that can be seen."""

    whole: Bar
    ticks: tuple[Tick, ...]
    start: datetime
    span: timedelta


def timeline(run: Run, now: datetime, steps: Sequence[StepInfo] | None = None) -> Timeline:
    """Return the run from its creation to its end, or to ``now``."""
    steps = run.steps if steps is None else steps
    start = run.created_at if run.started_at is None else min(run.created_at, run.started_at)
    if run.timestamp is not None and run.started_at is not None and run.origin == "schedule":
        # Runs of slots are created early; the time before the slot is not waiting.
        start = min(max(start, run.timestamp), run.started_at)
    ends = [run.finished_at or max(now, start)]
    ends += [step.finished_at for step in steps if step.finished_at is not None]
    ends += [step.started_at for step in steps if step.started_at is not None]
    end = max(ends)
    span = max(end - start, timedelta(microseconds=1))

    def bar(begin: datetime, until: datetime, kind: str, label: str) -> Bar:
        x = min(max((begin - start) / span, 0.0), 1.0) * WIDTH
        x = min(x, WIDTH - BAR_MIN)
        width = max((until - begin) / span * WIDTH, BAR_MIN)
        return Bar(x, min(width, WIDTH - x), kind, label)

    begun = run.started_at
    waited = None
    if begun is not None and (begun - start) / span > 0.005:
        waited = bar(start, begun, "queued", f"waited {duration(begun - start)} to be started")
    rows = []
    for step in steps:
        first = step.started_at or start
        last = (step.finished_at if step.status != "waiting" else end) or end
        rows.append((step, bar(first, last, step.status, duration(last - first))))
    whole = bar(begun or start, end, run.status, duration(end - (begun or start)))
    return Timeline(tuple(rows), waited, whole, _span_ticks(span), start, span)


def _tick_name(seconds: float) -> str:
    return f"{seconds:g} s" if 0.2 <= seconds < 60 else duration(timedelta(seconds=seconds))


_NICE = (
    0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600,
    900, 1_800, 3_600, 7_200, 14_400, 21_600, 43_200, 86_400, 172_800, 604_800, 2_592_000,
)  # fmt: skip


def _span_ticks(span: timedelta) -> tuple[Tick, ...]:
    seconds = span.total_seconds()
    step = next((nice for nice in _NICE if seconds / nice <= 6), 31_536_000.0)
    return tuple(
        Tick(number * step / seconds * WIDTH, _tick_name(number * step))
        for number in range(1, int(seconds / step) + 1)
        if number * step / seconds < 0.97
    )
