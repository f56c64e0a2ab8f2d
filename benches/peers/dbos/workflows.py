"""The workflows of the program that stores schedules and of the one that starts on them."""

from datetime import datetime
from typing import Any

from dbos import DBOS


@DBOS.workflow()
async def stored(scheduled: datetime, context: Any) -> None:
    raise AssertionError("not due for a month")
