"""Schedules to create, collected for one request to the core."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from polos._core import requests
from polos._core.specs import compile_spec
from polos._validate.schedule_options import (
    check_input,
    check_key,
    check_run_on_create,
    check_tags,
    normalise_schedule,
)
from polos.exceptions import InvalidScheduleError

__all__ = ["Drafts"]

# Fields that usually differ between the schedules of a batch.
_OWN = frozenset(("key", "input", "tags", "run_on_create"))


class Drafts:
    """The schedules of one ``create`` request. A million users have few distinct specifications:
    each is compiled and sent once.
    """

    def __init__(self) -> None:
        self._specs: list[str] = []
        self._schedules: list[requests.Draft] = []
        self._places: dict[tuple[Any, ...], int] = {}

    def __len__(self) -> int:
        return len(self._schedules)

    def add(
        self,
        workflow: str,
        is_schedulable: bool | None,
        options: Mapping[str, Any],
        compiled: Callable[[Mapping[str, Any]], str],
    ) -> None:
        """Add a schedule with ``options`` as ``schedules.create`` takes them.

        ``is_schedulable`` is ``None`` if this process has not registered the workflow. Raises what
        ``normalise_schedule`` raises, and what ``compiled`` raises, which returns the core's text
        for a new specification.
        """
        # Include the types: `True` equals 1, but only 1 is a valid number of runs.
        shared: tuple[Any, ...] | None = tuple(
            [(name, type(value), value) for name, value in options.items() if name not in _OWN]
        )
        try:
            place = self._places.get(shared)  # type: ignore[arg-type]
        except TypeError:  # a list of dates, for example
            place, shared = None, None
        if place is None:
            spec = normalise_schedule(options)
            key, data, tags = spec.pop("key"), spec.pop("input"), spec.pop("tags")
            run_on_create = spec.pop("run_on_create")
            if spec.pop("skip_calendar", None) is not None:
                raise InvalidScheduleError(
                    "skip: a calendar of the application can't be stored with a schedule; give a "
                    "list of dates here, or the calendar in the decorator"
                )
            place = self._put(compiled(spec))
            if shared is not None:
                self._places[shared] = place
        else:
            key = check_key("key", options["key"]) if "key" in options else "global"
            data = options.get("input")
            if data is not None:
                data = check_input("input", data)
            tags = options.get("tags")
            if tags is not None:
                tags = check_tags("tags", tags)
            run_on_create = check_run_on_create(
                "run_on_create", options.get("run_on_create", False)
            )
        draft = (workflow, key, place, data, is_schedulable, tags or {}, run_on_create)
        self._schedules.append(draft)

    def declare(self, workflow: str, spec: Mapping[str, Any], *, has_calendar: bool) -> None:
        """Add a schedule that a decorator declares and has already checked."""
        text, _ = compile_spec(spec, has_calendar=has_calendar)
        self._schedules.append(
            (
                workflow,
                spec["key"],
                self._put(text),
                spec["input"],
                True,
                spec["tags"] or {},
                spec["run_on_create"],
            )
        )

    def _put(self, spec: str) -> int:
        self._specs.append(spec)
        return len(self._specs) - 1

    def for_core(self) -> requests.Drafts:
        """Return the drafts in the core's form, ready for JSON."""
        return {"specs": self._specs, "schedules": self._schedules}

    def has_unknown_workflows(self) -> bool:
        """Whether a draft names a workflow that this process has not registered."""
        return any(schedule[4] is None for schedule in self._schedules)
