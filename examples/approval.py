"""A text that is published when somebody approves it.

    python examples/approval.py                   # asks for an approval, and waits for it
    python examples/approval.py approve ada       # in another terminal, or after a restart

The run waits in the database: end the first program, approve, and start it again. Without an
approval within three days, the text expires.
"""

import asyncio
import sys
from datetime import timedelta

from pydantic import BaseModel

from polos import PolosClient, Worker, WorkflowContext, runs, workflow


class Approval(BaseModel):
    by: str


@workflow(id="publish")
async def publish(ctx: WorkflowContext, title: str) -> str:
    answer = await ctx.step.wait_event("approval", timeout=timedelta(days=3), type=Approval)
    return f"{title}: expired" if answer is None else f"{title}: approved by {answer.by}"


async def ask(client: PolosClient) -> None:
    async with Worker(client):
        # The key makes a second start find the run of the first.
        handle = await publish.invoke(client, "News", idempotency_key="news 1")
        print(f"run {handle.id} waits for an approval")
        print(await handle.result())


async def approve(client: PolosClient, name: str) -> None:
    is_accepted = await runs.send(
        client, workflow=publish, key="global", name="approval", payload=Approval(by=name)
    )
    print("approved" if is_accepted else "somebody else was faster")


async def main() -> None:
    async with PolosClient() as client:
        if sys.argv[1:2] == ["approve"]:
            await approve(client, sys.argv[2])
        else:
            await ask(client)


if __name__ == "__main__":
    asyncio.run(main())
