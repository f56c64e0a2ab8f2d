"""The core's timer queue and batches, in Rust."""

from cases import micro
from harness.model import Figure, Goal, Row

QUEUE, BATCH = "queue/criterion/queue", "batch/criterion/batch"

ROW = Row(
    name="core",
    title="Timer queue and batches (Rust)",
    what=(
        "*Queue*: the earliest of 1,000,000 timers taken out and put in again. *Batch*: 500 due "
        "slots looked up, decided and committed; 500 queued runs claimed, without a limit and "
        "under one; in SQLite with "
        "`synchronous=FULL`, on a RAM disk to see our own work."
    ),
    fairness=(
        "**baseline** of the queue: the standard library's heap of pairs of numbers. Of the batch: "
        "500 rows inserted and 500 advanced by prepared statements in one transaction.",
    ),
    cases=(micro.case("queue"), micro.case("batch", on_ram=True)),
    figures=(
        Figure("queue/out and in/polos", "queue, polos", "ns"),
        Figure("queue/out and in/baseline", "queue, baseline", "ns"),
        Figure("batch/fire/polos", "500 fires, polos", "ns"),
        Figure("batch/fire/baseline", "500 fires, baseline", "ns"),
        Figure("batch/claim/polos", "500 claims, polos", "ns"),
        Figure("batch/limited claim/polos", "500 claims under a limit, polos", "ns"),
    ),
    goals=(
        Goal(
            "queue: at most 2 x the baseline",
            f"{QUEUE}/out and in/polos",
            over=f"{QUEUE}/out and in/baseline",
            at_most=2,
        ),
        Goal(
            "claims: at most 1.3 x under a limit",
            f"{BATCH}/limited claim/polos",
            over=f"{BATCH}/claim/polos",
            at_most=1.3,
        ),
    ),
    minutes=0.7,
)
