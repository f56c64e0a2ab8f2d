"""Schedules created in bulk on a PostgreSQL server, and the same rows written by COPY.

The copy goes into a table like that of the schedules, with the same indexes.
"""

import asyncio
import time

import pg_server
import side
from polos import PolosClient, schedules, workflow

options = side.options(url="", count=200_000)

COPIED = "CREATE TABLE public.copied (LIKE polos.schedule INCLUDING ALL)"


@workflow(id="digest", schedule=True)
async def digest() -> None:
    return None


async def main() -> None:
    server = pg_server.Server(options.url)
    file = f"{options.folder}/schedules.copy"
    async with PolosClient(options.url) as client:
        many = [
            {"workflow": digest, "cron": "0 8 * * *", "timezone": "UTC", "key": f"user-{number}"}
            for number in range(options.count)
        ]
        begun = time.perf_counter()
        ids = await schedules.create_many(client, many)
        created = time.perf_counter() - begun
        assert len(ids) == options.count
    server.sql(COPIED)
    server.sql(f"\\copy polos.schedule to '{file}'")
    server.sql("CHECKPOINT")
    begun = time.perf_counter()
    server.sql(f"\\copy public.copied from '{file}'")
    copied = time.perf_counter() - begun
    side.report(
        create_per_s=side.rate(options.count, created), copy_per_s=side.rate(options.count, copied)
    )


asyncio.run(main())
