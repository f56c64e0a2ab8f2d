"""Ask for confirmation before an irreversible change."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from polos.cli.ui.console import TYPED_WRONG, fail, plain, say

__all__ = ["Yes", "confirmed"]

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]


def confirmed(question: str, yes: bool) -> None:
    """Continue, or end the command. Without a terminal to ask on, nothing is changed."""
    if yes:
        return
    if not sys.stdin.isatty():
        fail(f"{question} No terminal to ask on: pass --yes", TYPED_WRONG)
    if not typer.confirm(plain(question), err=True):
        say("nothing was done")
        raise typer.Exit(1)
