"""Runs that start later, many at once, or once for many calls.

python examples/starting_runs.py
"""

import asyncio
from datetime import timedelta

from polos import Debounce, Invocation, PolosClient, Worker, WorkflowContext, workflow


@workflow(id="remind")
async def remind(ctx: WorkflowContext, who: str) -> str:
    return f"reminded {who}"


@workflow(id="resize")
async def resize(ctx: WorkflowContext, image: str) -> str:
    return f"{ctx.key}: {image}"


@workflow(id="index")
async def index(ctx: WorkflowContext, text: str) -> str:
    return f"indexed {text!r}"


async def main() -> None:
    async with PolosClient() as client, Worker(client):
        later = await remind.invoke(client, "Ada", delay=timedelta(milliseconds=100))

        handles = await resize.invoke_many(
            client, ["a.png", "b.png", Invocation("c.png", key="u7")]
        )
        for handle in handles:
            print(await handle)

        # The user types: the document is indexed once, when the typing stops.
        typing = Debounce("document-7", delay=0.5, at_most=60)
        for text in ("p", "po", "pol", "polos"):
            newest = await index.invoke(client, text, debounce=typing)
        print(await newest)
        print(await later)


if __name__ == "__main__":
    asyncio.run(main())
