"""Parsing of cron expressions, in Rust."""

from cases import micro
from harness.model import Goal, Row

ROW = Row(
    name="parse",
    title="Parse (Rust)",
    what="From the text of a cron expression to what next times are found with.",
    fairness=(
        "polos keeps the normalised text and says of a wrong one where it is wrong and what would "
        "be right; `cron` and croner know seconds and years; cronexpr parses the zone's name too.",
        "**baseline**: five bit sets; no names, no checks of days, no errors.",
    ),
    cases=(micro.case("parse"),),
    figures=micro.figures("parse", micro.EXPRESSIONS, micro.CRATES),
    goals=tuple(
        Goal(
            f"{name}: at most 300 ns",
            f"parse/criterion/parse/{name}/polos",
            at_most=300,
            unit="ns",
        )
        for name in micro.EXPRESSIONS
    ),
    minutes=1.0,
)
