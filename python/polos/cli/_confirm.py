"""Questions before what can't be undone."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from polos.cli._say import TYPED_WRONG, fail, plain, say

__all__ = ["Yes", "confirmed"]

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")]


def confirmed(question: str, yes: bool) -> None:
    """Go on, or end the command. Where there is nobody to ask, nothing is done."""
    if yes:
        return
    if not sys.stdin.isatty():
        fail(f"{question} There is nobody to ask: give --yes", TYPED_WRONG)
    if not typer.confirm(plain(question), err=True):
        say("nothing was done")
        raise typer.Exit(1)
