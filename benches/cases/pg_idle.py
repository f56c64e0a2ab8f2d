"""The cost of idle workers on a PostgreSQL server."""

from harness.model import Case, Figure, Goal, Row, Side


def side(workers: int) -> Side:
    """Return a side with some workers, each with its own connections."""
    name = f"{workers} worker" + ("s" if workers > 1 else "")
    return Side(name, "peers/polos_postgres/idle.py", "polos", {"workers": workers})


ROW = Row(
    name="pg-idle",
    title="Idle workers on one PostgreSQL server",
    what=(
        "1 and 100 workers without work, all of one application: statements and round trips a "
        "second of all of them together, counted by a relay between them and the server for "
        "a while, and open connections of each."
    ),
    fairness=(
        "The workers share a process, but no connection: each has a client of its own. What the "
        "relay counts does not depend on the speed of the machine.",
    ),
    cases=(Case("idle", (side(1), side(100)), store="postgres"),),
    figures=(
        Figure("statements_per_s", "statements", "/s"),
        Figure("round_trips_per_s", "round trips", "/s"),
        Figure("connections_each", "connections each"),
    ),
    goals=(
        Goal(
            "100 idle workers: at most 50 statements a second",
            "idle/100 workers/statements_per_s",
            at_most=50,
        ),
        Goal(
            "100 idle workers: at most 2 connections each",
            "idle/100 workers/connections_each",
            at_most=2,
        ),
    ),
    minutes=9.0,
)
