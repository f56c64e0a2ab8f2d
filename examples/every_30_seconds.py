"""The smallest application: a job every 30 seconds, at :00 and :30, on one worker or many.

Run it with either of these; Ctrl-C stops it:

    polos run examples/every_30_seconds.py
    python examples/every_30_seconds.py
"""

import os
from datetime import timedelta

import polos
from polos import SchedulePayload, WorkflowContext, workflow


@workflow(id="load", schedule={"every": timedelta(seconds=30), "overlap": "skip"})
async def load(ctx: WorkflowContext, payload: SchedulePayload) -> float:
    one_minute, _, _ = os.getloadavg()
    before = ctx.last_result  # what the previous run returned
    change = "" if before is None else f", {one_minute - before:+.2f}"
    print(f"{payload.timestamp:%H:%M:%S}  load {one_minute:.2f}{change}")
    return one_minute


if __name__ == "__main__":
    polos.run()
