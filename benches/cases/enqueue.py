"""Runs enqueued on a PostgreSQL server."""

from harness.model import Case, Figure, Goal, Row, Side

ROW = Row(
    name="enqueue",
    title="Runs enqueued on PostgreSQL",
    what=(
        "20,000 runs of one workflow that no worker executes: created by one `invoke_many`, which "
        "is one transaction and one round trip, and by 1,000 callers of `invoke` at once."
    ),
    fairness=(
        "Payloads are checked against the handler's types and encoded, and the handles are "
        "returned; all of this counts.",
        "**graphile-worker**: all jobs by one `addJobs`. A job has four index entries.",
        "**baseline**: rows of five columns with two indexes (a run has 43 columns and up to eight "
        "index entries), by psycopg: one COPY, and one INSERT from arrays. Making the rows counts.",
    ),
    cases=(
        Case(
            "20,000 runs",
            (
                Side("polos", "peers/polos_postgres/enqueue.py", "polos"),
                Side("graphile-worker", "peers/graphile_worker/enqueue.js", "graphile_worker"),
                Side("baseline", "peers/psycopg/enqueue.py", "procrastinate"),
            ),
            store="postgres",
        ),
    ),
    figures=(
        Figure("many_per_s", "in one call", "/s"),
        Figure("single_per_s", "invoke, 1,000 at once", "/s"),
        Figure("copy_per_s", "COPY", "/s"),
        Figure("unnest_per_s", "INSERT from arrays", "/s"),
    ),
    goals=(
        Goal(
            "invoke_many: at least 2 x invoke",
            "20,000 runs/polos/many_per_s",
            over="20,000 runs/polos/single_per_s",
            at_least=2,
        ),
        Goal(
            "invoke_many: ahead of graphile-worker's addJobs",
            "20,000 runs/polos/many_per_s",
            over="20,000 runs/graphile-worker/many_per_s",
            at_least=1,
        ),
    ),
    minutes=2.0,
)
