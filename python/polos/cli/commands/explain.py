"""``polos explain``: explain when a schedule fires; a database is read only for its calendars."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer

from polos import calendars, schedules
from polos.cli.ui.console import TYPED_WRONG, fail, out, out_json, styled
from polos.cli.ui.options import Database, Json, Project, opened
from polos.cli.ui.schedule_options import OnSkip, SkippedDates
from polos.cli.ui.times import duration, instant, iso, now, until, when
from polos.cli.ui.values import skipped_day
from polos.models import Calendar

__all__ = ["explain"]


def explain(
    cron: Annotated[
        list[str] | None,
        typer.Argument(metavar="CRON", help="Five fields in quotes: '0 9 * * *'; repeatable."),
    ] = None,
    every: Annotated[
        str | None, typer.Option(metavar="DURATION", help="A period from 1s, such as 15m.")
    ] = None,
    timezone: Annotated[
        str, typer.Option("--tz", metavar="ZONE", help="An IANA name, such as Europe/Paris.")
    ] = "UTC",
    count: Annotated[
        int, typer.Option("--count", "-n", metavar="N", min=1, max=1_000, help="Number of slots.")
    ] = 5,
    after: Annotated[
        str, typer.Option("--after", metavar="TIME", help="Slots after this, such as 2027-03-01.")
    ] = "now",
    days: Annotated[
        str | None,
        typer.Option(metavar="HOW", help="and: both day fields must match; or: either (default)."),
    ] = None,
    weeks: Annotated[
        int | None,
        typer.Option(metavar="N", help="Only every Nth week, counted from that of --start-at."),
    ] = None,
    start_at: Annotated[
        str | None, typer.Option(metavar="TIME", help="No slot before this.")
    ] = None,
    end_at: Annotated[
        str | None, typer.Option(metavar="TIME", help="No slot at or after this.")
    ] = None,
    jitter: Annotated[
        str | None, typer.Option(metavar="DURATION", help="The longest delay of a start.")
    ] = None,
    skip: SkippedDates = None,
    on_skip: OnSkip = None,
    as_json: Json = False,
    database: Database = None,
    project: Project = "default",
) -> None:
    """Explain when a schedule fires.

    Prints the meaning in English, the next slots, and the effect of clock changes. Several
    expressions are those of one schedule. A database is needed only for calendars in --skip.
    """
    expressions = _expressions(cron or [])
    zone = schedules.preview("0 0 * * *", timezone, count=1)[0].tzinfo
    assert zone is not None, "slots are aware"
    base = now()

    def given(read: Callable[..., Any], name: str, text: str | None, *more: Any) -> Any:
        return None if text is None else read(name, text, *more)

    options: dict[str, Any] = {
        "cron": expressions or None,
        "every": given(duration, "--every", every),
        "days": days,
        "weeks": weeks,
        "start_at": given(instant, "--start-at", start_at, zone),
        "end_at": given(instant, "--end-at", end_at, zone),
        "jitter": given(duration, "--jitter", jitter),
        "on_skip": on_skip,
        "skip": [skipped_day("--skip", text) for text in skip] if skip else None,
    }
    options["calendars"] = _calendars(options["skip"] or [], database, project)
    start = instant("--after", after, zone, base=base)
    meaning = schedules.explain(timezone=timezone, count=count, after=start, **options)
    if as_json:
        out_json(
            {
                "cron": expressions[0] if len(expressions) == 1 else expressions or None,
                "timezone": timezone,
                "english": meaning.english,
                "upcoming": [iso(slot) for slot in meaning.upcoming],
                "notes": list(meaning.notes),
            }
        )
        return
    out(styled(meaning.english, "bold"))
    for slot in meaning.upcoming:
        distance = styled(until(slot, base), "dim")
        out(f"  {slot:%a} {when(slot)} {slot:%Z}  {distance}".rstrip())
    for note in meaning.notes:
        out(f"  {styled('note:', 'yellow')} {note}")


def _calendars(skip: list[Any], database: str | None, project: str) -> list[Calendar]:
    """Read the calendars that are named. Raises :class:`CalendarNotFoundError`."""
    names = [day for day in skip if isinstance(day, str) and not day.startswith("cron:")]
    if not names:
        return []
    with opened(database, project) as client:
        return [calendars.sync.get(client, name) for name in names]


def _expressions(arguments: list[str]) -> list[str]:
    """Return the expressions: each argument is one, or five arguments are the fields of one."""
    if len(arguments) < 2 or all(" " in text or text.startswith("@") for text in arguments):
        return arguments
    if len(arguments) == 5:
        return [" ".join(arguments)]
    fail(
        f"{len(arguments)} arguments given, expected one for each expression; put expressions in "
        f"quotes, or the shell replaces `*` by file names: polos explain '0 9 * * *'",
        TYPED_WRONG,
    )
