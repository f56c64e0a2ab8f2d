"""What every importer returns: entries that polos can schedule, and those that it cannot."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from polos import schedules
from polos._validate.schedule_options import IDENTIFIER_LENGTH_MAX

__all__ = ["LONGEST_WINDOW", "Command", "Entry", "Function", "Imported", "Names", "Refusal", "Task"]

LONGEST_WINDOW = timedelta(days=36_500)
"""The catch-up window of tools that run a missed slot however late it is."""


@dataclass(frozen=True)
class Command:
    """A shell command, as cron runs it."""

    text: str
    shell: str = "/bin/sh"
    stdin: str | None = None
    variables: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Function:
    """A function that the program can import, and its arguments."""

    module: str
    name: str
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Task:
    """A Celery task, which the schedule sends to Celery's workers."""

    name: str
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)


@dataclass
class Entry:
    """A schedule that polos can have. ``options`` are those of ``schedules.create``."""

    name: str
    """What the tool calls it."""
    source: str
    """The trigger, as the tool writes it."""
    target: Command | Function | Task
    workflow: str
    options: dict[str, Any]
    differences: list[str] = field(default_factory=list)
    """What changes for this entry."""
    is_paused: bool = False


@dataclass(frozen=True)
class Refusal:
    """An entry that polos cannot convert."""

    name: str
    source: str
    reason: str
    remedy: str


@dataclass
class Imported:
    """The content of a source, in its order."""

    command: str
    """The command that printed it."""
    source: str
    """The file, database, or module."""
    entries: list[Entry | Refusal] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)
    """What changes for all entries."""
    remarks: list[str] = field(default_factory=list)
    """What isn't about one entry, for stderr."""
    app: tuple[str, str] | None = None
    """Module and name of the Celery application, if it is known."""

    @property
    def converted(self) -> list[Entry]:
        """The entries that polos can have."""
        return [entry for entry in self.entries if isinstance(entry, Entry)]

    @property
    def refused(self) -> list[Refusal]:
        """The entries that polos cannot have."""
        return [entry for entry in self.entries if isinstance(entry, Refusal)]


class Names:
    """Ids of workflows, each given once."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = set(taken)

    def unique(self, wanted: str) -> str:
        """Return ``wanted`` as a valid id, with a number if it is taken."""
        base = re.sub(r"[^\w.:-]+", "-", wanted).strip("-.")[: IDENTIFIER_LENGTH_MAX - 6] or "job"
        name, number = base, 1
        while name in self._taken:
            number += 1
            name = f"{base}-{number}"
        self._taken.add(name)
        return name


def check(options: dict[str, Any]) -> None:
    """Raise ``InvalidScheduleError`` if polos would refuse these options."""
    from polos._validate.schedule_options import normalise_schedule

    normalise_schedule(options)
    if "cron" in options:
        schedules.preview(options["cron"], options.get("timezone", "UTC"), count=1)
