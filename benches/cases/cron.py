"""The next time of a cron expression, in Rust."""

from cases import micro
from harness.model import Goal, Row

NEW_YORK, UTC = "next New York", "next UTC"


def ours(group: str, name: str, over: str, **bounds: float) -> Goal:
    """A goal for the ratio of polos to another crate, or its inverse."""
    place = f"next/criterion/{group}/{name}"
    if "at_least" in bounds:
        text = f"{name}: at least {bounds['at_least']} x as fast as {over}"
        return Goal(text, f"{place}/{over}", over=f"{place}/polos", **bounds)
    text = f"{name}: at most {bounds['at_most']} x the {over}"
    return Goal(text, f"{place}/polos", over=f"{place}/{over}", **bounds)


ROW = Row(
    name="cron",
    title="Cron: the next time (Rust)",
    what="The next time after a random instant from 2020 to 2030, in New York and in UTC.",
    fairness=(
        "polos, croner: the rules of Vixie cron at changes of the clocks. `cron`: what has no "
        "wall-clock time is left out; it wants both where day of month and day of week are "
        "restricted. cronexpr and polos use the same time zone library, `cron` and croner "
        "chrono-tz.",
        "**baseline**: fields as bit sets and a table of offsets; no rules, no names, no errors.",
    ),
    cases=(micro.case("next"),),
    figures=(
        *micro.figures(NEW_YORK, micro.EXPRESSIONS, micro.CRATES),
        *micro.figures(UTC, ("daily",), micro.CRATES),
    ),
    goals=(
        *(ours(NEW_YORK, name, "cron", at_least=1.8) for name in micro.EXPRESSIONS),
        *(ours(NEW_YORK, name, "croner", at_least=3) for name in micro.EXPRESSIONS),
        ours(NEW_YORK, "daily", "baseline", at_most=1.3),
        Goal(
            "leap day: at most 2 x the daily case",
            f"next/criterion/{NEW_YORK}/leap day/polos",
            over=f"next/criterion/{NEW_YORK}/daily/polos",
            at_most=2,
        ),
    ),
    minutes=1.5,
)
