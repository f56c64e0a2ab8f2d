"""Say which limit a run waits for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from polos._validate.limits import described

if TYPE_CHECKING:
    from datetime import datetime

    from polos.models import LimitInfo, Run

__all__ = ["described_values", "limit_wait", "override_text"]


def described_values(limit: LimitInfo) -> str:
    """Return the values in effect, such as ``20 at once, 1 per key``."""
    return described((name, getattr(limit, name)) for name in ("max", "per_key", "rate", "per"))


def override_text(limit: LimitInfo) -> str:
    """Say that an operator set values of a limit, and which, unless these are all of them."""
    set_values = described(limit.set_values.items())
    if set_values == described_values(limit):
        return "set by an operator"
    return f"set by an operator: {set_values}"


def limit_wait(run: Run, known: Iterable[LimitInfo], now: datetime) -> str | None:
    """Return what a due run may wait for, as text; ``None`` if no limit holds it back."""
    if run.status != "queued" or (run.due_at is not None and run.due_at > now):
        return None
    for limit in known:
        is_full = limit.max is not None and limit.running >= limit.max
        may_hold = is_full or limit.per_key is not None or limit.rate is not None
        if run.workflow in limit.workflows and may_hold:
            return (
                f"room under the limit `{limit.name}` ({described_values(limit)}): "
                f"{limit.running:,} in progress, {limit.queued:,} queued"
            )
    return None
