"""An order and its confirmation in one transaction: both, or neither.

Needs PostgreSQL and psycopg 3:

    POLOS_DATABASE_URL=postgresql://... python examples/order_in_a_transaction.py
"""

from __future__ import annotations

import asyncio
import os

from polos import PolosClient, RunHandle, Worker, WorkflowContext, workflow


@workflow(id="confirm-order")
async def confirm(ctx: WorkflowContext, order: int) -> str:
    return f"order {order} is confirmed"


async def place_order(client: PolosClient, url: str, order: int) -> RunHandle[str]:
    """Store an order, and start its confirmation when the transaction commits."""
    import psycopg

    async with await psycopg.AsyncConnection.connect(url) as connection:
        await connection.execute("CREATE TABLE IF NOT EXISTS orders (id int PRIMARY KEY)")
        handle = await confirm.invoke_in(connection, client, order)
        # The second order with this number fails here, and its confirmation with it.
        await connection.execute("INSERT INTO orders (id) VALUES (%s)", (order,))
        return handle  # leaving the block commits, and an exception rolls back


async def main() -> None:
    import psycopg

    url = os.environ["POLOS_DATABASE_URL"].partition("?")[0]
    async with PolosClient() as client, Worker(client):
        handle = await place_order(client, url, 7)
        print(await handle)
        try:
            await place_order(client, url, 7)
        except psycopg.errors.UniqueViolation:
            print("order 7 exists already, and is not confirmed twice")


if __name__ == "__main__":
    asyncio.run(main())
