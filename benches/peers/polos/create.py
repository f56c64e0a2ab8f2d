"""Schedules created durably: one by one, many callers at once, and in bulk."""

import asyncio
import time
from pathlib import Path

import side
from polos import PolosClient, schedules, workflow

options = side.options(alone=1_000, at_once=1_000, batches=3, bulk=20_000)


@workflow(id="digest", schedule=True)
async def digest() -> None:
    return None


async def main() -> None:
    async with PolosClient(Path(options.folder) / "polos.db") as client:

        async def create(key: str) -> None:
            await schedules.create(client, digest, cron="0 8 * * *", timezone="UTC", key=key)

        begun = time.perf_counter()
        for number in range(options.alone):
            await create(f"alone-{number}")
        alone = time.perf_counter() - begun

        begun = time.perf_counter()
        for batch in range(options.batches):
            await asyncio.gather(*(create(f"{batch}-{n}") for n in range(options.at_once)))
        together = time.perf_counter() - begun

        begun = time.perf_counter()
        many = [
            {"workflow": digest, "cron": "0 8 * * *", "timezone": "UTC", "key": f"bulk-{number}"}
            for number in range(options.bulk)
        ]
        await schedules.create_many(client, many)
        bulk = time.perf_counter() - begun
    side.report(
        alone_per_s=side.rate(options.alone, alone),
        together_per_s=side.rate(options.at_once * options.batches, together),
        bulk_per_s=side.rate(options.bulk, bulk),
    )


asyncio.run(main())
