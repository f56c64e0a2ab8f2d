"""One, two, and four workers on one PostgreSQL server."""

from harness.model import Case, Figure, Goal, Row, Side


def side(workers: int) -> Side:
    """Return a side with some workers, each a process."""
    return Side.of_several("worker", "workers", workers, "peers/polos/workers.py", count=10_000)


ROW = Row(
    name="pg-workers",
    title="Workers on one PostgreSQL server",
    what=(
        "10,000 schedules are overdue when 1, 2 or 4 workers begin, each a process on this "
        "machine: how many are fired a second, until the last handler has started, and until the "
        "last run has ended. The shares are the least and the most that one of them executed."
    ),
    fairness=(
        "A server with `fsync` and `synchronous_commit` on, 256 MB of buffers and its other "
        "defaults. Server and workers share the processors of this machine, so beyond its number "
        "of processors more workers can't give more.",
    ),
    cases=(Case("10k overdue", (side(1), side(2), side(4)), store="postgres"),),
    figures=(
        Figure("fires_per_s", "fires", "/s"),
        Figure("ends_per_s", "to the end", "/s"),
        Figure("least_share", "least share"),
        Figure("most_share", "most"),
    ),
    goals=(
        Goal(
            "two workers: at least 1 x one",
            "10k overdue/2 workers/fires_per_s",
            over="10k overdue/1 worker/fires_per_s",
            at_least=1,
        ),
    ),
    minutes=5.0,
)
