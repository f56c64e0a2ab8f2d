"""Draws the pictures of ``docs/policies.md``: ``python scripts/pictures.py`` writes them again.

Schedules run in virtual time, and the outcomes of their slots are drawn.
"""

from __future__ import annotations

import asyncio
import logging
import warnings
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, get_args

import polos
import polos.testing
from polos import schedules
from polos.models import CatchUp, LedgerEntry, Overlap, Run
from polos.workflow import isolated_registry

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"

LEFT, RIGHT, TOP = 130, 16, 30
BAR, GAP = 16, 5

STYLE = """
  text { font: 12px ui-sans-serif, system-ui, sans-serif; fill: #3b4252 }
  .name { font-family: ui-monospace, monospace; font-weight: 600 }
  .time { font-size: 11px; fill: #6b7280 }
  .slot { stroke: #9aa3b2; stroke-dasharray: 2 3 }
  .away { fill: #9aa3b2; opacity: .18 }
  .rule { stroke: #9aa3b2; opacity: .4 }
  .succeeded { fill: #2f9e6e } .cancelled { fill: #d9822b }
  .lost { stroke: #c2414b; stroke-width: 2 }
  .wait { stroke: #2f9e6e; stroke-width: 2 }
  .on { fill: #fff; font-size: 10px }
  @media (prefers-color-scheme: dark) {
    text { fill: #d7dce5 } .time { fill: #9aa3b2 } .on { fill: #fff }
  }
""".strip()


@dataclass(frozen=True)
class Execution:
    """The slots and runs of one schedule."""

    policy: str
    runs: list[Run]
    ledger: list[LedgerEntry]


@dataclass(frozen=True)
class Picture:
    """A picture with one row for each policy and a common time axis."""

    title: str
    begin: datetime
    end: datetime
    slots: list[datetime]
    executions: list[Execution]
    away: tuple[datetime, datetime] | None = None

    def svg(self) -> str:
        """Return the picture as SVG with colors for light and dark pages."""
        rows: list[str] = []
        y = TOP
        for execution in self.executions:
            drawn, height = self._row(execution, y)
            rows += [drawn, f'<line class="rule" x1="8" x2="712" y1="{y}" y2="{y}"/>']
            y += height
        marks = [
            f'<line class="slot" x1="{self._x(slot):.1f}" x2="{self._x(slot):.1f}" '
            f'y1="{TOP - 6}" y2="{y}"/><text class="time" text-anchor="middle" '
            f'x="{self._x(slot):.1f}" y="{TOP - 12}">{slot:%H:%M}</text>'
            for slot in self.slots
        ]
        if self.away is not None:
            left, right = map(self._x, self.away)
            marks.insert(
                0,
                f'<rect class="away" x="{left:.1f}" y="{TOP}" width="{right - left:.1f}" '
                f'height="{y - TOP}"/>',
            )
        body = "\n".join(marks + rows)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 720 {y + 6}" role="img" '
            f'aria-label="{self.title}">\n<title>{self.title}</title>\n'
            f"<style>\n{STYLE}\n</style>\n{body}\n</svg>\n"
        )

    def _x(self, instant: datetime) -> float:
        share = (instant - self.begin) / (self.end - self.begin)
        return LEFT + share * (720 - LEFT - RIGHT)

    def _row(self, execution: Execution, y: int) -> tuple[str, int]:
        lanes: list[datetime] = []
        parts: list[str] = []
        for run in sorted(execution.runs, key=lambda run: run.timestamp or run.created_at):
            assert run.timestamp is not None
            assert run.started_at is not None
            end = min(run.finished_at or self.end, self.end)
            begin = min(run.started_at, self.end)
            free = (n for n, until in enumerate(lanes) if until <= run.timestamp)
            lane = next(free, len(lanes))
            lanes[lane : lane + 1] = [end]
            top = y + GAP + lane * (BAR + GAP)
            x, width = self._x(begin), self._x(end) - self._x(begin)
            slot = self._x(run.timestamp)
            if x - slot > 1:
                parts.append(
                    f'<line class="wait" x1="{slot:.1f}" x2="{x:.1f}" '
                    f'y1="{top + BAR / 2}" y2="{top + BAR / 2}" stroke-dasharray="1 3"/>'
                )
            if width > 0:
                parts.append(
                    f'<rect class="{run.status}" x="{x:.1f}" y="{top}" rx="3" '
                    f'width="{width:.1f}" height="{BAR}"/>'
                    f'<text class="on" x="{x + 4:.1f}" y="{top + BAR - 4.5}">'
                    f"{run.timestamp.strftime('%H:%M' if width > 40 else '%H')}</text>"
                )
        height = GAP + len(lanes) * (BAR + GAP)
        lost = [
            slot for slot in self.slots if any(_covers(entry, slot) for entry in execution.ledger)
        ]
        for slot in lost:
            x, top = self._x(slot), y + height + 3
            parts.append(f'<path class="lost" d="M{x - 4:.1f} {top - 4}l8 8m0 -8l-8 8"/>')
        height += 12 if lost else 0
        parts.append(f'<text class="name" x="10" y="{y + GAP + BAR - 4}">{execution.policy}</text>')
        return "\n".join(parts), height


