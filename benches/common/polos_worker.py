"""A worker of polos in a child process (see ``child.py``)."""

from __future__ import annotations

import asyncio
import sys

import side
from polos import PolosClient, Worker, schedules


async def work(url: str) -> float:
    """Run one worker until stdin has a line; return the processor time that it used, in seconds."""
    loop = asyncio.get_running_loop()
    async with PolosClient(url) as client:
        await schedules.list(client, limit=1)
        print("ready", flush=True)
        await loop.run_in_executor(None, sys.stdin.readline)
        before = side.processor_seconds()
        async with Worker(client):
            await loop.run_in_executor(None, sys.stdin.readline)
            return side.processor_seconds() - before
