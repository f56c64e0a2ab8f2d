"""``polos explain``: explain a cron expression, without a database."""

from __future__ import annotations

from typing import Annotated

import typer

from polos import schedules
from polos.cli.ui.console import TYPED_WRONG, fail, out, out_json, styled
from polos.cli.ui.options import Json
from polos.cli.ui.times import instant, iso, now, until, when

__all__ = ["explain"]


def explain(
    cron: Annotated[
        list[str], typer.Argument(metavar="CRON", help="Five fields in quotes: '0 9 * * *'.")
    ],
    timezone: Annotated[
        str, typer.Option("--tz", metavar="ZONE", help="An IANA name, such as Europe/Paris.")
    ] = "UTC",
    count: Annotated[
        int, typer.Option("--count", "-n", metavar="N", min=1, max=1_000, help="Number of slots.")
    ] = 5,
    after: Annotated[
        str, typer.Option("--after", metavar="TIME", help="Slots after this, such as 2027-03-01.")
    ] = "now",
    as_json: Json = False,
) -> None:
    """Explain a cron expression.

    Prints its meaning in English, its next slots, and the effect of clock changes.
    """
    if len(cron) not in (1, 5):
        fail(
            f"{len(cron)} arguments given, expected one; put the expression in quotes, or the "
            f"shell replaces `*` by file names: polos explain '0 9 * * *'",
            TYPED_WRONG,
        )
    text = " ".join(cron)
    zone = schedules.preview(text, timezone, count=1)[0].tzinfo
    assert zone is not None, "slots are aware"
    base = now()
    start = instant("--after", after, zone, base=base)
    meaning = schedules.explain(text, timezone, count=count, after=start)
    if as_json:
        out_json(
            {
                "cron": text,
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
