"""Read the beat schedule of a Celery application, which is imported as ``polos run`` does."""

from __future__ import annotations

import importlib
import sys
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

from polos._validate.formatting import nearest
from polos.cli.importers.celery_schedules import (
    ALL,
    SOLAR,
    Unsupported,
    cron_options,
    every_options,
    policies,
    task_of,
)
from polos.cli.importers.model import Entry, Imported, Names, Refusal, check
from polos.cli.load_app import imported
from polos.cli.ui.console import TYPED_WRONG, fail
from polos.exceptions import PolosError

__all__ = ["read_celery_beat"]

_FIELDS = ("minute", "hour", "day_of_week", "day_of_month", "month_of_year")


def read_celery_beat(target: str) -> Imported:
    """Import ``MODULE`` or ``MODULE:APP``, and convert its ``beat_schedule``."""
    name, _, wanted = target.partition(":")
    imported(name)
    module = sys.modules[Path(name).stem if name.endswith(".py") else name]
    variable, app = _application(module, wanted)
    found = Imported("celery-beat", target, differences=list(ALL), app=(module.__name__, variable))
    if app.conf.beat_max_loop_interval:
        found.differences.append("`beat_max_loop_interval` has no effect here")
    app.finalize()  # entries of `add_periodic_task` are added then
    schedule = app.conf.beat_schedule or {}
    zone = str(getattr(app.timezone, "key", app.timezone) or "UTC")
    deadline, names = app.conf.beat_cron_starting_deadline, Names()
    for key, options in schedule.items():
        found.entries.append(_entry(str(key), dict(options), zone, deadline, names))
    return found


def _application(module: ModuleType, wanted: str) -> tuple[str, Any]:
    """Return the name and the application, of which the module must have one."""
    try:
        celery = importlib.import_module("celery")
    except ImportError:
        fail("Celery isn't installed here; run the command where the application runs")
    apps = {n: value for n, value in vars(module).items() if isinstance(value, celery.Celery)}
    if wanted:
        if wanted not in apps:
            there = nearest(wanted, apps) or f"; it has {_listed(apps)}"
            fail(f"`{module.__name__}` has no Celery application `{wanted}`{there}", TYPED_WRONG)
        return wanted, apps[wanted]
    if len({id(app) for app in apps.values()}) != 1:
        fail(
            f"`{module.__name__}` has {_listed(apps)}; expected one Celery application, or name "
            f"it: `{module.__name__}:app`",
            TYPED_WRONG,
        )
    return next(iter(apps.items()))


def _listed(apps: dict[str, Any]) -> str:
    return ", ".join(f"`{name}`" for name in sorted(apps)) or "no Celery application"


def _entry(
    name: str, given: dict[str, Any], zone: str, deadline: float | None, names: Names
) -> Entry | Refusal:
    schedule = given.get("schedule")
    source = f"{given.get('task')} {schedule!r}"
    try:
        if not isinstance(given.get("task"), str):
            raise Unsupported("it names no task", "give it the task's name: `task`")
        options, differences = _trigger(schedule, zone, bool(given.get("relative")))
        options |= policies(deadline if "cron" in options else None)
        check(options)
        task = task_of(
            given["task"], given.get("args"), given.get("kwargs"), dict(given.get("options") or {})
        )
    except Unsupported as error:
        return Refusal(name, source, str(error), error.remedy)
    except (PolosError, ValueError, TypeError) as error:
        return Refusal(name, source, str(error), "correct the entry, or add the schedule by hand")
    return Entry(name, source, task, names.unique(name), options, differences)


def _trigger(schedule: Any, zone: str, relative: bool) -> tuple[dict[str, Any], list[str]]:
    kinds = importlib.import_module("celery.schedules")
    if isinstance(schedule, (int, float)):
        schedule = timedelta(seconds=schedule)
    if isinstance(schedule, timedelta):
        schedule = kinds.schedule(schedule, relative)
    kind = type(schedule)
    if kind is kinds.crontab:
        fields = {field: getattr(schedule, field) for field in _FIELDS}
        starred = {f for f in _FIELDS if str(getattr(schedule, f"_orig_{f}")).startswith("*")}
        return cron_options(fields, starred, zone)
    if kind is kinds.schedule:
        options, differences = every_options(schedule.run_every)
        if schedule.relative:
            differences.append("relative: times are round in UTC, in Celery in its zone")
        return options, differences
    if isinstance(schedule, kinds.solar):
        raise Unsupported(*SOLAR)
    raise Unsupported(
        f"polos has no trigger like `{kind.__module__}.{kind.__qualname__}`",
        "write it as cron, `every`, or `at`; for times that only code knows, let the workflow "
        "start its next run with `invoke(at=...)`",
    )
