"""The cost of calls from Python into the core and back."""

import asyncio
import time
from pathlib import Path

import side
from polos import PolosClient, schedules, workflow
from polos._polos import spec_slots

SPEC = '{"cron": "0 9 * * *", "timezone": "UTC"}'
options = side.options(alone=2_000, at_once=1_000, batches=5, calls=50_000)


@workflow(id="digest", schedule=True)
async def digest() -> None:
    return None


async def main() -> None:
    async with PolosClient(Path(options.folder) / "polos.db") as client:
        id = await schedules.create(client, digest, cron="0 8 * * *")

        begun = time.perf_counter()
        for _ in range(options.calls):
            spec_slots(SPEC, 1, 0)
        call = (time.perf_counter() - begun) / options.calls

        begun = time.perf_counter()
        for _ in range(options.alone):
            await schedules.get(client, id)
        alone = (time.perf_counter() - begun) / options.alone

        begun = time.perf_counter()
        for _ in range(options.batches):
            await asyncio.gather(*(schedules.get(client, id) for _ in range(options.at_once)))
        together = (time.perf_counter() - begun) / (options.batches * options.at_once)
    side.report(call_us=call * 1e6, alone_us=alone * 1e6, together_us=together * 1e6)


asyncio.run(main())
