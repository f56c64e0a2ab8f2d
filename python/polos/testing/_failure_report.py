"""The failure report of a test in virtual time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from polos import runs
from polos.exceptions import PolosError
from polos.models import Run, StepInfo

if TYPE_CHECKING:
    from polos.testing._virtual_time import VirtualTime

__all__ = ["ended", "story_of"]

# Exceptions that can leave a test without meaning that it failed.
_NO_FAILURES = (GeneratorExit, KeyboardInterrupt, SystemExit, asyncio.CancelledError)

_RUNS_MAX = 12
_STEPS_MAX = 12


async def ended(time: VirtualTime, error: BaseException | None) -> None:
    """End virtual time after a test that raised ``error``, or ``None``."""
    try:
        if error is None:
            time._faults.check_all_happened()
        elif not isinstance(error, _NO_FAILURES):
            _add_note(error, await story_of(time))
    finally:
        await time._end()


async def story_of(time: VirtualTime) -> str:
    """Return the time, the worker's state, the last runs with their steps, and the faults."""
    lines = [f"polos: {time.now.isoformat(sep=' ')} of virtual time"]
    if time._worker is None:
        lines.append(f"no worker runs: {time._why_no_worker()}")
    if time._is_begun:
        try:
            lines += await _runs(time)
        except PolosError as error:
            lines.append(f"the runs cannot be read: {error}")
    lines += [f"fault {fault}" for fault in time._faults.all]
    return "\n".join(lines)


async def _runs(time: VirtualTime) -> list[str]:
    known = await time.runs()
    shown = known[-_RUNS_MAX:]
    lines = []
    if len(known) > len(shown):
        lines.append(f"({len(known) - len(shown)} earlier runs)")
    for run in shown:
        with time.client.looking():
            whole = await runs.get(time.client, run.id)
        lines.append(_run(time, whole))
        lines += [f"    {_step(step)}" for step in whole.steps[-_STEPS_MAX:]]
    return lines or ["no runs"]


def _run(time: VirtualTime, run: Run) -> str:
    at = run.timestamp or run.created_at.astimezone(time._zone)
    key = f" [{run.key}]" if run.key not in (None, "global") else ""
    attempt = f", attempt {run.attempt}" if run.attempt > 1 else ""
    error = f": {_brief(str(run.error))}" if run.error is not None else ""
    return f"{at:%Y-%m-%d %H:%M:%S%z} {run.workflow}{key} {run.status}{attempt}{error}"


def _step(step: StepInfo) -> str:
    attempt = f", attempt {step.attempt}" if step.attempt > 1 else ""
    wakes = f", until {step.wakes_at}" if step.wakes_at and step.status == "waiting" else ""
    error = f": {_brief(str(step.error))}" if step.error is not None else ""
    return f"{step.name}: {step.status}{attempt}{wakes}{error}"


def _brief(text: str) -> str:
    line = text.strip().partition("\n")[0]
    return line if len(line) <= 120 else f"{line[:117]}..."


def _add_note(error: BaseException, note: str) -> None:
    """Append ``note`` to the tracebacks of ``error``."""
    if hasattr(error, "add_note"):
        error.add_note(note)
        return
    # Before Python 3.11 only pytest shows notes.
    notes = getattr(error, "__notes__", [])
    error.__notes__ = [*notes, note]  # type: ignore[attr-defined,unused-ignore]
