"""Which workers the doctor and the dashboard report as silent."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from polos.cli.commands.doctor import _workers
from polos.models import Overview, WorkerInfo

NOW = datetime(2026, 11, 1, 12, tzinfo=timezone.utc)


def worker(name: str, held: int, silence: timedelta) -> WorkerInfo:
    return WorkerInfo(
        id=f"wkr_{name}", app=name, host="h", pid=1, workflows=(), held=held,
        started_at=NOW - timedelta(days=1), seen_at=NOW - silence, is_gone=False, about={},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("held", "has_peer", "silence", "is_named"),
    [
        (1, False, timedelta(seconds=19), False),
        (1, False, timedelta(seconds=21), True),
        (1, True, timedelta(seconds=21), True),
        # An idle worker sends no heartbeat while it is alone, and one a minute beside others.
        (0, False, timedelta(hours=9), False),
        (0, True, timedelta(minutes=3), False),
        (0, True, timedelta(minutes=5), True),
    ],
)
def test_only_a_worker_that_should_have_sent_a_heartbeat_is_called_silent(
    held: int, has_peer: bool, silence: timedelta, is_named: bool
):
    workers = [worker("one", held, silence)]
    if has_peer:
        workers.append(worker("peer", 0, timedelta()))
    view = Overview(now=NOW, schedules={}, runs={}, overdue=0, oldest_due=None, counted_to=100)
    named = [finding for finding in _workers(workers, view) if "was last seen" in finding.text]
    assert bool(named) is is_named
    assert all("one" in finding.text for finding in named)
