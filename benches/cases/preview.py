"""Next times of cron expressions, computed from Python."""

from harness.model import Case, Figure, Goal, Row, Side

ROW = Row(
    name="preview",
    title="Cron from Python",
    what=(
        "The next 100 times after a random instant in New York, as aware datetimes; time per "
        "item. polos by `schedules.preview(count=100)`, which parses the expression each time."
    ),
    fairness=(
        "APScheduler's trigger is made once and asked 100 times; cronsim and croniter are "
        "iterators, made for each instant. cronsim looks 50 years ahead, which 100 leap days are "
        "not.",
    ),
    cases=(
        Case(
            "preview",
            (
                Side("polos", "peers/polos/preview.py", "polos", {"calls": 500}),
                Side("APScheduler 3", "peers/cron/with_apscheduler.py", "cron"),
                Side("cronsim", "peers/cron/with_cronsim.py", "cron"),
                Side("croniter", "peers/cron/with_croniter.py", "cron"),
            ),
            on_disk=False,
        ),
    ),
    figures=tuple(
        Figure(f"{name}_us", name, "us") for name in ("daily", "weekdays", "monthly", "leap day")
    ),
    goals=tuple(
        Goal(
            f"{name}: at least 30 x as fast as APScheduler",
            f"preview/APScheduler 3/{name}_us",
            over=f"preview/polos/{name}_us",
            at_least=30,
        )
        for name in ("daily", "weekdays", "monthly")
    ),
    minutes=0.8,
)
