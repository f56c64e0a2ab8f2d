"""``polos version``."""

from __future__ import annotations

from polos._polos import __version__
from polos.cli.ui.console import out

__all__ = ["version"]


def version() -> None:
    """Print the version."""
    out(f"polos {__version__}")