def _covers(entry: LedgerEntry, slot: datetime) -> bool:
    return entry.status != "ran" and entry.timestamp <= slot <= entry.until


async def execute(policy: str, start: str, busy: timedelta, away: Any, **spec: Any) -> Execution:
    """Execute some slots of one schedule; return them and their runs."""
    with isolated_registry():

        @polos.workflow(id="job", schedule=spec)
        async def job(ctx: polos.WorkflowContext) -> None:
            await ctx.step.sleep("work", busy)

        async with polos.testing.clock(start) as time:
            await away(time)
            [schedule] = await schedules.list(time.client)
            await schedules.pause(time.client, schedule.id)
            await time.advance(hours=6)
            return Execution(
                policy, await time.runs(), await schedules.history(time.client, schedule.id)
            )


async def overlap() -> Picture:
    """Draw runs of 25 minutes that come due every ten minutes."""

    async def hour(time: polos.testing.VirtualTime) -> None:
        await time.advance(minutes=50)

    begin = datetime.fromisoformat("2026-01-01T12:00:00+00:00")
    executions = [
        await execute(
            policy,
            "2026-01-01T11:55:00+00:00",
            timedelta(minutes=25),
            hour,
            cron="*/10 * * * *",
            overlap=policy,
        )
        for policy in get_args(Overlap)
    ]
    slots = [begin + timedelta(minutes=10 * n) for n in range(5)]
    end = begin + timedelta(minutes=127)
    return Picture("Overlap policies", begin - timedelta(minutes=3), end, slots, executions)


async def catch_up() -> Picture:
    """Draw an hourly schedule without a worker from 13:30 to 17:30."""
    begin = datetime.fromisoformat("2026-01-01T12:00:00+00:00")
    gone, back = begin + timedelta(hours=1, minutes=30), begin + timedelta(hours=5, minutes=30)

    async def sleep(time: polos.testing.VirtualTime) -> None:
        await time.advance_to(gone)
        await time.set_to(back)
        await time.advance(hours=1)

    executions = [
        await execute(
            policy,
            "2026-01-01T11:30:00+00:00",
            timedelta(minutes=14),
            sleep,
            cron="0 * * * *",
            catch_up=policy,
            overlap="buffer_all",
        )
        for policy in get_args(CatchUp)
    ]
    slots = [begin + timedelta(hours=n) for n in range(7)]
    end = begin + timedelta(hours=7)
    title = "Catch-up policies"
    return Picture(title, begin - timedelta(minutes=15), end, slots, executions, (gone, back))


async def pictures() -> dict[str, str]:
    """Return the files and their contents."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", polos.ScheduleFrequencyWarning)
        return {
            "overlap.svg": (await overlap()).svg(),
            "catch-up.svg": (await catch_up()).svg(),
        }


if __name__ == "__main__":
    logging.getLogger("polos").setLevel(logging.ERROR)
    IMAGES.mkdir(exist_ok=True)
    for name, text in asyncio.run(pictures()).items():
        (IMAGES / name).write_text(text)
