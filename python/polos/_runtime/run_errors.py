"""Errors for code that uses a run which no longer executes here."""

from __future__ import annotations

from polos.exceptions import InvalidStateError, LeaseLostError

__all__ = ["lease_lost", "run_ended"]


def lease_lost(run_id: str) -> LeaseLostError:
    """Return the error for a handler whose claim is no longer valid."""
    return LeaseLostError(
        f"run `{run_id}` is now claimed by another worker; nothing that this handler does is "
        f"recorded any more"
    )


def run_ended(run_id: str, attempt: int, outcome: str | None) -> InvalidStateError:
    """Return the error for code that uses ``ctx`` after the handler's end."""
    return InvalidStateError(
        f"run `{run_id}` has ended (attempt {attempt} {outcome}): its handler has returned or "
        f"raised, so no step is executed or recorded any more; await every task and thread that "
        f"uses `ctx` before the handler returns"
    )
