"""Next slots by croniter."""

from datetime import datetime

from croniter import croniter

import instants


def next_slots(expression: str, after: datetime) -> None:
    slots = croniter(expression, after, max_years_between_matches=10)
    for _ in range(instants.COUNT):
        slots.get_next(datetime)


instants.measure(next_slots)
