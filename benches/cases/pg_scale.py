"""The cost of a fire on PostgreSQL: with an empty database, and with many stored rows."""

from harness.model import Case, Figure, Goal, Row, Side

STORED = {"schedules": 200_000, "finished": 400_000}
"""Rows stored beforehand. ``--schedules 1000000 --finished 2000000`` on the program's command line
stores more, which takes minutes before each measurement.
"""


def side(name: str, **options: object) -> Side:
    """Return a side: a herd of 10,000 with the given workers and stored rows."""
    program = "peers/polos_postgres/scale.py"
    return Side(name, program, "polos", {"count": 10_000, **options}, timeout=600.0)


HERD = "herd of 100k"


ROW = Row(
    name="pg-scale",
    title="What a fire costs on PostgreSQL",
    what=(
        "10,000 or 100,000 schedules are overdue when 1 or 2 workers begin: fires a second until "
        "the last run is recorded as finished; processor time of server and workers, and bytes of "
        "WAL, for each fire. Fresh, and with 200,000 other schedules and 400,000 finished runs."
    ),
    fairness=(
        "WAL is counted without full pages, whose number depends on the last checkpoint.",
        "**baseline**: the same changes to three tables with two indexes each, by psycopg: batches "
        "of 500 are inserted and advanced in one transaction, and completed in another, as arrays. "
        "A run of polos has 43 columns and up to eight index entries.",
    ),
    cases=(
        Case(
            "herd of 10k",
            (
                side("fresh"),
                side("fresh, 2 workers", workers=2),
                side("stored", **STORED),
                Side("baseline", "peers/psycopg/scale.py", "procrastinate"),
            ),
            store="postgres",
        ),
        Case(
            HERD,
            (side("1 worker", count=100_000), side("2 workers", count=100_000, workers=2)),
            store="postgres",
        ),
    ),
    figures=(
        Figure("fires_per_s", "fires", "/s"),
        Figure("cpu_us", "processor time", "us"),
        Figure("log_bytes", "WAL", "bytes"),
    ),
    goals=(
        Goal("a fire: at most 120 us (stretch)", "herd of 10k/fresh/cpu_us", at_most=120),
        Goal(
            "a fire: at most 1,800 bytes of WAL (stretch)",
            "herd of 10k/fresh/log_bytes",
            at_most=1_800,
        ),
        Goal("100k, one worker", f"{HERD}/1 worker/fires_per_s", at_least=8_000, unit="/s"),
        Goal("100k, two workers", f"{HERD}/2 workers/fires_per_s", at_least=12_000, unit="/s"),
        Goal(
            "history is free: at most 1.25 x the processor time",
            "herd of 10k/stored/cpu_us",
            over="herd of 10k/fresh/cpu_us",
            at_most=1.25,
        ),
    ),
    minutes=18.0,
)
