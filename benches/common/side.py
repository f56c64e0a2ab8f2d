"""What every measured program shares: its options, and one line of JSON at its end.

Standard library only, for any environment. Options are ``--name value``; their types are those of
the defaults. ``--folder`` is where databases go, an empty folder on the disk that is measured.
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
    """The command line's options, among those that have a default."""
    parser = argparse.ArgumentParser()
    for name, default in {"folder": ".", **defaults}.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default)
    return SimpleNamespace(**vars(parser.parse_args()))


def database(options: SimpleNamespace) -> Any:
    """Where polos keeps its tables: on the server that ``--url`` names, else in a file."""
    return getattr(options, "url", "") or Path(options.folder) / "polos.db"


def report(**figures: Any) -> None:
    """Print what was measured."""
    print(json.dumps(figures), flush=True)


def whole_second(lead: float) -> float:
    """The first whole second that is at least ``lead`` seconds ahead."""
    return float(int(time.time() + lead) + 1)


def next_due(lead: float, trigger: str) -> float:
    """When a herd is due: on a whole second, or with ``trigger="cron"`` on a whole minute."""
    second = whole_second(lead)
    return second if trigger == "every" else -(-second // 60) * 60


def aware(instant: float) -> datetime:
    """``instant``, a Unix time, as a datetime in UTC."""
    return datetime.fromtimestamp(instant, timezone.utc)


def due_in_time(due: float) -> None:
    """Fail if the preparation took so long that ``due`` has passed: nothing could be measured."""
    late = time.time() - due
    if late > 0:
        raise SystemExit(f"prepared {late:.1f} s too late; give a longer --lead")


def herd(due: float, starts: list[float], count: int) -> None:
    """Report when the handlers of a herd were started, in milliseconds after it was due."""
    first = (min(starts) - due) * 1e3 if starts else None
    last = (max(starts) - due) * 1e3 if len(starts) == count else None
    early = sum(start < due for start in starts)
    report(first_ms=first, last_ms=last, started=len(starts), early=early)


def rate(count: int, seconds: float) -> float:
    """So many a second."""
    return count / seconds


def memory_mb() -> float:
    """What this process holds in memory now."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def thread_count() -> int:
    """Threads of this process, whatever language started them."""
    return len(os.listdir("/proc/self/task"))


def processor_seconds() -> float:
    """Time on a processor that this process has used, all threads."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def since_start() -> float:
    """Seconds since whoever started this process decided to, interpreter and imports included."""
    return time.time() - float(os.environ["BENCH_STARTED"])


def yearly(number: int) -> tuple[int, int, int, int]:
    """Minute, hour, day and month of a yearly time, far from now: for schedules that are stored and
    not due while anything is measured.
    """
    ahead = datetime.now(timezone.utc) + timedelta(days=30)
    then = ahead + timedelta(minutes=number % 400_000)
    return then.minute, then.hour, min(then.day, 28), then.month
