"""Changes schedules at random; prints when each change began and ended, and its result."""

from __future__ import annotations

import json
import random
import sys
import time
import warnings
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from polos import PolosClient, Schedule, ScheduleNotFoundError, schedules

OPERATIONS = ("create", "create", "create", "update", "update", "pause", "resume", "delete", "get")


def shape(schedule: Schedule) -> list[Any]:
    """Return two fields that every change sets to one number: the period and the input."""
    seconds = None if schedule.every is None else schedule.every.total_seconds()
    return [seconds, schedule.input]


def changes(
    client: PolosClient, chance: random.Random, seconds: float, keys: list[str]
) -> Iterator[dict[str, Any]]:
    """Make changes for some seconds; yield each."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        operation, key = chance.choice(OPERATIONS), chance.choice(keys)
        number = float(chance.randint(1, 3))
        done: dict[str, Any] = {"op": operation, "key": key, "id": None, "begin": time.time()}
        try:
            change(client, operation, key, number, done)
        except ScheduleNotFoundError:
            pass  # deleted by another thread or process
        except Exception as error:
            done["unexpected"] = f"{type(error).__name__}: {error}"
        done["end"] = time.time()
        yield done


def change(
    client: PolosClient, operation: str, key: str, number: float, done: dict[str, Any]
) -> None:
    every = timedelta(seconds=number)
    if operation == "create":
        done["id"] = schedules.sync.create(client, "digest", every=every, key=key, input=number)
        return
    found = schedules.sync.list(client, key=key)
    if not found:
        return
    id = found[0].id
    if operation == "get":
        done["seen"] = shape(schedules.sync.get(client, id))
    elif operation == "update":
        schedules.sync.update(client, id, every=every, input=number)
    elif operation == "pause":
        schedules.sync.pause(client, id)
    elif operation == "resume":
        schedules.sync.resume(client, id)
    else:
        schedules.sync.delete(client, id)
    done["id"] = id


def main() -> None:
    database, seed, seconds, *keys = sys.argv[1:]
    warnings.simplefilter("ignore")
    with PolosClient(database) as client:
        for done in changes(client, random.Random(int(seed)), float(seconds), keys):
            print(json.dumps(done), flush=True)  # noqa: T201
    print("done", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
