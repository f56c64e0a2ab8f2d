"""One value per event loop."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref

from polos._core.per_loop import PerLoop


class Value:
    """What a loop gets."""


def test_each_loop_has_its_own_value_also_when_they_alternate() -> None:
    values = PerLoop(lambda _: Value())
    first, second = asyncio.new_event_loop(), asyncio.new_event_loop()
    try:
        of_first, of_second = values.of(first), values.of(second)
        assert of_first is not of_second
        assert [values.of(first), values.of(second)] == [of_first, of_second]
        found: list[Value] = []
        thread = threading.Thread(target=lambda: found.append(values.of(first)))
        thread.start()
        thread.join()
        assert found == [of_first]
    finally:
        first.close()
        second.close()


def test_neither_the_loop_nor_its_value_outlives_the_loop() -> None:
    values = PerLoop(lambda _: Value())
    loop = asyncio.new_event_loop()
    value, of_loop = weakref.ref(values.of(loop)), weakref.ref(loop)
    loop.close()
    del loop
    gc.collect()
    assert (of_loop(), value(), values.items()) == (None, None, [])


def test_a_forgotten_value_is_made_anew() -> None:
    values = PerLoop(lambda _: Value())
    loop = asyncio.new_event_loop()
    try:
        former = weakref.ref(values.of(loop))
        values.forget(loop)
        gc.collect()
        assert former() is None
        assert isinstance(values.of(loop), Value)
    finally:
        loop.close()
