"""A run that says how far it is.

python examples/progress.py
"""

import asyncio

from polos import PolosClient, Worker, WorkflowContext, workflow

PAGES = 4


async def read(page: int) -> int:
    return 100 * page


@workflow(id="import-book")
async def import_book(ctx: WorkflowContext) -> int:
    total = 0
    for page in range(1, PAGES + 1):
        total += await ctx.step.run(f"page {page}", read, page)
        ctx.progress(page / PAGES, f"page {page} of {PAGES}")
    return total


async def main() -> None:
    async with PolosClient() as client, Worker(client):
        handle = await import_book.invoke(client)
        print("words:", await handle)
        print("progress:", await handle.progress())


if __name__ == "__main__":
    asyncio.run(main())
