"""Work that may crash, hang, or use too much memory, without harm to the worker.

    polos run examples/isolated_steps.py

Every minute, each number is factored in a process of its own, on as many processors as there are.
One of the numbers crashes its process; the worker and the other steps continue.
"""

import os
import signal
from datetime import timedelta

from polos import StepCrashedError, StepError, WorkflowContext, workflow

NUMBERS = [600_851_475_143, 13, 1_000_000_016_000_000_063, 360_360]


def factors(number: int) -> list[int]:
    if number == 13:
        os.kill(os.getpid(), signal.SIGSEGV)  # as a bug in native code does
    found = []
    divisor = 2
    while divisor * divisor <= number and divisor < 1_000_000:
        while number % divisor == 0:
            found.append(divisor)
            number //= divisor
        divisor += 1
    return [*found, number] if number > 1 else found


async def factored(ctx: WorkflowContext, number: int) -> str:
    try:
        found = await ctx.step.run(
            f"factor {number}", factors, number, process=True, timeout=60, memory="512M"
        )
    except StepError as error:
        if not isinstance(error.__cause__, StepCrashedError):
            raise
        return f"{number}: {error.__cause__}"
    return f"{number} = {' * '.join(map(str, found))}"


@workflow(id="factors", schedule={"every": timedelta(minutes=1)})
async def all_factors(ctx: WorkflowContext) -> list[str]:
    lines = await ctx.step.gather(*(factored(ctx, number) for number in NUMBERS))
    for line in lines:
        print(line)
    return lines
