"""An order that survives the death of its process.

    python examples/durable_steps.py              # starts an order and executes it

Kill it while it packs (kill -9) and start it again: the order continues where it stopped, and no
customer is charged twice. If you start it in two terminals, the other process takes over within 15
seconds.
"""

import asyncio
from decimal import Decimal

from pydantic import BaseModel

from polos import PolosClient, Worker, WorkflowContext, workflow


class Receipt(BaseModel):
    number: str
    amount: Decimal


async def charge(amount: Decimal, key: str) -> Receipt:
    print(f"charging {amount}")
    return Receipt(number=f"R-{key}", amount=amount)


async def pack(box: int) -> None:
    print(f"packing box {box} of 5")
    await asyncio.sleep(1)


@workflow(id="order")
async def order(ctx: WorkflowContext, boxes: int) -> Receipt:
    # Restored as a `Receipt`, with a `Decimal`, when the run resumes.
    receipt = await ctx.step.run("charge", lambda: charge(boxes * Decimal("9.90"), ctx.step_key))
    for box in range(1, boxes + 1):
        await ctx.step.run(f"pack box {box}", pack, box, retries=2)
    return receipt


async def main() -> None:
    async with PolosClient() as client, Worker(client):
        # The key makes a second start find the order of the first, finished or not.
        handle = await order.invoke(client, 5, idempotency_key="order 1")
        print(f"done: {await handle.result()}")


if __name__ == "__main__":
    asyncio.run(main())
