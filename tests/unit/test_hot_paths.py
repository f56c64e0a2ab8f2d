"""Bounds, ten times what is measured, on what every run and step pays for."""

from __future__ import annotations

import timeit
from collections.abc import Callable
from typing import Any

import pytest

from polos._codec import decode, encode
from polos.payload import SchedulePayload

SMALL = {"status": "completed", "n": 3, "items": [1, 2, 3]}
STORED = encode(SMALL)
CALLS: list[tuple[str, Callable[[], Any], float]] = [
    ("encode None", lambda: encode(None), 2),
    ("encode a small dict", lambda: encode(SMALL), 30),
    ("decode a small dict", lambda: decode(STORED), 30),
    (
        "a payload",
        lambda: SchedulePayload._from_micros(10**15, None, "Asia/Tokyo", "s", "k", 10**15),
        50,
    ),
]


@pytest.mark.parametrize(("call", "micros"), [c[1:] for c in CALLS], ids=[c[0] for c in CALLS])
def test_a_call_takes_microseconds(call: Callable[[], Any], micros: float) -> None:
    assert min(timeit.repeat(call, number=200, repeat=20)) / 200 * 1e6 < micros
