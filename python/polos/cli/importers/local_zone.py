"""Find the time zone of this machine, which cron uses."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from zoneinfo import ZoneInfo

__all__ = ["local_zone"]


def local_zone(root: Path = Path("/etc")) -> str | None:
    """Return the IANA name of the machine's zone, or ``None`` if it does not say."""
    candidates = [os.environ.get("TZ", "").removeprefix(":")]
    with suppress(OSError, UnicodeDecodeError):
        candidates.append((root / "timezone").read_text(encoding="utf-8").strip())
    with suppress(OSError):
        candidates.append(os.readlink(root / "localtime").partition("zoneinfo/")[2])
    return next(filter(_is_zone, candidates), None)


def _is_zone(name: str) -> bool:
    try:
        return bool(name) and ZoneInfo(name).key == name
    except (ValueError, OSError, LookupError):
        return False
