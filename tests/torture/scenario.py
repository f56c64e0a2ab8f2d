"""Makes one change of each kind, one after the other, and records them in a change log.

The log records each change before it is requested and after it is acknowledged. So at any moment
it is known what must be stored, and what may be stored: the pending change, entirely or not at all.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from polos import PolosClient, RunHandle, Schedule, StoreUnavailableError, Worker, runs, schedules

CRONS = ("0 0 1 1 *", "30 12 24 12 *")
PERIOD = timedelta(seconds=1)
TIMEOUT = 40.0

State = dict[str, tuple[str | tuple[str, ...], Any, str]]


class ChangeLog:
    """A durable log that the tested program writes."""

    def __init__(self, place: str) -> None:
        self._file = os.open(place, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def note(self, **entry: Any) -> None:
        os.write(self._file, (json.dumps(entry) + "\n").encode())
        os.fsync(self._file)

    async def change(self, states: State, action: Callable[[], Awaitable[Any]]) -> Any:
        """Make a change, and retry while the store is unavailable.

        :param states: the states that the change leads to.
        """
        self.note(say="intend", states=states)
        end = asyncio.get_running_loop().time() + TIMEOUT
        while True:
            try:
                result = await action()
            except StoreUnavailableError as error:
                self.note(say="refused", text=str(error))
                if asyncio.get_running_loop().time() > end:
                    raise
                await asyncio.sleep(0.02)
            else:
                self.note(say="done", states=states, result=result)
                return result


@dataclass
class Recorded:
    """The contents of a change log."""

    must: State = field(default_factory=dict)  # the acknowledged changes
    may: State = field(default_factory=dict)  # the same with the pending change
    states: list[State] = field(default_factory=lambda: [{}])  # each acknowledged state
    runs: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    ended: bool = False


def read(change_log: Path | str) -> Recorded:
    """Read the change log up to its last complete line."""
    text = change_log.read_text() if isinstance(change_log, Path) else change_log
    recorded = Recorded()
    for line in text.split("\n")[:-1]:
        entry = json.loads(line)
        states = {
            key: (state[0], state[1], state[2]) for key, state in entry.get("states", {}).items()
        }
        if entry["say"] == "intend":
            recorded.may = {**recorded.must, **states}
        elif entry["say"] == "done":
            recorded.must = {**recorded.must, **states}
            recorded.may = recorded.must
            recorded.states.append(recorded.must)
            if isinstance(entry["result"], str) and entry["result"].startswith("run_"):
                recorded.runs.append(entry["result"])
        elif entry["say"] == "refused":
            recorded.refusals.append(entry["text"])
        elif entry["say"] == "end":
            recorded.ended = True
    return recorded


def observed(found: list[Schedule]) -> State:
    """Return what is stored, in the form of the change log."""
    return {
        schedule.key: (schedule.cron or "every", schedule.input, schedule.status)
        for schedule in found
        if schedule.workflow == "digest"
    }


def normal(state: State) -> State:
    """Return the state without deleted schedules, which are not stored."""
    return {key: value for key, value in state.items() if value[2] != "deleted"}


async def play(client: PolosClient, worker: Worker, place: str, size: int) -> None:
    """Make all changes, then close in the normal way."""
    change_log = ChangeLog(place)
    before, after = CRONS
    filler = "x" * size

    async def many() -> list[str]:
        return await schedules.create_many(
            client,
            [
                {"workflow": "digest", "cron": before, "key": key, "input": filler}
                for key in ("b", "c", "d")
            ],
        )

    async def invoke(number: int) -> str:
        key = f"job-{number}"
        handle: RunHandle[Any] = await runs.invoke(
            client, "job", {"filler": filler}, idempotency_key=key
        )
        return handle.id

    while True:
        try:
            await worker.start()
        except StoreUnavailableError as error:
            change_log.note(say="refused", text=str(error))
            await asyncio.sleep(0.02)
        else:
            break
    a = await change_log.change(
        {"a": (before, 1, "active")},
        lambda: schedules.create(client, "digest", before, key="a", input=1),
    )
    _, c, d = await change_log.change(dict.fromkeys("bcd", (before, filler, "active")), many)
    first = await change_log.change({}, lambda: invoke(1))
    await change_log.change(
        {"a": (after, 2, "active")},
        lambda: finished(schedules.update(client, a, cron=after, input=2)),
    )
    tick = await change_log.change(
        {"tick": ("every", None, "active")},
        lambda: schedules.create(client, "digest", every=PERIOD, key="tick"),
    )
    await change_log.change(
        {"b": (after, 3, "active")},
        lambda: schedules.create(client, "digest", after, key="b", input=3),
    )
    await change_log.change(
        {"c": (before, filler, "paused")}, lambda: finished(schedules.pause(client, c))
    )
    await change_log.change({"d": (before, filler, "deleted")}, lambda: delete_once(client, d))
    second = await change_log.change({}, lambda: invoke(2))
    await ended(client, first, second)
    await has_run(client, tick)
    await between_slots()
    await change_log.change(
        {"tick": ("every", None, "paused")}, lambda: finished(schedules.pause(client, tick))
    )
    await worker.close()
    client.close()
    change_log.note(say="end")


async def finished(change: Awaitable[Any]) -> None:
    """Drop the result."""
    await change


async def delete_once(client: PolosClient, id: str) -> None:
    """Delete a schedule that a lost answer may already have deleted."""
    if any(schedule.id == id for schedule in await schedules.list(client)):
        await schedules.delete(client, id)


async def between_slots() -> None:
    """Wait until no slot is about to start."""
    await asyncio.sleep((0.1 - time.time()) % 1)


async def asked(question: Callable[[], Awaitable[bool]]) -> None:
    """Poll until the condition is true, also while the store is unavailable."""
    end = asyncio.get_running_loop().time() + TIMEOUT
    while asyncio.get_running_loop().time() < end:
        try:
            if await question():
                return
        except StoreUnavailableError:
            pass
        await asyncio.sleep(0.01)
    raise TimeoutError("the condition did not become true")


async def ended(client: PolosClient, *ids: str) -> None:
    async def are() -> bool:
        return all([(await runs.get(client, id)).status == "succeeded" for id in ids])

    await asked(are)


async def has_run(client: PolosClient, schedule: str) -> None:
    async def has() -> bool:
        done = await runs.list(client, schedule=schedule, status="succeeded", limit=1)
        return bool(done)

    await asked(has)
