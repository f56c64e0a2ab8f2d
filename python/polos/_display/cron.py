"""Cron expressions for people."""

from __future__ import annotations

__all__ = ["cron_text"]


def cron_text(cron: str | tuple[str, ...]) -> str:
    """Return the expressions of a schedule on one line: ``0 9 * * 1-5; 0 11 * * 6``."""
    return cron if isinstance(cron, str) else "; ".join(cron)
