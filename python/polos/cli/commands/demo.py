"""``polos demo``."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from polos.cli.ui.console import fail

__all__ = ["demo"]


def demo(
    seconds: Annotated[
        int,
        typer.Option(metavar="N", min=15, max=55, help="End after about this long at most."),
    ] = 55,
) -> None:
    """Demonstrate polos in less than a minute."""
    from polos import demo

    try:
        sys.exit(demo.main(seconds))
    except OSError as error:
        fail(f"the demo needs a temporary folder and a second process: {error}")
