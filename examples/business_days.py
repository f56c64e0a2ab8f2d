"""Wages on the 25th of each month, or on the next workday where that is a holiday or a weekend.

python examples/business_days.py              # stores the holidays, and lists the next slots
polos run examples/business_days.py           # executes the schedule until Ctrl-C
"""

import asyncio
from datetime import datetime
from zoneinfo import ZoneInfo

from polos import PolosClient, SchedulePayload, WorkflowContext, calendars, schedules, workflow

PARIS = ZoneInfo("Europe/Paris")

# `polos calendars set fr-holidays FILE` reads them from a file, also from one in iCalendar.
HOLIDAYS = ["2026-12-25", "2027-01-01", "2027-03-29", "2027-05-01", "2027-05-08", "2027-12-25"]
EXCLUDED = ["fr-holidays", "cron:* * * * SAT,SUN"]


@workflow(id="pay-wages", schedule=True, retries=3)
async def pay_wages(ctx: WorkflowContext, payload: SchedulePayload) -> None:
    print(f"wages of {payload.timestamp:%B}, paid on {payload.timestamp:%a %d %B %Y}")


async def main() -> None:
    async with PolosClient() as client:
        # When this list changes, all schedules that name it follow.
        await calendars.set(client, "fr-holidays", HOLIDAYS)
        await schedules.create(
            client, pay_wages, "0 9 25 * *", "Europe/Paris", skip=EXCLUDED, on_skip="next_workday"
        )
        meaning = schedules.explain(
            "0 9 25 * *",
            "Europe/Paris",
            count=4,
            after=datetime(2026, 12, 1, tzinfo=PARIS),
            skip=EXCLUDED,
            on_skip="next_workday",
            calendars=await calendars.list(client),
        )
        print(meaning.english)
        for slot in meaning.upcoming:
            print(f"  {slot:%a %d %B %Y}")
        for note in meaning.notes:
            print(f"  {note}")


if __name__ == "__main__":
    asyncio.run(main())
