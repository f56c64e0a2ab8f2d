from collections import deque
from collections.abc import Callable, Sequence
from os import PathLike
from typing import Any, Final, final

__all__ = [
    "Bridge",
    "Core",
    "WorkerCore",
    "__version__",
    "abandon_move",
    "check_spec",
    "configure_tzdb",
    "explain",
    "move_projects",
    "next_slots",
    "spec_slots",
    "tzdb_version",
]

__version__: Final[str]

def move_projects(
    source: str | PathLike[str],
    target: str,
    projects: Sequence[str],
    with_history: bool,
    is_forced: bool,
    batch: int,
    tell: Callable[[str, bool, str, int, int], object],
) -> str: ...
def abandon_move(
    source: str | PathLike[str], target: str, projects: Sequence[str]
) -> list[str]: ...

@final
class Bridge:
    def __new__(cls, ring: Callable[[], object] | None = None) -> Bridge: ...
    def fileno(self) -> int: ...
    def drain(self, into: deque[tuple[Any, ...]]) -> None: ...
    def ring_again(self) -> None: ...

@final
class Core:
    def __new__(cls, options: str) -> Core: ...
    def call(self, request: str, timeout: int | None = None) -> str | None: ...
    def submit(self, request: str, bridge: Bridge, future: object) -> int | None: ...
    def withdraw(self, wait: int) -> None: ...
    def wait_count(self) -> int: ...
    def start_worker(self, config: str, bridge: Bridge) -> WorkerCore: ...
    def now(self) -> int: ...
    def advance_to(self, wall: int) -> None: ...
    def set_wall(self, wall: int) -> None: ...
    def close(self) -> None: ...

@final
class WorkerCore:
    def record_step(
        self,
        bridge: Bridge,
        future: object,
        run: str,
        token: int,
        name: str,
        state: str,
        attempt: int,
        run_attempt: int,
        result: str | None,
        error: str | None,
        wakes_at: int | None,
        started_at: int,
    ) -> None: ...
    def end_run(
        self,
        run: str,
        token: int,
        workflow: str,
        attempt: int,
        kind: str,
        stands_alone: bool,
        data: str | None = None,
        wakes_at: int | None = None,
        is_final: bool = False,
    ) -> None: ...
    def is_trusted(self) -> bool: ...
    def set_timer(self, id: int, delay: int) -> None: ...
    def drain(self) -> None: ...
    def leave(self) -> None: ...
    def turn(self) -> tuple[int | None, int, bool] | None: ...

def check_spec(spec: str) -> bool: ...
def configure_tzdb(dirs: Sequence[str | PathLike[str]]) -> None: ...
def explain(
    cron: str, timezone: str, count: int, after: int
) -> tuple[str, list[int], list[str]]: ...
def next_slots(cron: str, timezone: str, count: int, after: int) -> list[int]: ...
def spec_slots(spec: str, count: int, after: int) -> list[int]: ...
def tzdb_version() -> str: ...
