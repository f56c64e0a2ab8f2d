"""The banner of a worker."""

from __future__ import annotations

import io
import logging
import sys

import pytest

import polos
from polos import PolosClient, Worker, workflow


class Terminal(io.StringIO):
    """A stream that claims to be a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("is_terminal", [True, False])
async def test_a_terminal_shows_that_the_worker_has_started(
    client: PolosClient, monkeypatch: pytest.MonkeyPatch, is_terminal: bool
) -> None:
    @workflow(id="light")
    async def light() -> None: ...

    stream = Terminal() if is_terminal else io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    async with Worker(client, app="shop"):
        pass
    async with polos.lifespan(client, app="shop")(None):
        pass
    lines = stream.getvalue().splitlines()
    assert len(lines) == (2 if is_terminal else 0)
    for line in lines:
        assert line.startswith(f"polos {polos.__version__}: worker of `shop` started: database `")
        assert "1 workflow: `light`" in line


async def test_an_application_that_shows_the_log_line_gets_no_banner(
    client: PolosClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    @workflow(id="light")
    async def light() -> None: ...

    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    with caplog.at_level(logging.INFO, "polos.worker"):
        async with Worker(client, app="shop"):
            pass
    assert stream.getvalue() == ""
    assert [r.getMessage() for r in caplog.records if "started:" in r.getMessage()]
