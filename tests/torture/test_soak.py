"""The soak's verdict: which quantities are flat, and which grow."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest


@pytest.fixture(scope="module")
def soak(load_module: Any) -> Any:
    """The program, as a module."""
    return load_module(Path(__file__).with_name("soak.py"))


def samples(soak: Any, *growths: float, seconds: int = 900) -> list[Any]:
    """One sample a second; each quantity grows by its amount in total, with some noise."""
    return [
        soak.Sample(
            float(at),
            at * 1_000,
            tuple(50.0 + growth * at / seconds + (at % 7) / 7 for growth in growths),
        )
        for at in range(seconds + 1)
    ]


def test_what_goes_up_and_down_is_flat(soak: Any) -> None:
    assert all(fit.is_flat for fit in soak.verdict(samples(soak, 0, 0, 0, 0)))


@pytest.mark.parametrize("number", range(4))
def test_what_grows_beyond_its_bound_is_found(soak: Any, number: int) -> None:
    growths = [0.0] * len(soak.QUANTITIES)
    growths[number] = soak.QUANTITIES[number].bound * 2
    found = [fit.quantity.name for fit in soak.verdict(samples(soak, *growths)) if not fit.is_flat]
    assert found == [soak.QUANTITIES[number].name]


def test_the_warm_up_does_not_count(soak: Any) -> None:
    steady = samples(soak, 0, 0, 0, 0)
    warm = [
        soak.Sample(
            sample.at, sample.runs, tuple(value * sample.at / 180 for value in sample.values)
        )
        for sample in steady[:180]
    ]
    assert all(fit.is_flat for fit in soak.verdict([*warm, *steady[180:]]))


def test_the_plot_is_sound(soak: Any) -> None:
    given = samples(soak, 0, 8, 0, 40)
    drawn = ElementTree.fromstring(soak.plot(given, soak.verdict(given), "a soak"))
    assert drawn.tag.endswith("svg")
    assert len(drawn.findall("{*}polyline")) == len(soak.QUANTITIES)
