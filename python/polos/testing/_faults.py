"""What is to go wrong, and how often it has. Knows nothing of time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, cast, get_args

from polos._describe import shown
from polos.exceptions import InvalidArgumentError
from polos.workflow import Workflow

__all__ = ["Fault", "Faults", "Moment", "error_of", "moment_of", "workflow_id"]

Moment = Literal["before_call", "before_commit", "after_commit"]
"""When a worker crashes: before the function is called, when it has returned and nothing of it is
recorded, or when that is recorded and the handler has not been told."""

Kind = Literal["step", "run", "crash", "request"]


class Fault:
    """Something that goes wrong the next ``times`` times; ``happened`` says how often it has."""

    def __init__(
        self,
        what: str,
        kind: Kind,
        times: int,
        *,
        moment: Moment = "before_call",
        workflow: str | None = None,
        step: str | None = None,
        error: BaseException | type[BaseException] | None = None,
    ) -> None:
        self.what = what
        self.times = _at_least_once(times)
        self.happened = 0
        self._kind = kind
        self._moment = moment
        self._workflow = workflow
        self._step = step
        self._error = error
        self._is_disarmed = False

    def __repr__(self) -> str:
        return f"<Fault: {self}>"

    def __str__(self) -> str:
        return f"{self.what}: happened {self.happened} of {self.times}"

    def disarm(self) -> None:
        """Let it happen no more; that it never has is then in order."""
        self._is_disarmed = True

    def _is_for(self, kind: Kind, moment: Moment, workflow: str | None, step: str | None) -> bool:
        return (
            not self._is_disarmed
            and self.happened < self.times
            and self._kind == kind
            and self._moment == moment
            and self._workflow in (None, workflow)
            and self._step == step
        )

    def _raised(self) -> BaseException:
        error = self._error
        assert error is not None
        return error() if isinstance(error, type) else error


class Faults:
    """All that is to go wrong."""

    def __init__(self) -> None:
        self.all: list[Fault] = []

    def add(self, fault: Fault) -> Fault:
        """Arm it."""
        self.all.append(fault)
        return fault

    def take(
        self, kind: Kind, moment: Moment, workflow: str | None, step: str | None
    ) -> Fault | None:
        """The fault that happens now, counted."""
        for fault in self.all:
            if fault._is_for(kind, moment, workflow, step):
                fault.happened += 1
                return fault
        return None

    def fail(self, kind: Kind, moment: Moment, workflow: str | None, step: str | None) -> None:
        """Raise what the fault that happens now raises, if there is one."""
        fault = self.take(kind, moment, workflow, step)
        if fault is not None:
            raise fault._raised()

    def check_all_happened(self) -> None:
        """A fault that never happened is a test that tests something else than it says."""
        idle = [fault for fault in self.all if not fault.happened and not fault._is_disarmed]
        if idle:
            listed = "; ".join(fault.what for fault in idle)
            raise AssertionError(
                f"a fault never happened: {listed}. Is the name right, and was the time long "
                f"enough? `fault.disarm()` takes it back"
            )


def _at_least_once(times: Any) -> int:
    if isinstance(times, bool) or not isinstance(times, int) or times < 1:
        raise InvalidArgumentError(
            f"times: {shown(times)} given, expected a whole number of 1 or more"
        )
    return times


def moment_of(value: Any) -> Moment:
    """``value`` if it is a moment."""
    if value not in get_args(Moment):
        listed = ", ".join(f"`{moment}`" for moment in get_args(Moment))
        raise InvalidArgumentError(f"when: {shown(value)} given, expected one of {listed}")
    return cast("Moment", value)


def error_of(value: Any, default: Callable[[], BaseException]) -> Any:
    """``value`` if it can be raised."""
    if value is None:
        return default()
    is_class = isinstance(value, type) and issubclass(value, BaseException)
    if not is_class and not isinstance(value, BaseException):
        raise InvalidArgumentError(f"error: {shown(value)} given, expected an exception")
    return value


def workflow_id(value: str | Workflow[Any, Any] | None) -> str | None:
    """The id of a workflow that is given as such or by its id."""
    return value.id if isinstance(value, Workflow) else value
