"""Next slots of cron expressions, asked from Python."""

import instants
from polos import schedules


def preview(expression: str, after: object) -> None:
    schedules.preview(expression, instants.ZONE, instants.COUNT, after)


instants.measure(preview)
