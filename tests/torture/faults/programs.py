"""Several independent programs on one database."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec

from programs import Command

from harness import APPS, PYTHONPATH, SECOND, Bench, NotRunError, WorkerProcess, now, until
from polos import Schedule, schedules

SERVICES = ("billing", "mailing")
COUNT = 3
LEASE = 2.0
WAYS = ("script", "uvicorn", "polos run")

# Long enough for the start of a worker on a busy machine.
BACK = 30.0


class Service:
    """A program with its own schedules, in its own folder."""

    def __init__(self, bench: Bench, name: str) -> None:
        self.bench = bench
        self.name = name
        self.folder = bench.folder / name
        self.folder.mkdir()
        shutil.copy(APPS / "service.py", self.folder / "main.py")
        self.worker: WorkerProcess | None = None
        self.way = ""

    def start(self, way: str, count: int = COUNT) -> None:
        """Start it, and wait until its schedules tick.

        :param count: the number of schedules of this version.
        """
        since = time.time()
        self.way = way
        self.worker = self.process(way, [1] * count)
        silent = [n for n in range(count) if not self._ticks(n, since)]
        output = self.worker.errors.read_text()[-2000:]
        self.bench.verdict.expect(
            "I7", not silent, f"{self.name} {silent} have no new slot: {output}"
        )

    def stop(self) -> None:
        """Terminate it."""
        assert self.worker is not None
        # After SIGTERM, Uvicorn ends by that signal; after SIGINT, it returns 0.
        self.worker.signal(signal.SIGINT if self.way == "uvicorn" else signal.SIGTERM)
        self.worker.ends(0)

    def start_selection(self, count: int) -> WorkerProcess:
        """Start another worker that executes only some of its workflows."""
        return self.process("script", [1] * COUNT, SELECTED=str(count))

    def process(self, way: str, periods: Sequence[int], **more: str) -> WorkerProcess:
        """Start a process of the program.

        :param periods: seconds between the slots of each schedule that it declares.
        :param more: environment variables.
        """
        commands = {
            "script": ["main.py"],
            "uvicorn": ["-m", "uvicorn", "main:app", "--uds", f"{self.name}.sock"],
            "polos run": ["-m", "polos", "run", "main.py", "--drain", "2"],
        }
        environment = {
            "PYTHONPATH": PYTHONPATH,
            "POLOS_DATABASE_URL": str(self.bench.database),
            "ORACLE": str(self.bench.oracle),
            "SERVICE": self.name,
            "PERIODS": " ".join(map(str, periods)),
            "FRAMEWORK": way,
            **more,
        }
        command = ["env", "-C", str(self.folder), sys.executable, *commands[way]]
        return Command(self.bench, *command, env=environment)

    def schedule(self, number: int) -> Schedule | None:
        found = schedules.sync.list(self.bench.client, workflow=f"{self.name}-{number}")
        return found[0] if found else None

    def _ticks(self, number: int, since: float) -> bool:
        def has_ticked() -> bool:
            found = self.schedule(number)
            last = None if found is None else self.bench.last_slot(found.id)
            return last is not None and last.timestamp() > since

        return bool(until(has_ticked, BACK))


def require_services() -> None:
    """Raise ``NotRunError`` if services can't be started here."""
    if os.name != "posix" or shutil.which("env") is None:
        raise NotRunError("it needs the command `env`")
    if missing := [name for name in ("fastapi", "uvicorn") if find_spec(name) is None]:
        raise NotRunError(f"not installed: {', '.join(missing)}")


def f70(bench: Bench) -> None:
    """Two independent programs are killed, redeployed, and started in other ways."""
    require_services()
    bench.ticks = 0
    services = [Service(bench, name) for name in SERVICES]
    for service in services:
        service.start(bench.random.choice(WAYS))
    for number in range(bench.times(40, 4)):
        service = services[number % 2]
        assert service.worker is not None
        if bench.random.random() < 0.5:
            service.worker.kill()
        else:
            service.stop()
        time.sleep(bench.random.choice([0.0, 1.5 * LEASE]))
        service.start(bench.random.choice(WAYS))
        if number % 3 == 0:
            # A second process of the same program executes a part of the work.
            part = service.start_selection(1)
            time.sleep(bench.random.uniform(0.5, 2.0))
            part.signal(signal.SIGTERM)
            part.ends(0, -signal.SIGTERM)  # it may not handle the signal yet
        check_statuses(bench, services)
        bench.injections += 1
    for service in services:
        without_a_schedule(bench, services, service)
    for id in bench.excluded:
        bench.pause(id)
    silent = [
        found.workflow
        for found in schedules.sync.list(bench.client, status="active")
        if found.id not in bench.excluded
        and not bench.wait_for_slot(found.id, now() - SECOND, timeout=BACK)
    ]
    bench.verdict.expect("I7", not silent, f"no new slot: {silent}")
    bench.finish(LEASE, start_worker=False)


def check_statuses(bench: Bench, services: list[Service], *retired: str) -> None:
    """I7: only schedules that their own program has dropped are retired."""
    for service in services:
        for number in range(COUNT):
            found = service.schedule(number)
            expected = "retired" if f"{service.name}-{number}" in retired else "active"
            status = found and found.status
            text = f"{service.name}-{number} is {status}, not {expected}"
            bench.verdict.expect("I7", status == expected, text)


def without_a_schedule(bench: Bench, services: list[Service], service: Service) -> None:
    """Deploy a version with one schedule less, then the former version again."""
    last = service.schedule(COUNT - 1)
    assert last is not None
    # While it is retired, it has no slots.
    bench.excluded.add(last.id)
    service.stop()
    service.start("uvicorn", COUNT - 1)

    def is_retired() -> bool:
        found = service.schedule(COUNT - 1)
        return found is not None and found.status == "retired"

    bench.verdict.expect("I12", until(is_retired, BACK), f"{last.workflow} isn't retired")
    check_statuses(bench, services, last.workflow)
    service.stop()
    service.start("script")
    check_statuses(bench, services)
    bench.injections += 2


FAULTS: dict[str, Callable[[Bench], None]] = {"F70": f70}
