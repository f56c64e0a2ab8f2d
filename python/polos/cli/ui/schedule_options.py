"""The options of schedules on the command line."""

from __future__ import annotations

from collections.abc import Callable
from datetime import tzinfo
from typing import Annotated, Any

import typer

from polos._validate.formatting import shown
from polos.cli.ui.console import TYPED_WRONG, fail
from polos.cli.ui.times import duration, instant
from polos.cli.ui.values import json_value, skipped_day, tags_given

__all__ = [
    "At",
    "CatchUp",
    "CatchUpWindow",
    "Cron",
    "Days",
    "EndAt",
    "Every",
    "Input",
    "Jitter",
    "MaxCatchUp",
    "MaxRuns",
    "OnSkip",
    "Overlap",
    "PauseAfterFailures",
    "Priority",
    "RunOnCreate",
    "SkippedDates",
    "StartAt",
    "Tags",
    "Unset",
    "Weeks",
    "removed_options",
    "schedule_options",
]

Cron = Annotated[
    list[str] | None,
    typer.Option(metavar="CRON", help="Five fields in quotes: '0 9 * * *'; repeatable."),
]
Every = Annotated[
    str | None, typer.Option(metavar="DURATION", help="A period from 1s, such as 15m.")
]
At = Annotated[str | None, typer.Option(metavar="TIME", help="Once, such as '2027-01-01 09:00'.")]
Days = Annotated[
    str | None,
    typer.Option(metavar="HOW", help="and: both day fields must match; or: either (default)."),
]
Weeks = Annotated[
    int | None,
    typer.Option(metavar="N", help="Only every Nth week, counted from that of --start-at."),
]
Overlap = Annotated[
    str | None,
    typer.Option(metavar="POLICY", help="buffer_one, skip, buffer_all, cancel_running, or allow."),
]
CatchUp = Annotated[str | None, typer.Option(metavar="POLICY", help="latest, all, or none.")]
MaxCatchUp = Annotated[
    int | None, typer.Option(metavar="N", help="Maximum number of slots to catch up.")
]
CatchUpWindow = Annotated[
    str | None,
    typer.Option(metavar="DURATION", help="Slots older than this are missed, such as 1d."),
]
Jitter = Annotated[
    str | None, typer.Option(metavar="DURATION", help="The longest delay of a start.")
]
StartAt = Annotated[str | None, typer.Option(metavar="TIME", help="No slot before this.")]
EndAt = Annotated[str | None, typer.Option(metavar="TIME", help="No slot at or after this.")]
MaxRuns = Annotated[int | None, typer.Option(metavar="N", help="Finish after this many runs.")]
PauseAfterFailures = Annotated[
    int | None, typer.Option(metavar="N", help="Pause after this many failures in a row.")
]
Priority = Annotated[
    int | None, typer.Option(metavar="N", help="0 to 9; higher runs start earlier.")
]
SkippedDates = Annotated[
    list[str] | None,
    typer.Option(
        metavar="DAYS", help="A date to skip, 'cron:* * 1 * *', or a calendar; repeatable."
    ),
]
OnSkip = Annotated[
    str | None,
    typer.Option(metavar="HOW", help="next_workday: slots on skipped days move."),
]
Tags = Annotated[
    list[str] | None,
    typer.Option("--tag", metavar="NAME=VALUE", help="A tag to find it by; repeatable."),
]
RunOnCreate = Annotated[
    bool, typer.Option("--run-on-create", help="Start a run now if this creates the schedule.")
]
Input = Annotated[str | None, typer.Option(metavar="JSON", help="Data for the handler, ctx.input.")]
Unset = Annotated[
    list[str] | None,
    typer.Option(metavar="OPTION", help="Remove an option, such as end-at; repeatable."),
]

# What a schedule can be without.
_REMOVABLE = (
    "end-at",
    "input",
    "max-runs",
    "on-skip",
    "pause-after-failures",
    "priority",
    "skip",
    "start-at",
    "tags",
    "weeks",
)


def schedule_options(zone: tzinfo, **given: Any) -> dict[str, Any]:
    """Return the options that were given, as arguments of :func:`polos.schedules.create`.

    ``zone`` is that of times without an offset. Exits if a value cannot be read.
    """

    def time(name: str, text: str) -> Any:
        return instant(name, text, zone)

    readers: dict[str, Callable[[str, Any], Any]] = {
        "at": time,
        "start_at": time,
        "end_at": time,
        "every": duration,
        "catch_up_window": duration,
        "jitter": duration,
        "skip": lambda name, texts: [skipped_day(name, text) for text in texts],
        "tags": lambda name, texts: tags_given(texts),
        "input": lambda name, text: json_value(name, text, '{"user": 7}'),
    }
    options = {name: value for name, value in given.items() if value is not None and value != []}
    for name in options.keys() & readers.keys():
        options[name] = readers[name](f"--{name.replace('_', '-')}", options[name])
    return options


def removed_options(names: list[str]) -> dict[str, None]:
    """Return the options that are to be removed. Exits for one that cannot be."""
    for name in names:
        if name not in _REMOVABLE:
            fail(
                f"--unset: {shown(name)} given, expected one of {', '.join(_REMOVABLE)}",
                TYPED_WRONG,
            )
    return {name.replace("-", "_"): None for name in names}
