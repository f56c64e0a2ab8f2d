"""Output and exit codes of commands.

Results go to stdout, all remarks to stderr. Text from a database is never written to a terminal
unescaped: control characters are shown, not executed.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from contextlib import suppress
from typing import Any, NoReturn

__all__ = [
    "HAPPENED",
    "NOT_FOUND",
    "TYPED_WRONG",
    "abandon",
    "close_pipe",
    "fail",
    "finish",
    "has_colour",
    "is_terminal",
    "out",
    "out_json",
    "plain",
    "prepare",
    "say",
    "styled",
    "width",
]

HAPPENED = 1
"""What was asked for is known, and has not worked out."""

TYPED_WRONG = 2
"""A command, option or value that can't be meant."""

NOT_FOUND = 3
"""A database, schedule, run or workflow that isn't there."""

_PIPE_CLOSED = 128 + getattr(signal, "SIGPIPE", 13)

_STYLES = {
    "bold": "1",
    "dim": "2",
    "red": "31",
    "green": "32",
    "yellow": "33",
    "blue": "34",
    "cyan": "36",
}


def prepare() -> None:
    """Escape characters that the terminal's encoding does not support, and write nothing to closed
    streams.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if (reconfigure := getattr(stream, "reconfigure", None)) is not None:
            reconfigure(errors="backslashreplace")


def say(text: str) -> None:
    """Write to stderr; stdout is for results and handlers. A closed stderr is not an error."""
    with suppress(OSError, ValueError):
        # The line with its end, at once: several processes may share the stream.
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()


def fail(reason: object, code: int = HAPPENED) -> NoReturn:
    """Print one line on stderr and exit."""
    say(f"polos: {plain(' '.join(str(reason).split()))}")
    sys.exit(code)


def out(text: str) -> None:
    """Print a line of the result. Exit quietly if the reader has closed the pipe (``| head``)."""
    try:
        print(text)  # noqa: T201
    except BrokenPipeError:
        close_pipe()


def out_json(value: Any) -> None:
    """Print an object of the result on a separate line."""
    out(json.dumps(value, ensure_ascii=False))


def finish() -> None:
    """Flush the buffered output."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        close_pipe()


def close_pipe() -> NoReturn:
    """Exit quietly because the reader has closed the pipe."""
    abandon()
    sys.exit(_PIPE_CLOSED)


def abandon() -> None:
    """Abandon stdout. Python flushes it once more at exit, and would print an error."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def plain(text: str) -> str:
    """Return ``text`` on one line, with control characters and similar ones escaped."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )


def is_terminal() -> bool:
    """Whether stdout is a terminal."""
    with suppress(OSError, ValueError, AttributeError):
        return sys.stdout.isatty()
    return False


def has_colour() -> bool:
    """Whether to color stdout: https://no-color.org, and on request also in pipes."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return is_terminal() and os.environ.get("TERM") != "dumb"


def styled(text: str, style: str | None) -> str:
    """Return ``text`` in a color or weight, if colors are on."""
    if not style or not text or not has_colour():
        return text
    codes = ";".join(_STYLES[name] for name in style.split())
    return f"\x1b[{codes}m{text}\x1b[0m"


def width() -> int | None:
    """Return the number of columns; ``None`` if lines can have any length."""
    if not is_terminal():
        return None
    import shutil

    return max(20, shutil.get_terminal_size().columns)
