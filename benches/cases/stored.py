"""A worker on a database with many schedules: start, memory, and idle cost."""

from harness import plots
from harness.measured import Results
from harness.model import Case, Figure, Goal, Row, Side

POLOS = "peers/polos/stored.py"
SIZES = {"10": 10, "10k": 10_000, "1M": 1_000_000}


def growth(title: str, y: str, key: str) -> plots.Draw:
    """Return a function that draws a figure by the number of stored schedules."""

    def draw(results: Results) -> str:
        points = [
            (count, found.median)
            for size, count in SIZES.items()
            if (found := results.summary(f"stored/polos, {size}/{key}")) is not None
        ]
        lines = {"polos": points}
        peers = {"APScheduler 3": "APScheduler 3, 10k", "DBOS": "DBOS, 10k"}
        for name, side in peers.items():
            found = results.summary(f"stored/{side}/{key}")
            if found is not None:
                lines[f"{name} at 10,000"] = [(10_000, found.median)]
        return plots.line_chart(title=title, x="schedules stored", y=y, lines=lines)

    return draw


ROW = Row(
    name="stored",
    title="Held, cold start, idle",
    what=(
        "A worker on a database with schedules that are not due. *Ready*: from before the process "
        "is started, so with interpreter and imports, until the worker would fire. *Memory*, "
        "*threads*: after that. *Idle*: time on a processor, in percent of one core, and "
        "transactions, over the seconds that follow."
    ),
    fairness=(
        "The files are in the system's cache for every side. polos and APScheduler 3 are ready "
        "when their start returns; DBOS when each schedule has its thread, before which it would "
        "not fire.",
        "Transactions are counted by another process that watches SQLite's counter of commits.",
    ),
    cases=(
        Case(
            "stored",
            (
                *(
                    Side(f"polos, {size}", POLOS, "polos", {"idle": 6.0}, stored=count)
                    for size, count in SIZES.items()
                ),
                Side(
                    "APScheduler 3, 10k",
                    "peers/apscheduler3/stored.py",
                    "apscheduler3",
                    {"idle": 2.0},
                    stored=10_000,
                ),
                Side(
                    "DBOS, 10k",
                    "peers/dbos/stored.py",
                    "dbos",
                    {"idle": 2.0, "count": 10_000},
                    stored=10_000,
                ),
            ),
        ),
    ),
    figures=(
        Figure("ready_s", "ready", "s"),
        Figure("memory_mb", "memory", "MB"),
        Figure("threads", "threads"),
        Figure("idle_percent", "idle", "% of a core"),
        Figure("commits_per_s", "transactions", "/s"),
    ),
    goals=(
        Goal(
            "memory with 1,000,000 stored at most 20 MB more than with 10",
            "stored/polos, 1M/memory_mb",
            minus="stored/polos, 10/memory_mb",
            at_most=20,
            unit="MB",
        ),
        Goal(
            "threads with 1,000,000 stored the same as with 10",
            "stored/polos, 1M/threads",
            minus="stored/polos, 10/threads",
            at_most=0,
        ),
        Goal(
            "start with 1,000,000 stored at most 1.5 x that with 10",
            "stored/polos, 1M/ready_s",
            over="stored/polos, 10/ready_s",
            at_most=1.5,
        ),
        Goal(
            "start with 10,000 at most that of APScheduler 3",
            "stored/polos, 10k/ready_s",
            over="stored/APScheduler 3, 10k/ready_s",
            at_most=1,
        ),
        Goal(
            "start with 10,000 at most 1/40 of DBOS",
            "stored/polos, 10k/ready_s",
            over="stored/DBOS, 10k/ready_s",
            at_most=1 / 40,
        ),
        Goal(
            "no transaction while nothing is due",
            "stored/polos, 1M/commits_per_s",
            at_most=0,
            unit="/s",
        ),
        Goal(
            "idle with 1,000,000 stored: at most 0.5 % of a core",
            "stored/polos, 1M/idle_percent",
            at_most=0.5,
            unit="%",
        ),
    ),
    plots={
        "cold-start.svg": growth("Cold start: process started until ready", "seconds", "ready_s"),
        "memory.svg": growth("Memory of a worker", "MB", "memory_mb"),
        "threads.svg": growth("Threads of a worker", "threads", "threads"),
        "idle.svg": growth("A worker at rest", "% of a core", "idle_percent"),
    },
    minutes=4.0,
)
