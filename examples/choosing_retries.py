"""A payment that is retried while the service is busy, and not when the card is declined.

    python examples/choosing_retries.py

`retry_on` says which failures of the step and of the run are worth a retry. A `PermanentError` ends
the retries of both, whatever they say.
"""

import asyncio
from itertools import count

from polos import PermanentError, PolosClient, StepError, Worker, WorkflowContext, workflow

calls = count(1)


class ServiceError(Exception):
    def __init__(self, status: int) -> None:
        super().__init__(f"the payment service answered {status}")
        self.status = status


def is_temporary(error: Exception) -> bool:
    return isinstance(error, ServiceError) and error.status in (429, 502, 503)


def charge(card: str) -> str:
    """Simulate a payment service that is busy every second time."""
    if next(calls) % 2:
        raise ServiceError(503)
    if card == "stolen":
        raise PermanentError("the card was declined")
    return f"charged {card}"


@workflow(id="pay", retries=2, retry_on=is_temporary)
async def pay(ctx: WorkflowContext, card: str) -> str:
    return await ctx.step.run("charge", charge, card, retries=4, backoff=0.1, retry_on=is_temporary)


async def main() -> None:
    async with PolosClient() as client, Worker(client):
        for card in ("visa", "stolen"):
            try:
                print(await (await pay.invoke(client, card)).result())
            except StepError as error:
                print(f"not charged: {error.cause_message}")


if __name__ == "__main__":
    asyncio.run(main())
