#!/usr/bin/env python3
"""A worker under a steady load for a long time, while event loops come and go.

    soak.py --seconds 900 --rate 1000 --plot docs/plots/soak.svg

Each second twenty event loops begin and end: `asyncio.run` starts a batch of runs and gives up
waiting for one that no worker executes, as a view of a web application does. The worker moves to a
new event loop in a new thread every half minute.

Samples threads, descriptors, resident memory, and the size of the write-ahead log once a second.
The first fifth is warm-up. A straight line is fitted to the rest (least squares); what it gains
from beginning to end must stay within the bounds below. Exits with 1 if it does not, or if the load
was less than 95% of the rate asked for.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

MB = 1024 * 1024
LOOPS_PER_SECOND = 20
WORKER_LIFE = 30.0
WARM_UP = 0.2
LOAD_MIN = 0.95


@dataclass(frozen=True)
class Quantity:
    """Something that must not grow."""

    name: str
    unit: str
    bound: float  # the maximum gain of the fitted line


QUANTITIES = (
    Quantity("threads", "", 2),
    Quantity("descriptors", "", 8),
    Quantity("resident memory", "MB", 16),
    Quantity("write-ahead log", "MB", 8),
)


@dataclass(frozen=True)
class Sample:
    """A measurement at one moment."""

    at: float
    runs: int
    values: tuple[float, ...]


@dataclass(frozen=True)
class Fit:
    """A straight line through the samples of one quantity."""

    quantity: Quantity
    mean: float
    peak: float
    gain: float

    @property
    def is_flat(self) -> bool:
        return self.gain <= self.quantity.bound


def fitted(quantity: Quantity, points: Sequence[tuple[float, float]]) -> Fit:
    """Fit a least-squares line through ``points``; return its gain over their time too."""
    count = len(points)
    mean_x = sum(x for x, _ in points) / count
    mean_y = sum(y for _, y in points) / count
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else 0.0
    gain = slope * (points[-1][0] - points[0][0])
    return Fit(quantity, mean_y, max(y for _, y in points), gain)


def verdict(samples: Sequence[Sample]) -> list[Fit]:
    """Return a fit for each quantity, without the warm-up."""
    begins = samples[0].at + (samples[-1].at - samples[0].at) * WARM_UP
    kept = [sample for sample in samples if sample.at >= begins]
    return [
        fitted(quantity, [(sample.at, sample.values[number]) for sample in kept])
        for number, quantity in enumerate(QUANTITIES)
    ]


def measured(database: Path) -> tuple[float, ...]:
    """Measure threads, descriptors, resident memory, and the write-ahead log (Linux)."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    log = database.with_name(database.name + "-wal")
    return (
        float(status["Threads"]),
        float(len(os.listdir("/proc/self/fd"))),
        float(status["VmRSS"].split()[0]) / 1024,
        log.stat().st_size / MB if log.exists() else 0.0,
    )


class Soak:
    """The load, and what it has done so far."""

    def __init__(self, database: Path, rate: int, seconds: float) -> None:
        import polos

        self.polos = polos
        self.database = database
        self.rate = rate
        self.seconds = seconds
        self.run_count = 0
        self.loop_count = 0
        self.worker_count = 0
        self.errors: list[BaseException] = []
        self.is_over = threading.Event()
        self.client = polos.PolosClient(database)
        soak = self

        @polos.workflow(id="light")
        async def light() -> None:
            soak.run_count += 1

        @polos.workflow(id="nobody")
        async def nobody() -> None: ...

        self.light: Any = light
        self.nobody: Any = nobody
        self.endless = asyncio.run(nobody.invoke(self.client))

    # -- the load ------------------------------------------------------------------------------

    def work(self) -> None:
        """Run workers one after another, each on its own loop and thread."""

        async def live() -> None:
            end = time.monotonic() + WORKER_LIFE
            worker = self.polos.Worker(
                self.client, workflows=[self.light], retention=timedelta(seconds=30)
            )
            async with worker:
                left = max(0.0, end - time.monotonic())
                await asyncio.to_thread(self.is_over.wait, left)

        while not self.is_over.is_set() and not self.errors:
            self.worker_count += 1
            thread = threading.Thread(target=self._guarded(lambda: asyncio.run(live())))
            thread.start()
            thread.join()

    def call(self) -> None:
        """Begin event loops that start runs, wait for some, and end."""
        batch = self.rate // LOOPS_PER_SECOND

        async def visit() -> None:
            handles = await asyncio.gather(*(self.light.invoke(self.client) for _ in range(batch)))
            with contextlib.suppress(self.polos.RunTimeoutError):
                await self.endless.result(timeout=0.001)
            del handles

        begun = time.monotonic()
        while not self.is_over.is_set() and not self.errors:
            asyncio.run(visit())
            self.loop_count += 1
            ahead = begun + self.loop_count / LOOPS_PER_SECOND - time.monotonic()
            if ahead > 0:
                self.is_over.wait(ahead)

    def _guarded(self, act: Callable[[], None]) -> Callable[[], None]:
        def guarded() -> None:
            try:
                act()
            except BaseException as error:
                self.errors.append(error)

        return guarded

    # -- sampling ------------------------------------------------------------------------------

    def run(self) -> list[Sample]:
        """Apply the load for the whole time; return the samples."""
        threads = [threading.Thread(target=self._guarded(act)) for act in (self.work, self.call)]
        for thread in threads:
            thread.start()
        begun = time.monotonic()
        samples = []
        while (at := time.monotonic() - begun) < self.seconds and not self.errors:
            samples.append(Sample(at, self.run_count, measured(self.database)))
            self.is_over.wait(1.0)
        self.is_over.set()
        for thread in threads:
            thread.join()
        self.client.close()
        gc.collect()
        return samples


