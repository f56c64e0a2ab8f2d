"""A steady load of recurring schedules on PostgreSQL."""

from harness.model import Case, Figure, Goal, Row, Side

STORED = {"schedules": 1_000_000, "finished": 2_000_000}
"""Rows stored beforehand."""


def side(name: str, **options: object) -> Side:
    """Return a side: a load with the given rate and stored rows."""
    return Side(name, "peers/polos_postgres/steady.py", "polos", options, timeout=900.0)


ROW = Row(
    name="pg-steady",
    title="A steady load on PostgreSQL",
    what=(
        "Schedules that recur every 10 s, with slots spread evenly, executed by two workers on the "
        "two cores of the server: how late handlers start, in all and in the last fifth of the "
        "time, and what a fire costs. One minute after ten seconds to warm up; with "
        "``--seconds 300`` on the program's command line five."
    ),
    fairness=(
        "A commit has as many fires as have become due since the one before. So a fire costs more "
        "than in a burst as long as there is processor time to spare.",
        "WAL is counted without full pages, whose number depends on the last checkpoint.",
    ),
    cases=(
        Case(
            "steady",
            (
                side("500 a second", rate=500),
                side("2,000 a second", rate=2_000),
                side("2,000 a second, stored", rate=2_000, **STORED),
            ),
            store="postgres",
        ),
    ),
    figures=(
        Figure("p50_ms", "late, median", "ms"),
        Figure("p99_ms", "p99", "ms"),
        Figure("last_p99_ms", "p99 in the last fifth", "ms"),
        Figure("fires_per_s", "fires", "/s"),
        Figure("cpu_us", "processor time", "us"),
        Figure("log_bytes", "WAL", "bytes"),
        Figure("dead_rows", "dead rows at the end"),
    ),
    goals=(
        Goal("2,000 a second: p99 at most 100 ms", "steady/2,000 a second/p99_ms", at_most=100),
        Goal(
            "2,000 a second, stored: p99 at most 500 ms",
            "steady/2,000 a second, stored/p99_ms",
            at_most=500,
        ),
        Goal(
            "2,000 a second, stored: none is left behind",
            "steady/2,000 a second, stored/fires_per_s",
            at_least=1_999,
        ),
    ),
    minutes=18.0,
)
