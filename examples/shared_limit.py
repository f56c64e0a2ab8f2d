"""Two workflows share a limit of two runs in progress, whatever the number of workers.

polos run examples/shared_limit.py
polos limits list
polos limits set api 1
"""

import asyncio
from datetime import timedelta

import polos
from polos import Limit, WorkflowContext, workflow

api = Limit("api", 2)
every_second = {"every": timedelta(seconds=1), "overlap": "buffer_one"}


@workflow(id="fetch-orders", schedule=every_second, concurrency=api)
async def fetch_orders(ctx: WorkflowContext) -> None:
    ctx.log.info("calls the service")
    await asyncio.sleep(3)


@workflow(id="fetch-stock", schedule=every_second, concurrency=api)
async def fetch_stock(ctx: WorkflowContext) -> None:
    ctx.log.info("calls the service")
    await asyncio.sleep(3)


if __name__ == "__main__":
    polos.run()
