"""Show a progress bar if stderr is a terminal, and nothing otherwise."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Protocol

from polos.cli.ui.interrupts import with_care

__all__ = ["advancing"]

# Fewer items are done before anyone could read a bar.
_FEW = 20


class Advance(Protocol):
    """Reports that ``count`` more items are done."""

    def __call__(self, count: int = 1) -> None: ...


@contextmanager
def advancing(what: str, total: int | None) -> Iterator[Advance]:
    """Yield ``advance(count)``, which moves the bar; ``total`` may be unknown."""
    is_seen = False
    with suppress(OSError, ValueError, AttributeError):
        is_seen = sys.stderr.isatty()
    if not is_seen or (total is not None and total < _FEW):
        yield lambda count=1: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    with with_care(), bar:
        task = bar.add_task(what, total=total)
        yield lambda count=1: bar.advance(task, count)
