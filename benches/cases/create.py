"""Schedules created."""

from harness.model import Case, Figure, Goal, Row, Side

ROW = Row(
    name="create",
    title="Create",
    what=(
        "Schedules created durably: one by one, by 1,000 callers at once, and in bulk (one call)."
    ),
    fairness=(
        "**polos**, **DBOS**, **APScheduler**: a cron schedule is checked, and on disk when the "
        "call returns. 500 callers at once and 2,000 in bulk for DBOS, for time; "
        "APScheduler has neither.",
        "**huey**: a one-off task with a time; it has no schedules that can be stored.",
        "**baseline**: one-row inserts, each a commit; and 200,000 in one transaction.",
        "**baseline, awaited**: the same by a writer thread, for tasks that await it. As with "
        "polos, the event loop continues while the disk syncs. The peers' calls block it.",
    ),
    cases=(
        Case(
            "create",
            (
                Side("polos", "peers/polos/create.py", "polos"),
                Side("huey", "peers/huey/create.py", "huey"),
                Side("DBOS", "peers/dbos/create.py", "dbos"),
                Side("APScheduler 3 on SQLite", "peers/apscheduler3/create.py", "apscheduler3"),
                Side("APScheduler 4 on SQLite", "peers/apscheduler4/create.py", "apscheduler4"),
                Side("baseline", "baselines/commits.py", "baseline"),
                Side("baseline, awaited", "baselines/creates.py", "baseline"),
            ),
        ),
    ),
    figures=(
        Figure("alone_per_s", "one by one", "/s"),
        Figure("together_per_s", "at once", "/s"),
        Figure("bulk_per_s", "in bulk", "/s"),
    ),
    goals=(
        Goal(
            "one by one: at least 4 x DBOS",
            "create/polos/alone_per_s",
            over="create/DBOS/alone_per_s",
            at_least=4,
        ),
        Goal(
            "one by one: at least 1.2 x huey (stretch)",
            "create/polos/alone_per_s",
            over="create/huey/alone_per_s",
            at_least=1.2,
        ),
        Goal(
            "1,000 at once: at least 40 x DBOS",
            "create/polos/together_per_s",
            over="create/DBOS/together_per_s",
            at_least=40,
        ),
        Goal(
            "in bulk: at least 50 x DBOS",
            "create/polos/bulk_per_s",
            over="create/DBOS/bulk_per_s",
            at_least=50,
        ),
    ),
    minutes=2.0,
)
