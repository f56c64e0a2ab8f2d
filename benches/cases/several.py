"""One application on several cores: ``polos run --workers``."""

from harness.model import Case, Figure, Goal, Row, Side


def side(workers: int) -> Side:
    """Return a side of the command with a number of workers."""
    script = "peers/polos/several.py"
    return Side.of_several("worker", "workers", workers, script, count=200, rounds=20, lead=1.0)


def case(store: str) -> Case:
    """Return the case of one and two workers on this store."""
    name = "SQLite" if store == "sqlite" else "PostgreSQL"
    return Case(name, (side(1), side(2)), on_disk=False, store=store)


ROW = Row(
    name="several",
    title="Workers of one command",
    what=(
        "200 schedules are due at one instant; each handler computes for about 20 ms and never "
        "waits. `polos run --workers N` has started before: from that instant until the last run "
        "is on disk as finished. The share is the least that one worker executed."
    ),
    fairness=(
        "All settings are the defaults. Both sides take turns on the same processors; on a machine "
        "with one processor the second worker gives nothing.",
    ),
    cases=(case("sqlite"), case("postgres")),
    figures=(
        Figure("seconds", "until all finished", "s"),
        Figure("runs_per_s", "runs", "/s"),
        Figure("least_share", "least share"),
    ),
    goals=tuple(
        Goal(
            f"{name}, two workers: at least 1.7 x as fast as one, with two processors",
            f"{name}/1 worker/seconds",
            over=f"{name}/2 workers/seconds",
            at_least=1.7,
        )
        for name in ("SQLite", "PostgreSQL")
    ),
    minutes=2.0,
)
