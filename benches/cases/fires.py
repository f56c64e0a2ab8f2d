"""The cost of a fire, by the number of stored schedules."""

from harness import plots
from harness.measured import Results
from harness.model import Case, Figure, Goal, Row, Side

SIZES = {"1k stored": 1_000, "100k stored": 100_000, "1M stored": 1_000_000}


def growth(results: Results) -> str:
    """Draw the cost of a fire by the size of the database."""
    points = [
        (count, found.median)
        for name, count in SIZES.items()
        if (found := results.summary(f"fires/{name}/fire_us")) is not None
    ]
    return plots.line_chart(
        title="What a fire costs in a large database",
        x="schedules stored",
        y="microseconds per fire",
        lines={"polos": points},
        y_log=False,
    )


ROW = Row(
    name="fires",
    title="Fires in a large database",
    what=(
        "2,000 schedules fire at one instant on a database that holds many others which are not "
        "due: due until the last handler has started, divided by their number."
    ),
    fairness=("polos beside itself. The databases are copies, in the system's file cache.",),
    cases=(
        Case(
            "fires",
            tuple(
                Side(name, "peers/polos/fires.py", "polos", {"lead": 2.0}, stored=count)
                for name, count in SIZES.items()
            ),
        ),
    ),
    figures=(
        Figure("fire_us", "a fire", "us"),
        Figure("last_ms", "last handler", "ms"),
        Figure("started", "started"),
    ),
    goals=(
        Goal(
            "with 1,000,000 stored at most 1.3 x as with 1,000",
            "fires/1M stored/fire_us",
            over="fires/1k stored/fire_us",
            at_most=1.3,
        ),
    ),
    plots={"fires.svg": growth},
    minutes=1.5,
)
