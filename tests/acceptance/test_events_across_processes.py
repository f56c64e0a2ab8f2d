"""Events between processes, with and without a SIGKILL in between."""

from __future__ import annotations

from typing import Any

from polos import PolosClient, runs

WORKER = """
    import asyncio
    import sys
    from polos import PolosClient, Worker, WorkflowContext, workflow

    @workflow(id="publish")
    async def publish(ctx: WorkflowContext) -> list:
        print("entered", flush=True)
        first = await ctx.step.wait_event("approval", timeout=600)
        both = await ctx.step.gather(
            ctx.step.wait_event("a", timeout=600), ctx.step.wait_event("b", timeout=600)
        )
        return [first, *both]

    async def main():
        async with PolosClient() as client, Worker(client, lease=2):
            print("ready", flush=True)
            await asyncio.to_thread(sys.stdin.readline)

    asyncio.run(main())
"""

SENDER = """
    import sys
    from polos import PolosClient, runs

    with PolosClient() as client:
        _, run, name, payload = sys.argv
        print("accepted", runs.sync.send(client, run, name, payload), flush=True)
"""


async def test_sender_and_workers_are_separate_processes(
    client: PolosClient, start: Any, eventually: Any
) -> None:
    first = start(WORKER, name="first.py")
    first.wait_for_line("ready")
    handle = await runs.invoke(client, "publish")
    first.wait_for_line("entered")

    async def is_parked() -> bool:
        return await handle.status() == "waiting"

    await eventually(is_parked)
    first.kill()  # no worker holds a waiting run
    sender = start(SENDER, handle.id, "approval", "yes", name="sender.py")
    assert sender.wait_for_line("accepted") == "True"
    assert sender.ends() == 0
    second = start(WORKER, name="second.py")
    second.wait_for_line("entered")

    async def waits_in_place() -> bool:
        steps = (await runs.get(client, handle.id)).steps
        return {step.name for step in steps if step.awaits_event} == {"a", "b"}

    await eventually(waits_in_place)
    assert start(SENDER, handle.id, "a", "A", name="a.py").wait_for_line("accepted") == "True"
    second.kill()  # in memory; the first of the two events is recorded
    assert start(SENDER, handle.id, "b", "B", name="b.py").wait_for_line("accepted") == "True"
    assert (
        start(SENDER, handle.id, "b", "again", name="again.py").wait_for_line("accepted") == "False"
    )
    third = start(WORKER, name="third.py")
    third.wait_for_line("entered")
    assert await handle.result(60) == ["yes", "A", "B"]
