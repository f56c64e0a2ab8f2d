"""A backlog on a PostgreSQL server."""

from harness.model import Case, Figure, Goal, Row, Side

GRAPHILE = "peers/graphile_worker/backlog.js"

ROW = Row(
    name="backlog",
    title="A backlog on PostgreSQL",
    what=(
        "20,000 queued runs that do nothing, executed by one worker: from its start until the end "
        "of the last one is recorded."
    ),
    fairness=(
        "**polos**, with its defaults: results are kept, and the history and lists of runs have "
        "indexes. Each run is claimed for a worker with a lease, and a worker that was taken for "
        "dead can't complete it.",
        "**graphile-worker**: Node.js, the fastest queue on PostgreSQL that we know. It deletes a "
        "job when it is done and keeps no result. 24 jobs at once, as in its own benchmark. "
        "*In batches* (`localQueue`, `completeJobBatchDelay: 0`), 500 jobs are fetched at once and "
        "completed together.",
    ),
    cases=(
        Case(
            "20,000 runs",
            (
                Side("polos", "peers/polos_postgres/backlog.py", "polos"),
                Side("graphile-worker in batches", GRAPHILE, "graphile_worker", {"batched": 1}),
                Side("graphile-worker", GRAPHILE, "graphile_worker"),
            ),
            store="postgres",
        ),
    ),
    figures=(Figure("per_s", "executed", "/s"),),
    goals=(
        Goal(
            "ahead of graphile-worker in batches",
            "20,000 runs/polos/per_s",
            over="20,000 runs/graphile-worker in batches/per_s",
            at_least=1,
        ),
        Goal(
            "at least 3 x graphile-worker without batches",
            "20,000 runs/polos/per_s",
            over="20,000 runs/graphile-worker/per_s",
            at_least=3,
        ),
    ),
    minutes=1.5,
)
