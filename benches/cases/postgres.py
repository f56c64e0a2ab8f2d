"""The same work on a PostgreSQL server."""

from harness.model import Case, Figure, Goal, Row, Side

ONE = {"runs": 1, "batches": 1, "steps": 200}


def on_server(name: str, program: str, polos: dict[str, object], *peers: Side) -> Case:
    """Return a case of polos and its peers, each with an empty database."""
    return Case(
        name, (Side("polos", f"peers/polos/{program}.py", "polos", polos), *peers), store="postgres"
    )


ROW = Row(
    name="postgres",
    title="PostgreSQL",
    what=(
        "Steps, runs, a herd of 1,000 and the lateness of a lone schedule, as in the rows of these "
        "names, with a PostgreSQL server on the same machine."
    ),
    fairness=(
        "One server for all, with `fsync` and `synchronous_commit` on, 256 MB of buffers and its "
        "other defaults; each side has an empty database of its own, and a worker in one process.",
        "**DBOS**: as in the other rows, with its PostgreSQL database.",
        "**procrastinate**: jobs in PostgreSQL, executed by a worker with room for 100 at once. "
        "It has no steps. It looks for jobs that come due every 0.1 s (its default is 5 s).",
        "**baseline** of the runs: two transactions of one statement each, with psycopg, and "
        "nothing else; with 100 at once, two for all of them. A run that is durable before its "
        "handler starts, and whose result is durable before it is returned, needs at least these.",
    ),
    cases=(
        on_server(
            "steps, many",
            "steps",
            {"batches": 5},
            Side("DBOS", "peers/dbos/steps.py", "dbos"),
        ),
        on_server("steps, one", "steps", ONE, Side("DBOS", "peers/dbos/steps.py", "dbos", ONE)),
        on_server(
            "runs",
            "runs",
            {"alone": 200, "batches": 10},
            Side("DBOS", "peers/dbos/runs.py", "dbos"),
            Side("procrastinate", "peers/procrastinate/runs.py", "procrastinate"),
            Side("baseline", "peers/psycopg/runs.py", "procrastinate"),
        ),
        on_server(
            "herd of 1k",
            "herd",
            {"lead": 2.0},
            Side("DBOS", "peers/dbos/herd.py", "dbos", {"lead": 6.0}),
            Side("procrastinate", "peers/procrastinate/herd.py", "procrastinate", {"lead": 3.0}),
        ),
        on_server(
            "lateness",
            "lateness",
            {},
            Side("DBOS", "peers/dbos/lateness.py", "dbos"),
            Side("procrastinate", "peers/procrastinate/lateness.py", "procrastinate"),
        ),
    ),
    figures=(
        Figure("steps_per_s", "steps/s"),
        Figure("step_us", "a step", "us"),
        Figure("alone_per_s", "one by one", "/s"),
        Figure("together_per_s", "100 at once", "/s"),
        Figure("first_ms", "first handler", "ms"),
        Figure("last_ms", "last handler", "ms"),
        Figure("started", "started"),
        Figure("early", "too early"),
        Figure("lateness_ms@50", "late, median", "ms"),
        Figure("lateness_ms@99", "p99", "ms"),
    ),
    goals=(
        Goal(
            "steps, many: at least 20 x DBOS",
            "steps, many/polos/steps_per_s",
            over="steps, many/DBOS/steps_per_s",
            at_least=20,
        ),
        Goal(
            "steps, one: at least 6 x DBOS",
            "steps, one/polos/steps_per_s",
            over="steps, one/DBOS/steps_per_s",
            at_least=6,
        ),
        Goal(
            "runs, one by one: at least 6 x DBOS",
            "runs/polos/alone_per_s",
            over="runs/DBOS/alone_per_s",
            at_least=6,
        ),
        Goal(
            "runs, 100 at once: at least 20 x DBOS",
            "runs/polos/together_per_s",
            over="runs/DBOS/together_per_s",
            at_least=20,
        ),
        Goal("herd: all started", "herd of 1k/polos/started", at_least=1_000),
        Goal("herd: none early", "herd of 1k/polos/early", at_most=0),
        Goal("lateness: none early", "lateness/polos/early", at_most=0),
    ),
    minutes=9.0,
)
