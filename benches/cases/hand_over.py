"""The delay until a run that one process invokes begins in another."""

from harness.model import Case, Figure, Goal, Row, Side

PROGRAM = "peers/polos/hand_over.py"

ROW = Row(
    name="hand-over",
    title="Hand-over",
    what=(
        "200 runs, one after another, invoked in one process and executed in another: from the "
        "call of `invoke` until the handler's first line. Percentiles are those of all rounds "
        "together."
    ),
    fairness=(
        "The time includes the caller's commit, and the worker's claim. Neither process does "
        "anything else. On SQLite, Linux tells the worker that the file was written; on "
        "PostgreSQL, the server does (`NOTIFY`).",
    ),
    cases=(
        Case("SQLite", (Side("polos", PROGRAM, "polos"),)),
        Case("PostgreSQL", (Side("polos", PROGRAM, "polos"),), store="postgres"),
    ),
    figures=(Figure("wait_ms@50", "p50", "ms"), Figure("wait_ms@99", "p99", "ms")),
    goals=(
        Goal("SQLite: p50 at most 2 ms", "SQLite/polos/wait_ms@50", at_most=2),
        Goal("SQLite: p99 at most 10 ms", "SQLite/polos/wait_ms@99", at_most=10),
        Goal("PostgreSQL: p50 at most 2 ms", "PostgreSQL/polos/wait_ms@50", at_most=2),
        Goal("PostgreSQL: p99 at most 6 ms", "PostgreSQL/polos/wait_ms@99", at_most=6),
    ),
    minutes=2.0,
)
