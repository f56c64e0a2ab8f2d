"""A schedule for each user, at eight in the morning in the user's own time zone.

python examples/per_user_digest.py            # subscribes three users, lists their next slots
polos run examples/per_user_digest.py         # executes the schedules until Ctrl-C
"""

import asyncio
from dataclasses import dataclass

from polos import PolosClient, SchedulePayload, WorkflowContext, schedules, workflow


@dataclass
class User:
    name: str
    email: str
    timezone: str


USERS = {
    "ada": User("Ada", "ada@example.com", "Europe/London"),
    "bob": User("Bob", "bob@example.com", "America/New_York"),
    "eve": User("Eve", "eve@example.com", "Asia/Tokyo"),
}


def get_user(user_id: str) -> User:
    return USERS[user_id]


def write_digest(user: User, day: str) -> str:
    return f"Good morning {user.name}, this is {day}."


async def send_email(address: str, text: str, idempotency_key: str) -> None:
    print(f"to {address}: {text} [{idempotency_key}]")


@workflow(id="daily-digest", schedule=True, retries=2)
async def daily_digest(ctx: WorkflowContext, payload: SchedulePayload) -> None:
    user = await ctx.step.run("get user", get_user, payload.key)
    text = await ctx.step.run("write", write_digest, user, f"{payload.timestamp:%A, %d %B}")
    # If the process dies during this step it is executed again, with the same key.
    await ctx.step.run("send", lambda: send_email(user.email, text, ctx.step_key), retries=5)


async def main() -> None:
    async with PolosClient() as client:
        # Safe to repeat on every start: one schedule for each workflow and key.
        for user_id, user in USERS.items():
            await schedules.create(
                client, daily_digest, cron="0 8 * * *", timezone=user.timezone, key=user_id
            )
        for schedule in await schedules.list(client, workflow=daily_digest):
            print(f"{schedule.key}: next at {schedule.upcoming:%a %d %b %H:%M %Z}")


if __name__ == "__main__":
    asyncio.run(main())
