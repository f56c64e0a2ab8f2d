"""Sends events and debounced calls: ``event_sender.py DATABASE ORACLE SEED COUNT events|calls``.

Lines of the oracle, written once the database has answered: ``accepted RUN EVENT VALUE`` or
``refused RUN EVENT VALUE``; ``called RUN KEY NUMBER``.
"""

from __future__ import annotations

import random
import sys
import time
from datetime import timedelta

from oracle import Oracle

from polos import Debounce, InvalidStateError, PolosClient, runs

DATABASE, PATH = sys.argv[1], sys.argv[2]
SOURCE, COUNT, PART = random.Random(int(sys.argv[3])), int(sys.argv[4]), sys.argv[5]
ORACLE = Oracle(PATH)

NAMES = ["first", "second", "third"]
KEYS = ["u7", "u8", "u9"]


def send(client: PolosClient, run: str, name: str, value: str) -> None:
    """Send an event, and sometimes repeat it as if its answer had been lost."""
    for _ in range(SOURCE.choice([1, 1, 2])):
        try:
            is_accepted = runs.sync.send(client, run, name, value, idempotency_key=value)
        except InvalidStateError:  # the run has finished
            is_accepted = False
        ORACLE.write("accepted" if is_accepted else "refused", run, name, value)


def send_events(client: PolosClient) -> None:
    """Send each event twice with different values.

    They come in any order, some before their wait. Some runs never get one of their events.
    """
    for number in range(COUNT):
        left_out = SOURCE.choice([*NAMES, None])
        timeout = SOURCE.choice([0.1, 0.3]) if left_out else 30
        run = runs.sync.invoke(client, "wait", {"names": NAMES, "timeout": timeout}).id
        names = [name for name in NAMES * 2 if name != left_out]
        SOURCE.shuffle(names)
        for place, name in enumerate(names):
            time.sleep(SOURCE.choice([0.02, 0.05, 0.3]))
            send(client, run, name, f"{number}-{place}")


def call(client: PolosClient) -> None:
    """Make calls in quick succession, some at the moment of the claim."""
    for number in range(COUNT):
        key = SOURCE.choice(KEYS)
        debounce = Debounce(key, delay=timedelta(milliseconds=30), at_most=timedelta(seconds=1))
        payload = {"key": key, "number": number}
        run = runs.sync.invoke(client, "index", payload, debounce=debounce).id
        ORACLE.write("called", run, key, number)
        time.sleep(SOURCE.uniform(0, 0.04))


with PolosClient(DATABASE) as client:
    (send_events if PART == "events" else call)(client)
