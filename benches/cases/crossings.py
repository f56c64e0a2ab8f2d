"""The cost of calls from Python into the core and back."""

from harness.model import Case, Figure, Row, Side

ROW = Row(
    name="crossings",
    title="Crossings",
    what=(
        "*Call*: a function of the core, called and returned (`spec_slots`). *Alone*: a request "
        "to the database's thread and its answer to the loop (`schedules.get`), one after "
        "another. *At once*: 1,000 of them."
    ),
    fairness=(
        "**baseline**: a queue to a thread of plain Python that answers at once, with one wake-up "
        "for all that have gathered; it parses no request and reads no database.",
    ),
    cases=(
        Case(
            "crossings",
            (
                Side("polos", "peers/polos/crossings.py", "polos"),
                Side("baseline", "baselines/crossings.py", "baseline"),
            ),
            on_disk=False,
        ),
    ),
    figures=(
        Figure("call_us", "call", "us"),
        Figure("alone_us", "alone", "us"),
        Figure("together_us", "at once", "us"),
    ),
    minutes=0.3,
)
