"""The worker of `polos run`: it prints what it executes, and confirms signals."""

from __future__ import annotations

from typing import Any

import polos
from polos import schedules
from polos._display.cron import cron_text
from polos.cli.children import Supervised
from polos.cli.ui.console import say
from polos.cli.ui.times import spoken, when
from polos.client import PolosClient
from polos.models import Schedule
from polos.worker import Worker
from polos.workflow import Workflow, registry

__all__ = ["TalkingWorker"]


class TalkingWorker(Worker):
    """A worker that prints what it executes, and confirms signals.

    Of several workers of one supervisor, only the first one prints what they execute.
    """

    def __init__(self, client: PolosClient, supervisor: Supervised, **options: Any) -> None:
        super().__init__(client, **options)
        self.was_stopped = False
        self._has_banner = True
        self._supervisor = supervisor
        self._timeout = options["drain"]

    async def start(self) -> None:
        """Start, and list the workflows with their next slots."""
        await super().start()
        if self.was_stopped:
            return
        self._supervisor.ready()
        if self.health_address is not None:
            say(f"{self._supervisor.prefix}probes: http://{self.health_address}/livez and /readyz")
        if self._supervisor.number not in (None, 1):
            return
        say(
            f"polos {polos.__version__}, app {self.app}, database {self.client.database}, "
            f"project {self.client.project_id}"
        )
        for line in await _listing(self.client, self.app):
            say(f"  {line}")
        if self._supervisor.number is None:
            say("running; stop with Ctrl-C or SIGTERM")

    def stop(self) -> None:
        """Stop, and say what is still in progress."""
        count = 0 if self._executor is None else len(self._executor.active)
        runs = "1 run" if count == 1 else f"{count} runs"
        prefix = self._supervisor.prefix
        if self.was_stopped:
            say(f"{prefix}stopping at once; unfinished runs continue at the next start")
        elif count:
            say(
                f"{prefix}stopping: {runs} in progress, up to {self._timeout:g} s to finish; "
                f"signal again to stop at once"
            )
        else:
            say(f"{prefix}stopping: no run is in progress")
        self.was_stopped = True
        super().stop()


async def _listing(client: PolosClient, owner: str) -> list[str]:
    """Return a line for each workflow: its id, its trigger, its next slot."""
    ours = {
        (found.workflow, found.key): found for found in await schedules.list(client, owner=owner)
    }
    rows = []
    for workflow in registry().values():
        if workflow.schedule is None:
            rows.append((workflow.id, "started by the application", ""))
        elif workflow.schedule is True:
            rows.append((workflow.id, await _made_by_api(client, workflow), ""))
        else:
            found = ours.pop((workflow.id, workflow.schedule.spec["key"]), None)
            rows.append((workflow.id, *(_cadence(found) if found else ("declared", ""))))
    rows += [
        (found.workflow, "retired: the code no longer declares it", "")
        for found in ours.values()
        if found.status == "retired"
    ]
    widths = [max((len(row[column]) for row in rows), default=0) for column in (0, 1)]
    return [f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c}".rstrip() for a, b, c in rows]


async def _made_by_api(client: PolosClient, workflow: Workflow[Any, Any]) -> str:
    most = 1_000
    count = len(await schedules.list(client, workflow=workflow, limit=most + 1))
    if count > most:
        return f"more than {most:,} schedules created through the API"
    noun = "schedule" if count == 1 else "schedules"
    return f"{count or 'no'} {noun} created through the API"


def _cadence(schedule: Schedule) -> tuple[str, str]:
    if schedule.cron is not None:
        cadence = f"{cron_text(schedule.cron)}  {schedule.timezone}"
    elif schedule.every is not None:
        cadence = f"every {spoken(schedule.every)}"
    else:
        cadence = f"at {when(schedule.at)}"
    if schedule.status != "active":
        return cadence, f"{schedule.status}{f': {schedule.note}' if schedule.note else ''}"
    return cadence, f"next {when(schedule.upcoming)}" if schedule.upcoming else ""
