"""Many schedules due at one instant."""

from harness import plots
from harness.measured import Results
from harness.model import Case, Figure, Goal, Row, Side

POLOS, BASELINE = "peers/polos/herd.py", "baselines/herd.py"
SIZES = {"1k": (1_000, 1.5), "10k": (10_000, 3.0), "100k": (100_000, 12.0)}


def ours(size: str) -> tuple[Side, Side]:
    """Return polos and the baseline, with the time to prepare."""
    count, lead = SIZES[size]
    options = {"count": count, "lead": lead}
    baseline_lead = 1.0 + count / 50_000
    return (
        Side("polos", POLOS, "polos", options),
        Side("baseline", BASELINE, "baseline", {"count": count, "lead": baseline_lead}),
    )


def growth(results: Results) -> str:
    """Draw the time from due to the last handler, by the size of the herd."""
    counts = [count for count, _ in SIZES.values()]
    lines = {
        name: [
            (count, found.median / 1e3)
            for size, count in zip(SIZES, counts, strict=True)
            if (found := results.summary(f"{size}/{side}/last_ms")) is not None
        ]
        for name, side in (
            ("polos", "polos"),
            ("APScheduler 3, in memory", "APScheduler 3 in memory"),
            ("baseline: bare rows and tasks", "baseline"),
        )
    }
    return plots.line_chart(
        title="A herd: due until the last handler has started",
        x="schedules due at one instant",
        y="seconds",
        lines=lines,
    )


ROW = Row(
    name="herd",
    title="Herd",
    what=(
        "N schedules are due at one instant, with trivial async handlers, in a worker with default "
        "settings: from that instant until the first and the last handler have started. The run "
        "is on disk before its handler starts. Every hour, or where it says *cron*, by a daily "
        "cron expression, whose next time costs APScheduler much more."
    ),
    fairness=(
        "**polos**: a durable run per slot, `synchronous=FULL`; claims up to 50 ms ahead of the "
        "instant.",
        "**APScheduler 3**: no durable runs; jobs in memory (nothing survives), or in SQLite, "
        "where a job's next time is advanced when it is handed out. With its default of one "
        "second of grace it skips herds; here grace is unlimited, as its guide advises.",
        "**APScheduler 4** (pre-release): durable jobs, at least once. 200 schedules, for time.",
        "**DBOS**: durable workflows. Each schedule has a thread that delays itself at random by "
        "up to a tenth of its sleep.",
        "**huey**: one-off tasks (its periodic ones have the minute as their unit), at most once: "
        "a task is taken out of the file before it is executed.",
        "**baseline**: a thread that inserts N rows and advances N, 500 in a transaction, and "
        "starts N tasks with one wake-up per transaction. It has no policies and no history, and "
        "records no completions.",
        "**baseline, ends recorded**: the same with at most 1,000 at once, as in polos by default. "
        "It records each completion, and the claim of the task that takes its place.",
    ),
    cases=(
        Case(
            "10k",
            (
                *ours("10k"),
                Side(
                    "baseline, ends recorded",
                    "baselines/herd_ends.py",
                    "baseline",
                    {"count": 10_000, "lead": 1.2},
                ),
                Side(
                    "APScheduler 3 in memory",
                    "peers/apscheduler3/herd.py",
                    "apscheduler3",
                    {"count": 10_000, "lead": 4.0},
                ),
            ),
        ),
        Case(
            "10k, cron",
            (
                Side("polos", POLOS, "polos", {"count": 10_000, "lead": 3.0, "trigger": "cron"}),
                Side(
                    "APScheduler 3 in memory",
                    "peers/apscheduler3/herd.py",
                    "apscheduler3",
                    {"count": 10_000, "lead": 4.0, "trigger": "cron"},
                ),
            ),
        ),
        Case(
            "10k, SQLite",
            (
                ours("10k")[0],
                Side(
                    "APScheduler 3 on SQLite",
                    "peers/apscheduler3/herd.py",
                    "apscheduler3",
                    {"count": 10_000, "lead": 9.0, "jobs": "sqlite"},
                ),
            ),
        ),
        Case(
            "1k",
            (
                *ours("1k"),
                Side("DBOS", "peers/dbos/herd.py", "dbos", {"lead": 4.0}),
                Side("huey", "peers/huey/herd.py", "huey", {"lead": 3.0}),
                Side(
                    "APScheduler 3 in memory",
                    "peers/apscheduler3/herd.py",
                    "apscheduler3",
                    {"lead": 1.0},
                ),
            ),
        ),
        Case(
            "200",
            (
                Side("polos", POLOS, "polos", {"count": 200, "lead": 1.0}),
                Side(
                    "APScheduler 4 on SQLite",
                    "peers/apscheduler4/herd.py",
                    "apscheduler4",
                    {"count": 200, "lead": 5.0},
                ),
            ),
        ),
        Case("100k", ours("100k")),
    ),
    figures=(
        Figure("first_ms", "first handler", "ms"),
        Figure("last_ms", "last handler", "ms"),
        Figure("started", "started"),
        Figure("early", "too early"),
    ),
    goals=(
        Goal(
            "10k, cron: at least 5 x sooner than APScheduler 3 in memory",
            "10k, cron/APScheduler 3 in memory/last_ms",
            over="10k, cron/polos/last_ms",
            at_least=5,
        ),
        Goal(
            "10k, every hour: at least 5 x sooner than APScheduler 3 in memory",
            "10k/APScheduler 3 in memory/last_ms",
            over="10k/polos/last_ms",
            at_least=5,
        ),
        Goal(
            "10k: at least 100 x sooner than APScheduler 3 on SQLite",
            "10k, SQLite/APScheduler 3 on SQLite/last_ms",
            over="10k, SQLite/polos/last_ms",
            at_least=100,
        ),
        Goal(
            "10k: at most 1.5 x the baseline",
            "10k/polos/last_ms",
            over="10k/baseline/last_ms",
            at_most=1.5,
        ),
        Goal("10k: first handler within 10 ms", "10k/polos/first_ms", at_most=10, unit="ms"),
        Goal(
            "1k: at least 200 x sooner than DBOS",
            "1k/DBOS/last_ms",
            over="1k/polos/last_ms",
            at_least=200,
        ),
        Goal(
            "100k: linear, at most 12 x the time of 10k",
            "100k/polos/last_ms",
            over="10k/polos/last_ms",
            at_most=12,
        ),
        Goal("100k: all started", "100k/polos/started", at_least=100_000),
        Goal("10k: none early", "10k/polos/early", at_most=0),
    ),
    plots={"herd.svg": growth},
    minutes=11.0,
)
