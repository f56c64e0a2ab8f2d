"""Metrics for Prometheus. ``docs/dashboard.md`` describes each of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta

from polos.dashboard.charts import LATENESS_BOUNDS
from polos.dashboard.queries import Reader
from polos.models import WorkerInfo

__all__ = ["metrics"]

Samples = Iterable[tuple[Mapping[str, str], float]]

_SCHEDULES = ("active", "paused", "retired", "finished", "broken")
_RUNS = ("queued", "running", "waiting")


async def metrics(reader: Reader) -> str:
    """Return all metrics in Prometheus' text format."""
    state = await reader.overview()
    workers = await reader.workers()
    late = await reader.late_by()
    overdue_by = timedelta() if state.oldest_due is None else state.now - state.oldest_due
    first_call = state.oldest_hook_call
    hooks_wait = timedelta() if first_call is None else state.now - first_call
    lines = [
        *_gauge("polos_schedules", "Schedules by status, each counted to polos_counted_to.",
                (({"status": name}, state.schedules.get(name, 0)) for name in _SCHEDULES)),
        *_gauge("polos_runs", "Unfinished runs by status, each counted to polos_counted_to.",
                (({"status": name}, state.runs.get(name, 0)) for name in _RUNS)),
        *_gauge("polos_counted_to", "A count of this size means: at least so many.",
                [({}, state.counted_to)]),
        *_gauge("polos_overdue_schedules", "Active schedules whose slot has passed unattended.",
                [({}, state.overdue)]),
        *_gauge("polos_overdue_seconds", "How long ago the earliest such slot was; 0 if none.",
                [({}, max(0.0, overdue_by.total_seconds()))]),
        *_gauge("polos_waiting_hook_calls", "Due hook calls that no live worker is making.",
                (({"workflow": name}, count) for name, count in state.hook_calls.items())),
        *_gauge("polos_waiting_hook_calls_seconds", "How long the first has waited; 0 if none.",
                [({}, max(0.0, hooks_wait.total_seconds()))]),
        *_gauge("polos_workers", "Registered workers.", [({}, len(workers))]),
        *_gauge("polos_worker_runs", "Runs that a worker holds.",
                ((_worker(worker), worker.held) for worker in workers)),
        *_gauge("polos_worker_silence_seconds", "Seconds since a worker's last heartbeat.",
                ((_worker(worker), max(0.0, (state.now - worker.seen_at).total_seconds()))
                 for worker in workers)),
        *_lateness(late),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _worker(worker: WorkerInfo) -> dict[str, str]:
    host = str(worker.about.get("host") or worker.host)
    return {"app": worker.app, "host": host, "id": worker.id}


def _lateness(late: list[timedelta]) -> list[str]:
    """Return a histogram of a moving window. It uses gauges, because its counts can decrease."""
    name = "polos_recent_run_lateness_seconds"
    seconds = [span.total_seconds() for span in late]
    buckets = [
        ({"le": f"{bound:g}"}, float(sum(value <= bound for value in seconds)))
        for bound in LATENESS_BOUNDS
    ]
    return [
        *_gauge(f"{name}_bucket", "Recent scheduled runs that began at most le seconds late.",
                [*buckets, ({"le": "+Inf"}, float(len(seconds)))]),
        *_gauge(f"{name}_sum", "Lateness of these runs together.", [({}, sum(seconds))]),
        *_gauge(f"{name}_count", "How many these runs are.", [({}, len(seconds))]),
    ]  # fmt: skip


def _gauge(name: str, help: str, samples: Samples) -> list[str]:
    lines = [f"# HELP {name} {help}", f"# TYPE {name} gauge"]
    for labels, value in samples:
        inner = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels.items())
        lines.append(f"{name}{{{inner}}} {value:.10g}" if inner else f"{name} {value:.10g}")
    return lines


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
