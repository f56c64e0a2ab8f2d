"""Schedules created in bulk on PostgreSQL."""

from harness.model import Case, Figure, Goal, Row, Side

PROGRAM = "peers/polos_postgres/create.py"

ROW = Row(
    name="pg-create",
    title="Schedules created in bulk on PostgreSQL",
    what="200,000 schedules by one ``create_many``, which is one transaction.",
    fairness=(
        "Each specification is checked, existing keys are looked up, and the ids are returned; all "
        "of this counts.",
        "**COPY**: afterwards, ``psql`` copies the same rows from a file into an empty table with "
        "the same columns and indexes.",
    ),
    cases=(
        Case("200,000", (Side("polos", PROGRAM, "polos", {"count": 200_000}),), store="postgres"),
    ),
    figures=(
        Figure("create_per_s", "create_many", "/s"),
        Figure("copy_per_s", "COPY of the same rows", "/s"),
    ),
    goals=(
        Goal(
            "at least half as fast as COPY",
            "200,000/polos/create_per_s",
            over="200,000/polos/copy_per_s",
            at_least=0.5,
        ),
    ),
    minutes=2.0,
)
