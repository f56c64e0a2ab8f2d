"""Next slots of cron expressions, computed from Python."""

import instants
from polos import schedules


def preview(expression: str, after: object) -> None:
    schedules.preview(expression, instants.ZONE, instants.COUNT, after)


instants.measure(preview)
