"""Next slots by APScheduler 3's cron trigger."""

from datetime import datetime

from apscheduler.triggers.cron import CronTrigger

import instants

triggers = {
    expression: CronTrigger.from_crontab(expression, timezone=instants.ZONE)
    for expression in instants.EXPRESSIONS.values()
}


def next_slots(expression: str, after: datetime) -> None:
    trigger, previous = triggers[expression], after
    for _ in range(instants.COUNT):
        previous = trigger.get_next_fire_time(previous, previous)


instants.measure(next_slots)
