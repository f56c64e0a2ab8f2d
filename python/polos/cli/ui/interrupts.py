"""Handle Ctrl-C. While the core waits for a database (a lock, a server that does not answer),
Python's own handler would not run until the answer arrives.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["at_once", "with_care"]


@contextmanager
def at_once() -> Iterator[None]:
    """Make Ctrl-C end the process at once, where an interruption does no harm."""
    with _handled_by(signal.SIG_DFL):
        yield


@contextmanager
def with_care() -> Iterator[None]:
    """Make Ctrl-C raise ``KeyboardInterrupt``, where a terminal or a loop needs cleanup."""
    with _handled_by(signal.default_int_handler):
        yield


@contextmanager
def _handled_by(handler: Any) -> Iterator[None]:
    ours = (signal.SIG_DFL, signal.default_int_handler)
    before = signal.getsignal(signal.SIGINT)
    if before not in ours:  # ignored, as in the background of a script, or handled by other code
        yield
        return
    try:
        signal.signal(signal.SIGINT, handler)
    except ValueError:  # not in the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
