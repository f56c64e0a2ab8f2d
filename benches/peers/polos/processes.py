"""CPU-bound steps with ``process=True``, all at once.

The processes start before the measurement, by as many short steps.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import time

import side
from polos import PolosClient, Worker, WorkflowContext, workflow

options = side.options(url="", processes=1, count=80, rounds=50)


def burn(rounds: int) -> int:
    """Compute for about a millisecond per round; return the process id."""
    for _ in range(rounds):
        hashlib.pbkdf2_hmac("sha256", b"password", b"salt", 2_000)
    return os.getpid()


def meet(seconds: float) -> int:
    """Keep the process busy, so that each of these steps gets another process."""
    time.sleep(seconds)
    return os.getpid()


@workflow(id="burst")
async def burst(ctx: WorkflowContext) -> list[float]:
    run = ctx.step.run
    warm = (run(f"meet {n}", meet, 0.5, process=True) for n in range(options.processes))
    started = set(await asyncio.gather(*warm))
    begun = time.perf_counter()
    steps = (run(f"burn {n}", burn, options.rounds, process=True) for n in range(options.count))
    by = await asyncio.gather(*steps)
    return [time.perf_counter() - begun, len(started | set(by))]


async def main() -> None:
    async with (
        PolosClient(side.database(options)) as client,
        Worker(client, app="bench", processes=options.processes),
    ):
        seconds, processes = await burst.run(client, timeout=120)
    side.report(seconds=seconds, steps_per_s=side.rate(options.count, seconds), processes=processes)


if __name__ == "__main__":
    asyncio.run(main())
