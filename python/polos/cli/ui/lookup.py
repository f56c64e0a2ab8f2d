"""Find schedules and runs by the names that people type.

A schedule: its id, its workflow (if the key is `global`, or there is only one), or `workflow/key`.
A run: its id, or one of these for its newest run.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress

from polos import runs, schedules
from polos._validate.formatting import nearest, shown
from polos.client import PolosClient
from polos.exceptions import InvalidArgumentError, RunNotFoundError, ScheduleNotFoundError
from polos.models import Run, Schedule

__all__ = ["find_run", "find_schedule", "named"]

_SCHEDULE, _RUN = "sch_", "run_"

# How many ids are read to suggest a similar one.
_LOOKED_AT = 100


def named(given: Iterable[str]) -> Iterator[str]:
    """Yield the given names, with the lines of stdin in place of `-`."""
    for name in given:
        if name != "-":
            yield name
            continue
        for line in sys.stdin:
            if line.strip():
                yield line.strip()


# --- schedules -------------------------------------------------------------------------------


def find_schedule(client: PolosClient, name: str) -> Schedule:
    """Return the named schedule.

    Raises :class:`ScheduleNotFoundError` with the nearest name, and :class:`InvalidArgumentError`
    for an ambiguous name.
    """
    if name.startswith(_SCHEDULE):
        with suppress(ScheduleNotFoundError):
            return schedules.sync.get(client, name)
    found = _by_workflow(client, name)
    if found is not None:
        return found
    if name.startswith(_RUN):
        raise ScheduleNotFoundError(
            f"{shown(name)} is a run's id, not a schedule's; see `polos runs show`"
        )
    raise ScheduleNotFoundError(
        f"there is no schedule {shown(name)} in project `{client.project_id}`"
        f"{nearest(name, _known_schedules(client, name)) or '; `polos schedules list` shows all'}"
    )


def _by_workflow(client: PolosClient, name: str) -> Schedule | None:
    for workflow, key in _splits(name):
        if key is not None:
            found = schedules.sync.list(client, workflow=workflow, key=key, limit=1)
            if found:
                return found[0]
            continue
        some = schedules.sync.list(client, workflow=workflow, limit=2)
        if len(some) == 1:
            return some[0]
        if some:
            common = schedules.sync.list(client, workflow=workflow, key="global", limit=1)
            if common:
                return common[0]
            raise InvalidArgumentError(
                f"workflow {shown(workflow)} has several schedules; give one's id, or "
                f"`{workflow}/KEY`, such as `{workflow}/{some[0].key}`"
            )
    return None


def _splits(name: str) -> Iterator[tuple[str, str | None]]:
    """Yield all splits at a `/`, because workflow and key may both contain one."""
    yield name, None
    for index, character in enumerate(name):
        if character == "/" and 0 < index < len(name) - 1:
            yield name[:index], name[index + 1 :]


def _known_schedules(client: PolosClient, name: str) -> list[str]:
    """Return ids with a similar beginning, and the names of the first schedules."""
    alike = name[: max(len(_SCHEDULE), len(name) - 6)] if name.startswith(_SCHEDULE) else None
    some = schedules.sync.list(client, limit=_LOOKED_AT, after=alike)
    some += schedules.sync.list(client, limit=_LOOKED_AT) if alike else []
    if name.startswith(_SCHEDULE):
        return [schedule.id for schedule in some]
    known = {schedule.workflow for schedule in some}
    for workflow, key in _splits(name):
        if key is not None and workflow in known:
            peers = schedules.sync.list(client, workflow=workflow, limit=_LOOKED_AT)
            return [f"{workflow}/{schedule.key}" for schedule in peers]
    return sorted(known | {f"{schedule.workflow}/{schedule.key}" for schedule in some})


# --- runs ------------------------------------------------------------------------------------


def find_run(client: PolosClient, name: str) -> Run:
    """Return the named run with its steps. Raises :class:`RunNotFoundError`."""
    with suppress(RunNotFoundError):
        return runs.sync.get(client, name)
    newest = _newest(client, name)
    if newest is not None:
        return runs.sync.get(client, newest.id)
    known = [run.id for run in runs.sync.list(client, limit=_LOOKED_AT)]
    if not name.startswith(_RUN):
        known = sorted({run.workflow for run in runs.sync.list(client, limit=_LOOKED_AT)})
    raise RunNotFoundError(
        f"there is no run {shown(name)} in project `{client.project_id}`"
        f"{nearest(name, known) or '; `polos runs list` shows the newest'}"
    )


def _newest(client: PolosClient, name: str) -> Run | None:
    if name.startswith(_RUN):
        return None
    if name.startswith(_SCHEDULE):
        return next(iter(runs.sync.list(client, schedule=name, limit=1)), None)
    for workflow, key in _splits(name):
        found = runs.sync.list(client, workflow=workflow, key=key, limit=1)
        if found:
            return found[0]
    return None
