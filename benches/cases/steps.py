"""Durable steps, in many runs at once and in one run."""

from harness.model import Case, Figure, Goal, Row, Side

POLOS, BASELINE, DBOS = "peers/polos/steps.py", "baselines/steps.py", "peers/dbos/steps.py"
ONE = {"runs": 1, "batches": 1}

ROW = Row(
    name="steps",
    title="Steps",
    what=(
        "Trivial async steps; each result is on disk before the step returns. *Many*: 100 runs "
        "are under way, each does 10 steps. *One*: one run, one step after another. From the "
        "moment at which the runs may continue until the last step has returned."
    ),
    fairness=(
        "**polos** and **DBOS**: the result of a step is recorded with a synced commit before it "
        "returns. DBOS opens its file with SQLite's default journal; *WAL file* is one that was "
        "set to WAL before DBOS opened it, which its documentation doesn't mention.",
        "**baseline**: tasks that await a writer thread's group commit of one row each; *commits* "
        "is a bare loop of one-row commits without any thread. 1,000 steps for polos and the "
        "baseline (20,000 when many), 200 (1,000) for DBOS, for time.",
        "*RAM disk* is `/dev/shm`, where a sync costs nothing: our own work.",
    ),
    cases=(
        Case(
            "many",
            (
                Side("polos", POLOS, "polos"),
                Side("baseline", BASELINE, "baseline"),
                Side("DBOS", DBOS, "dbos"),
            ),
        ),
        Case(
            "one",
            (
                Side("polos", POLOS, "polos", {**ONE, "steps": 1_000}),
                Side("baseline", BASELINE, "baseline", {**ONE, "steps": 1_000}),
                Side("commits", "baselines/commits.py", "baseline", {"count": 1_000, "bulk": 1}),
                Side("DBOS", DBOS, "dbos", {**ONE, "steps": 200}),
                Side("DBOS, WAL file", DBOS, "dbos", {**ONE, "steps": 200, "wal": 1}),
            ),
        ),
        Case(
            "one, RAM disk",
            (
                Side("polos", POLOS, "polos", {**ONE, "steps": 5_000}, on_ram=True),
                Side("baseline", BASELINE, "baseline", {**ONE, "steps": 5_000}, on_ram=True),
                Side(
                    "commits",
                    "baselines/commits.py",
                    "baseline",
                    {"count": 5_000, "bulk": 1},
                    on_ram=True,
                ),
            ),
            on_disk=False,
        ),
    ),
    figures=(Figure("steps_per_s", "steps/s"), Figure("step_us", "a step", "us")),
    goals=(
        Goal(
            "many: at least 60 x DBOS",
            "many/polos/steps_per_s",
            over="many/DBOS/steps_per_s",
            at_least=60,
        ),
        Goal(
            "many: at least 0.4 x the baseline",
            "many/polos/steps_per_s",
            over="many/baseline/steps_per_s",
            at_least=0.4,
        ),
        Goal(
            "one: at least 6 x DBOS",
            "one/polos/steps_per_s",
            over="one/DBOS/steps_per_s",
            at_least=6,
        ),
        Goal(
            "one: at least 4 x DBOS on a WAL file",
            "one/polos/steps_per_s",
            over="one/DBOS, WAL file/steps_per_s",
            at_least=4,
        ),
        Goal(
            "one: at least 0.8 x the baseline",
            "one/polos/steps_per_s",
            over="one/baseline/steps_per_s",
            at_least=0.8,
        ),
        Goal(
            "one, RAM disk: at most 50 us more than a bare commit",
            "one, RAM disk/polos/step_us",
            minus="one, RAM disk/commits/step_us",
            at_most=50,
            unit="us",
        ),
    ),
    minutes=2.5,
)
