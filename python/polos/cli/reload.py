"""Watch the application's Python files for `--reload`."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path

from polos.cli.ui.console import fail

__all__ = ["changes"]


def changes(target: str, interval_ms: int) -> Iterator[str]:
    """Yield the names of changed Python files, or nothing after each interval without a change."""
    if importlib.util.find_spec("watchfiles") is None:
        fail("reloading when files change needs watchfiles: pip install 'polos[dev]'")
    return _watch(target, interval_ms)


def _watch(target: str, interval_ms: int) -> Iterator[str]:
    import watchfiles

    here, folders = Path.cwd(), [Path.cwd()]
    if os.path.isfile(target):
        theirs = Path(target).resolve().parent
        if not theirs.is_relative_to(here):
            folders.append(theirs)
    watch = watchfiles.watch(
        *folders,
        watch_filter=watchfiles.PythonFilter(),
        rust_timeout=interval_ms,
        yield_on_timeout=True,
        raise_interrupt=False,
    )
    for changed in watch:
        names = sorted({os.path.relpath(path) for _, path in changed})
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        yield ", ".join(names[:3]) + more
