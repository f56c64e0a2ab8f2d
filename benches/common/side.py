"""Shared by all measured programs: options, and one line of JSON at the end.

Standard library only, for any environment. Options are ``--name value``, with the types of
their defaults. ``--folder`` is an empty folder on the measured disk, for databases.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any


def options(**defaults: Any) -> SimpleNamespace:
    """Parse the options for which there are defaults."""
    parser = argparse.ArgumentParser()
    for name, default in {"folder": ".", **defaults}.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default)
    return SimpleNamespace(**vars(parser.parse_args()))


def database(options: SimpleNamespace) -> Any:
    """Return the database of polos: the server of ``--url``, or a file."""
    return getattr(options, "url", "") or Path(options.folder) / "polos.db"


def report(**figures: Any) -> None:
    """Print what was measured."""
    print(json.dumps(figures), flush=True)


def whole_second(lead: float) -> float:
    """Return the first whole second at least ``lead`` seconds ahead."""
    return float(int(time.time() + lead) + 1)


def next_due(lead: float, trigger: str) -> float:
    """Return when a herd is due: a whole second, or a whole minute for ``trigger="cron"``."""
    second = whole_second(lead)
    return second if trigger == "every" else -(-second // 60) * 60


def aware(instant: float) -> datetime:
    """Convert a Unix time to a datetime in UTC."""
    return datetime.fromtimestamp(instant, timezone.utc)


def due_in_time(due: float) -> None:
    """Exit with an error if ``due`` has passed during the preparation."""
    late = time.time() - due
    if late > 0:
        raise SystemExit(f"prepared {late:.1f} s too late; give a longer --lead")


def herd(due: float, starts: list[float], count: int) -> None:
    """Report when the handlers of a herd were started, in milliseconds after the due time."""
    first = (min(starts) - due) * 1e3 if starts else None
    last = (max(starts) - due) * 1e3 if len(starts) == count else None
    early = sum(start < due for start in starts)
    report(first_ms=first, last_ms=last, started=len(starts), early=early)


def rate(count: int, seconds: float) -> float:
    """Return the rate per second."""
    return count / seconds


def memory_mb() -> float:
    """Return the resident memory of this process."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def thread_count() -> int:
    """Count the threads of this process, including native ones."""
    return len(os.listdir("/proc/self/task"))


def processor_seconds() -> float:
    """Return the CPU time of all threads of this process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def since_start() -> float:
    """Return the seconds since this process was started, including interpreter and imports."""
    return time.time() - float(os.environ["BENCH_STARTED"])


def yearly(number: int) -> tuple[int, int, int, int]:
    """Return minute, hour, day, and month of a yearly time that is far from now.

    For schedules that are stored but not due during the measurement.
    """
    ahead = datetime.now(timezone.utc) + timedelta(days=30)
    then = ahead + timedelta(minutes=number % 400_000)
    return then.minute, then.hour, min(then.day, 28), then.month
