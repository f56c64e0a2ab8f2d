"""The output streams of commands."""

from __future__ import annotations

import io
from contextlib import redirect_stderr

import pytest

from polos.cli.ui.console import fail, say


class Recorder(io.StringIO):
    """A stream that remembers what each write contained."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[str] = []

    def write(self, text: str) -> int:
        self.writes.append(text)
        return super().write(text)


def test_a_line_and_its_end_are_one_write_so_that_processes_can_share_the_stream() -> None:
    with redirect_stderr(Recorder()) as stream:
        say("[1] stopped")
    assert stream.writes == ["[1] stopped\n"]


def test_an_error_is_one_write_too() -> None:
    with redirect_stderr(Recorder()) as stream, pytest.raises(SystemExit):
        fail("no such file")
    assert stream.writes == ["polos: no such file\n"]


def test_a_closed_stream_is_no_error() -> None:
    with redirect_stderr(Recorder()) as stream:
        stream.close()
        say("[1] stopped")
