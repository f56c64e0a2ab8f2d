"""Runs under limits."""

from harness.model import Case, Figure, Goal, Row, Side

POLOS, HERD = "peers/polos/limits.py", "peers/polos/limited_herd.py"
TEN = {"count": 1_000, "limit": 10}
# Without a limit, a worker with as many permits.
ROOM_FOR_TEN = {"count": 1_000, "limit": 0, "concurrency": 10}
LOCKS = {"count": 1_000, "limit": 0, "keys": 10}

ROW = Row(
    name="limits",
    title="Limits",
    what=(
        "*Ten at once*: 1,000 runs that do nothing are queued, then executed, at most 10 at once "
        "on all workers together. *One of each key*: the same with 10 keys, of each of which at "
        "most one run is in progress. *Beside a herd*: how late a schedule of one second is while "
        "10,000 runs of half a second wait for a limit of 50; while 1,200 do; and with none."
    ),
    fairness=(
        "**polos**: the default of a worker, on disk before a handler starts, the limit counted in "
        "the same transaction. **polos, no limit**: a worker with room for 10 and no limit.",
        "**DBOS**: a queue with `global_concurrency=10`, polled ten times a second (its default is "
        "once). Its worker begins while the queue is filled, so its time includes filling it.",
        "**procrastinate**: ten locks, on a worker with room for 100. A lock is all that it has; "
        "it has no limit above one.",
    ),
    cases=(
        Case(
            "ten at once",
            (
                Side("polos", POLOS, "polos", TEN),
                Side("polos, no limit", POLOS, "polos", ROOM_FOR_TEN),
                Side("DBOS", "peers/dbos/limits.py", "dbos"),
            ),
        ),
        Case(
            "ten at once, PostgreSQL",
            (
                Side("polos", POLOS, "polos", TEN),
                Side("polos, no limit", POLOS, "polos", ROOM_FOR_TEN),
                Side("DBOS", "peers/dbos/limits.py", "dbos"),
            ),
            store="postgres",
        ),
        Case(
            "one of each key, PostgreSQL",
            (
                Side("polos", POLOS, "polos", LOCKS),
                Side("procrastinate", "peers/procrastinate/limits.py", "procrastinate"),
            ),
            store="postgres",
        ),
        Case(
            "beside a herd",
            (
                Side("polos", HERD, "polos"),
                Side("polos, 1,200 queued", HERD, "polos", {"count": 1_200}),
                Side("polos, no herd", HERD, "polos", {"count": 0}),
            ),
        ),
        Case(
            "beside a herd, PostgreSQL",
            (
                Side("polos", HERD, "polos"),
                Side("polos, no herd", HERD, "polos", {"count": 0}),
            ),
            store="postgres",
        ),
    ),
    figures=(
        Figure("runs_per_s", "runs/s"),
        Figure("lateness_ms@50", "late, median", "ms"),
        Figure("lateness_ms@99", "p99", "ms"),
    ),
    goals=(
        Goal(
            "ten at once: at least 10 x DBOS",
            "ten at once/polos/runs_per_s",
            over="ten at once/DBOS/runs_per_s",
            at_least=10,
        ),
        Goal(
            "ten at once: a limit costs at most 1.3 x",
            "ten at once/polos, no limit/runs_per_s",
            over="ten at once/polos/runs_per_s",
            at_most=1.3,
        ),
        Goal(
            "ten at once, PostgreSQL: a limit costs at most 1.3 x",
            "ten at once, PostgreSQL/polos, no limit/runs_per_s",
            over="ten at once, PostgreSQL/polos/runs_per_s",
            at_most=1.3,
        ),
        Goal(
            "one of each key: at least as many as procrastinate",
            "one of each key, PostgreSQL/polos/runs_per_s",
            over="one of each key, PostgreSQL/procrastinate/runs_per_s",
            at_least=1,
        ),
        Goal(
            "beside a herd: at most 10 ms late, median",
            "beside a herd/polos/lateness_ms@50",
            at_most=10,
            unit="ms",
        ),
        Goal(
            "beside a herd, PostgreSQL: at most 10 ms late, median",
            "beside a herd, PostgreSQL/polos/lateness_ms@50",
            at_most=10,
            unit="ms",
        ),
    ),
    minutes=5.0,
)
