"""One of each change that a client and a worker make, one after the other, told in a diary.

The diary says before each change what is intended, and afterwards that it is done. So it is known
of any moment what must be stored, and what may be: the change under way, wholly or not at all.
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


class Diary:
    """Written by the program under torture, durably."""

    def __init__(self, place: str) -> None:
        self._file = os.open(place, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def note(self, **entry: Any) -> None:
        os.write(self._file, (json.dumps(entry) + "\n").encode())
        os.fsync(self._file)

    async def change(self, states: State, action: Callable[[], Awaitable[Any]]) -> Any:
        """Do it, and again while the store is in trouble; ``states`` is what it makes of them."""
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
class Told:
    """What a diary says."""

    must: State = field(default_factory=dict)  # what is acknowledged
    may: State = field(default_factory=dict)  # with the change that was under way
    states: list[State] = field(default_factory=lambda: [{}])  # all that were acknowledged
    runs: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    ended: bool = False


def read(diary: Path | str) -> Told:
    """Take in the diary, up to its last whole line."""
    text = diary.read_text() if isinstance(diary, Path) else diary
    told = Told()
    for line in text.split("\n")[:-1]:
        entry = json.loads(line)
        states = {
            key: (state[0], state[1], state[2]) for key, state in entry.get("states", {}).items()
        }
        if entry["say"] == "intend":
            told.may = {**told.must, **states}
        elif entry["say"] == "done":
            told.must = {**told.must, **states}
            told.may = told.must
            told.states.append(told.must)
            if isinstance(entry["result"], str) and entry["result"].startswith("run_"):
                told.runs.append(entry["result"])
        elif entry["say"] == "refused":
            told.refusals.append(entry["text"])
        elif entry["say"] == "end":
            told.ended = True
    return told


def observed(found: list[Schedule]) -> State:
    """What is stored, as a diary would say it."""
    return {
        schedule.key: (schedule.cron or "every", schedule.input, schedule.status)
        for schedule in found
        if schedule.workflow == "digest"
    }


def normal(state: State) -> State:
    """Without what is deleted: it isn't there."""
    return {key: value for key, value in state.items() if value[2] != "deleted"}


async def play(client: PolosClient, worker: Worker, place: str, size: int) -> None:
    """All changes, then the orderly end."""
    diary = Diary(place)
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
            diary.note(say="refused", text=str(error))
            await asyncio.sleep(0.02)
        else:
            break
    a = await diary.change(
        {"a": (before, 1, "active")},
        lambda: schedules.create(client, "digest", before, key="a", input=1),
    )
    _, c, d = await diary.change(dict.fromkeys("bcd", (before, filler, "active")), many)
    first = await diary.change({}, lambda: invoke(1))
    await diary.change(
        {"a": (after, 2, "active")}, lambda: said(schedules.update(client, a, cron=after, input=2))
    )
    tick = await diary.change(
        {"tick": ("every", None, "active")},
        lambda: schedules.create(client, "digest", every=PERIOD, key="tick"),
    )
    await diary.change(
        {"b": (after, 3, "active")},
        lambda: schedules.create(client, "digest", after, key="b", input=3),
    )
    await diary.change({"c": (before, filler, "paused")}, lambda: said(schedules.pause(client, c)))
    await diary.change({"d": (before, filler, "deleted")}, lambda: delete_once(client, d))
    second = await diary.change({}, lambda: invoke(2))
    await ended(client, first, second)
    await has_run(client, tick)
    await between_slots()
    await diary.change(
        {"tick": ("every", None, "paused")}, lambda: said(schedules.pause(client, tick))
    )
    await worker.close()
    client.close()
    diary.note(say="end")


async def said(change: Awaitable[Any]) -> None:
    """Only that it is done."""
    await change


async def delete_once(client: PolosClient, id: str) -> None:
    """A delete whose answer was lost finds nothing when it is said again."""
    if any(schedule.id == id for schedule in await schedules.list(client)):
        await schedules.delete(client, id)


async def between_slots() -> None:
    """Not while a slot is about to start."""
    await asyncio.sleep((0.1 - time.time()) % 1)


async def asked(question: Callable[[], Awaitable[bool]]) -> None:
    """Ask until it is true, whatever trouble the store is in meanwhile."""
    end = asyncio.get_running_loop().time() + TIMEOUT
    while asyncio.get_running_loop().time() < end:
        try:
            if await question():
                return
        except StoreUnavailableError:
            pass
        await asyncio.sleep(0.01)
    raise TimeoutError("it doesn't come to pass")


async def ended(client: PolosClient, *ids: str) -> None:
    async def are() -> bool:
        return all([(await runs.get(client, id)).status == "succeeded" for id in ids])

    await asked(are)


async def has_run(client: PolosClient, schedule: str) -> None:
    async def has() -> bool:
        done = await runs.list(client, schedule=schedule, status="succeeded", limit=1)
        return bool(done)

    await asked(has)
