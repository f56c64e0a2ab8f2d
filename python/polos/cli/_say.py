"""What is said, where to, and with which exit code a command ends.

Results go to stdout, everything said about them to stderr. Nothing that comes from a database
reaches a terminal as it is: control characters in it are shown, not obeyed.
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
    """Have text that the terminal's encoding doesn't know escaped, rather than end the command."""
    for stream in (sys.stdout, sys.stderr):
        if (reconfigure := getattr(stream, "reconfigure", None)) is not None:
            reconfigure(errors="backslashreplace")


def say(text: str) -> None:
    """To stderr: stdout belongs to results, and to handlers. Where nobody reads it any more, that
    is no reason not to work.
    """
    with suppress(OSError, ValueError):
        print(text, file=sys.stderr, flush=True)  # noqa: T201


def fail(reason: object, code: int = HAPPENED) -> NoReturn:
    """One line on stderr, and out."""
    say(f"polos: {plain(' '.join(str(reason).split()))}")
    sys.exit(code)


def out(text: str) -> None:
    """A line of the result. Ends the command, quietly, when nobody reads on (``| head``)."""
    try:
        print(text)  # noqa: T201
    except BrokenPipeError:
        close_pipe()


def out_json(value: Any) -> None:
    """An object of the result, on a line of its own."""
    out(json.dumps(value, ensure_ascii=False))


def finish() -> None:
    """Write what is buffered."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        close_pipe()


def close_pipe() -> NoReturn:
    """End, quietly, because nobody reads stdout any more."""
    # Python flushes stdout once more when it ends, and would complain about it.
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(_PIPE_CLOSED)


def plain(text: str) -> str:
    """``text`` on one line, with control characters and the like escaped."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )


def is_terminal() -> bool:
    """Whether a person looks at stdout."""
    with suppress(OSError, ValueError, AttributeError):
        return sys.stdout.isatty()
    return False


def has_colour() -> bool:
    """Whether stdout is to be coloured: https://no-color.org, and on request also into pipes."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return is_terminal() and os.environ.get("TERM") != "dumb"


def styled(text: str, style: str | None) -> str:
    """``text`` in a colour or weight, where there are colours."""
    if not style or not text or not has_colour():
        return text
    codes = ";".join(_STYLES[name] for name in style.split())
    return f"\x1b[{codes}m{text}\x1b[0m"


def width() -> int | None:
    """How many columns there are; ``None`` where lines may be as long as they are."""
    if not is_terminal():
        return None
    import shutil

    return max(20, shutil.get_terminal_size().columns)
