"""The lateness of a single schedule."""

from harness.model import Case, Figure, Goal, Row, Side

FIRES = {"fires": 20}

ROW = Row(
    name="lateness",
    title="Lateness",
    what=(
        "One schedule that fires every second, 20 times a round: from the second until the "
        "handler's first line. Percentiles are those of all rounds together."
    ),
    fairness=(
        "**polos**: durable, with 10,000 other schedules stored; the handler is given its payload.",
        "**APScheduler 3**: in memory (nothing survives), or in SQLite; nothing else stored.",
        "**DBOS**, **huey**, **APScheduler 4**: durable; nothing else stored. huey's scheduler "
        "looks once a second, its shortest interval, and its tasks' times are spread over it.",
        "**baseline**: a thread that waits and wakes the loop, which stores nothing.",
    ),
    cases=(
        Case(
            "lone",
            (
                Side("polos", "peers/polos/lateness.py", "polos", FIRES),
                Side(
                    "APScheduler 3 in memory",
                    "peers/apscheduler3/lateness.py",
                    "apscheduler3",
                    FIRES,
                ),
                Side("baseline", "baselines/lateness.py", "baseline", {"fires": 10}),
            ),
        ),
        Case(
            "others",
            (
                Side(
                    "APScheduler 3 on SQLite",
                    "peers/apscheduler3/lateness.py",
                    "apscheduler3",
                    {"fires": 5, "jobs": "sqlite"},
                ),
                Side(
                    "APScheduler 4 on SQLite",
                    "peers/apscheduler4/lateness.py",
                    "apscheduler4",
                    {"fires": 5},
                ),
                Side("DBOS", "peers/dbos/lateness.py", "dbos", {"fires": 5}),
                Side("huey", "peers/huey/lateness.py", "huey", {"fires": 5}),
            ),
        ),
    ),
    figures=(
        Figure("lateness_ms@50", "p50", "ms"),
        Figure("lateness_ms@99", "p99", "ms"),
        Figure("early", "too early"),
    ),
    goals=(
        Goal(
            "p50 at most 1/4 of APScheduler 3 in memory",
            "lone/polos/lateness_ms@50",
            over="lone/APScheduler 3 in memory/lateness_ms@50",
            at_most=0.25,
        ),
        Goal(
            "p99 at most 1/2 of APScheduler 3 in memory",
            "lone/polos/lateness_ms@99",
            over="lone/APScheduler 3 in memory/lateness_ms@99",
            at_most=0.5,
        ),
        Goal("never early", "lone/polos/early", at_most=0),
    ),
    minutes=7.0,
)