# -- the report -------------------------------------------------------------------------------


def plot(samples: Sequence[Sample], fits: Sequence[Fit], title: str) -> str:
    """Draw the charts with their fitted lines, one below the other, as SVG."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benches"))
    from harness.plots import (  # type: ignore[import-not-found]
        COLOURS,
        LEFT,
        RIGHT,
        STYLE,
        WIDTH,
        amount,
    )

    span: int = WIDTH - LEFT - RIGHT
    left: int = LEFT

    height, top, room = 120, 52, 34
    total = top + len(fits) * (height + room) + 30
    last = max(samples[-1].at, 1.0)

    def across(at: float) -> float:
        return left + at / last * span

    body = [f'<rect class="paper" width="{WIDTH}" height="{total}" rx="6"/>']
    body.append(f'<text class="title" x="{LEFT}" y="28">{title}</text>')
    for number, fit in enumerate(fits):
        bottom = top + number * (height + room) + height + 18
        most = max(max(sample.values[number] for sample in samples), 1.0) * 1.15

        def up(value: float, bottom: float = bottom, most: float = most) -> float:
            return bottom - value / most * height

        unit = f" ({fit.quantity.unit})" if fit.quantity.unit else ""
        body.append(f'<text x="{LEFT}" y="{bottom - height - 6}">{fit.quantity.name}{unit}</text>')
        for tick in (0.0, most / 1.15):
            place = f"{up(tick):.1f}"
            body.append(
                f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{place}" y2="{place}"/>'
            )
            body.append(
                f'<text x="{LEFT - 8}" y="{up(tick) + 4:.1f}" text-anchor="end">'
                f"{amount(tick)}</text>"
            )
        path = " ".join(
            f"{across(sample.at):.1f},{up(sample.values[number]):.1f}" for sample in samples
        )
        body.append(f'<polyline class="line s0" points="{path}"/>')
        ends = (last * WARM_UP, fit.mean - fit.gain / 2), (last, fit.mean + fit.gain / 2)
        (x1, y1), (x2, y2) = ((across(at), up(value)) for at, value in ends)
        body.append(
            f'<line class="line s1" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'
        )
    body += [
        f'<text x="{across(minute * 60):.1f}" y="{total - 26}" text-anchor="middle">{minute}</text>'
        for minute in range(0, int(last / 60) + 1, 5 if last > 600 else 1)
    ]
    body.append(f'<text x="{WIDTH / 2}" y="{total - 8}" text-anchor="middle">minutes</text>')
    shades = [
        "\n".join(f"  .s{n} {{ stroke: {pair[shade]}; }}" for n, pair in enumerate(COLOURS))
        for shade in (0, 1)
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {total}" role="img">\n'
        f"<title>{title}</title>\n<style>{STYLE % tuple(shades)}</style>\n"
        + "\n".join(body)
        + "\n</svg>\n"
    )


def say(text: str) -> None:
    print(text, flush=True)  # noqa: T201


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=900.0)
    parser.add_argument("--rate", type=int, default=1_000, help="runs started per second")
    parser.add_argument("--plot", type=Path, help="write the samples as SVG")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="polos-soak-") as folder:
        soak = Soak(Path(folder) / "polos.db", options.rate, options.seconds)
        samples = soak.run()
    for error in soak.errors:
        say(f"failed: {error!r}")
    if soak.errors or len(samples) < 5:
        return 1
    fits = verdict(samples)
    load = (samples[-1].runs - samples[0].runs) / (samples[-1].at - samples[0].at)
    machine = ", ".join(f"{part:.1f}" for part in os.getloadavg())
    say(
        f"{samples[-1].at:.0f} s, {samples[-1].runs:,} runs ({load:.0f} per second), "
        f"{soak.loop_count:,} event loops, {soak.worker_count} workers; load average {machine}"
    )
    say("| | mean | most | gain of the line | bound | verdict |")
    say("| --- | --- | --- | --- | --- | --- |")
    for fit in fits:
        unit = f" {fit.quantity.unit}" if fit.quantity.unit else ""
        say(
            f"| {fit.quantity.name} | {fit.mean:.1f}{unit} | {fit.peak:.1f}{unit} | "
            f"{fit.gain:+.2f}{unit} | {fit.quantity.bound:g}{unit} | "
            f"{'flat' if fit.is_flat else 'GROWS'} |"
        )
    if options.plot:
        title = f"{load:.0f} runs per second while event loops come and go"
        options.plot.write_text(plot(samples, fits, title))
    is_loaded = load >= LOAD_MIN * options.rate
    if not is_loaded:
        say(f"only {load:.0f} of {options.rate} runs per second: the machine is too busy")
    return 0 if is_loaded and all(fit.is_flat for fit in fits) else 1


if __name__ == "__main__":
    sys.exit(main())
