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
    """Return what a run that is due waits for under its limit; ``None`` if no limit holds it back.

    :param known: the limit of the run, with the use of the run's key (``limits._of_run``).
    """
    is_due = (
        run.status == "queued"
        if run.due_at is None
        else run.status in ("queued", "waiting") and run.due_at <= now
    )
    for limit in known:
        if not is_due or run.workflow not in limit.workflows:
            continue
        name = f"under the limit `{limit.name}` ({described_values(limit)})"
        use = f"{limit.running:,} in progress, {limit.queued:,} queued"
        if limit.max is not None and limit.running >= limit.max:
            return f"room {name}: {use}"
        of_key = limit.running_of_key
        if limit.per_key is not None and of_key is not None and of_key >= limit.per_key:
            return f"room for its key {name}: {of_key:,} with key `{run.key}` in progress; {use}"
        if limit.starts_left == 0:
            at = limit.next_start_at
            seconds = 0.0 if at is None else max((at - now).total_seconds(), 0.0)
            left = "" if at is None else f", the next one comes in {seconds:,.0f} s"
            return f"a start {name}: none is left in this period{left}; {use}"
    return None
