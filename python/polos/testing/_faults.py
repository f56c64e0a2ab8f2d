"""Faults that a test has requested, and how often they have happened."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, cast, get_args

from polos._validate.formatting import shown
from polos.exceptions import InvalidArgumentError
from polos.workflow import Workflow

__all__ = ["Fault", "Faults", "Moment", "error_of", "moment_of", "workflow_id"]

Moment = Literal["before_call", "before_commit", "after_commit"]
"""When a worker crashes: before the function is called, after it has returned and before its result
is recorded, or after the result is recorded and before the handler has received it."""

Kind = Literal["step", "run", "crash", "request"]


class Fault:
    """A fault that happens the next ``times`` times. ``happened`` counts how often it has."""

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
        """Cancel the fault. It is then no error if it has never happened."""
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
    """All requested faults."""

    def __init__(self) -> None:
        self.all: list[Fault] = []

    def add(self, fault: Fault) -> Fault:
        """Arm a fault."""
        self.all.append(fault)
        return fault

    def take(
        self, kind: Kind, moment: Moment, workflow: str | None, step: str | None
    ) -> Fault | None:
        """Return the fault that happens now, or ``None``, and count it."""
        for fault in self.all:
            if fault._is_for(kind, moment, workflow, step):
                fault.happened += 1
                return fault
        return None

    def fail(self, kind: Kind, moment: Moment, workflow: str | None, step: str | None) -> None:
        """Raise the error of the fault that happens now, if there is one."""
        fault = self.take(kind, moment, workflow, step)
        if fault is not None:
            raise fault._raised()

    def check_all_happened(self) -> None:
        """Raise ``AssertionError`` if a fault never happened: the test does not test it."""
        idle = [fault for fault in self.all if not fault.happened and not fault._is_disarmed]
        if idle:
            listed = "; ".join(fault.what for fault in idle)
            raise AssertionError(
                f"a fault never happened: {listed}. Check the name, and whether enough time "
                f"passed; `fault.disarm()` cancels it"
            )


def _at_least_once(times: Any) -> int:
    if isinstance(times, bool) or not isinstance(times, int) or times < 1:
        raise InvalidArgumentError(
            f"times: {shown(times)} given, expected a whole number of 1 or more"
        )
    return times


def moment_of(value: Any) -> Moment:
    """Return ``value`` if it is a moment; raise :class:`InvalidArgumentError` otherwise."""
    if value not in get_args(Moment):
        listed = ", ".join(f"`{moment}`" for moment in get_args(Moment))
        raise InvalidArgumentError(f"when: {shown(value)} given, expected one of {listed}")
    return cast("Moment", value)


def error_of(value: Any, default: Callable[[], BaseException]) -> Any:
    """Return ``value`` if it can be raised; raise :class:`InvalidArgumentError` otherwise."""
    if value is None:
        return default()
    is_class = isinstance(value, type) and issubclass(value, BaseException)
    if not is_class and not isinstance(value, BaseException):
        raise InvalidArgumentError(f"error: {shown(value)} given, expected an exception")
    return value


def workflow_id(value: str | Workflow[Any, Any] | None) -> str | None:
    """Return the id of a workflow, given as an object or as its id."""
    return value.id if isinstance(value, Workflow) else value
