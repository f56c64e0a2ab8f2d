"""Next slots by cronsim."""

from datetime import datetime

from cronsim import CronSim

import instants


def next_slots(expression: str, after: datetime) -> None:
    slots = CronSim(expression, after)
    for _ in range(instants.COUNT):
        next(slots)


# It searches only 50 years ahead, but 100 leap days take 400 years.
instants.measure(next_slots, skip=("leap day",))
