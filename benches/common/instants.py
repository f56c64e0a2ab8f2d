"""The expressions and instants of the cron rows, and how libraries are measured."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import side

ZONE = "America/New_York"
COUNT = 100  # slots at a time
EXPRESSIONS = {
    "daily": "0 9 * * *",
    "weekdays": "*/15 9-17 * * 1-5",
    "monthly": "30 2 1 * *",
    "leap day": "0 0 29 2 *",
}


def measure(next_slots: Callable[[str, datetime], None], skip: tuple[str, ...] = ()) -> None:
    """Report microseconds per slot for each expression.

    ``next_slots(expression, after)`` has to find :data:`COUNT` slots.
    """
    options = side.options(calls=30)
    chance, zone = random.Random(7), ZoneInfo(ZONE)
    start = datetime(2020, 1, 1, tzinfo=timezone.utc)
    figures = {}
    for name, expression in EXPRESSIONS.items():
        if name in skip:
            continue
        after = [
            (start + timedelta(seconds=chance.randrange(0, 10 * 365 * 86_400))).astimezone(zone)
            for _ in range(options.calls)
        ]
        begun = time.perf_counter()
        for instant in after:
            next_slots(expression, instant)
        spent = time.perf_counter() - begun
        figures[f"{name}_us"] = spent / (options.calls * COUNT) * 1e6
    side.report(**figures)
