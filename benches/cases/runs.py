"""Workflows invoked and finished."""

from harness.model import Case, Figure, Goal, Row, Side

ROW = Row(
    name="runs",
    title="Runs",
    what=(
        "A workflow that does nothing, invoked and waited for: one after another, and 100 at once."
    ),
    fairness=(
        "**polos**: the run is on disk when `invoke` returns, executed by a worker of the same "
        "process, and its end is on disk before its result is given.",
        "**DBOS**: the workflow is called directly, its quickest way; its start and its end are "
        "recorded. 150 one by one and 200 at once (polos 500 and 2,000), for time.",
        "**baseline**: tasks; a writer thread inserts a row before a task starts, and updates it "
        "before its result is returned.",
    ),
    cases=(
        Case(
            "runs",
            (
                Side("polos", "peers/polos/runs.py", "polos"),
                Side("DBOS", "peers/dbos/runs.py", "dbos"),
                Side("baseline", "baselines/runs.py", "baseline"),
            ),
        ),
    ),
    figures=(
        Figure("alone_per_s", "one by one", "/s"),
        Figure("together_per_s", "100 at once", "/s"),
    ),
    goals=(
        Goal(
            "one by one: at least 5 x DBOS",
            "runs/polos/alone_per_s",
            over="runs/DBOS/alone_per_s",
            at_least=5,
        ),
        Goal(
            "100 at once: at least 40 x DBOS",
            "runs/polos/together_per_s",
            over="runs/DBOS/together_per_s",
            at_least=40,
        ),
    ),
    minutes=1.0,
)
