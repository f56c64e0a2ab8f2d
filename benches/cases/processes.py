"""CPU-bound steps in one and in four separate processes."""

from harness.model import Case, Figure, Goal, Row, Side


def side(processes: int) -> Side:
    """Return a side of a worker with a number of processes."""
    script = "peers/polos/processes.py"
    return Side.of_several("process", "processes", processes, script, count=80, rounds=50)


ROW = Row(
    name="processes",
    title="Isolated steps on several cores",
    what=(
        "One run executes 80 steps with `process=True` at once; each computes for about 50 ms. "
        "The processes have started before: from the first of these steps until the run has its "
        "last result."
    ),
    fairness=(
        "All other settings are the defaults. Both sides take turns on the same processors; on a "
        "machine with one processor further processes give nothing.",
    ),
    cases=(Case("CPU-bound steps", (side(1), side(4)), on_disk=False, store="sqlite"),),
    figures=(Figure("seconds", "until all finished", "s"), Figure("steps_per_s", "steps", "/s")),
    goals=(
        Goal(
            "four processes: at least 1.8 x as fast as one, with two processors",
            "CPU-bound steps/1 process/seconds",
            over="CPU-bound steps/4 processes/seconds",
            at_least=1.8,
        ),
    ),
    minutes=1.0,
)
