"""The steps that a run has recorded, and those that this execution has reached."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from polos.exceptions import CodeChangedError, DuplicateStepError

__all__ = ["PATCH", "Recorded", "StepJournal"]

# Prefix of the names under which `ctx.patched` is recorded.
PATCH = "polos:patched:"

# Maximum number of steps that an error names.
_NAMED_MAX = 5


class Recorded:
    """A recorded step."""

    __slots__ = ("attempt", "error", "name", "result", "run_attempt", "state", "wakes_at")

    def __init__(
        self,
        name: str,
        state: str,
        attempt: int,
        run_attempt: int,
        result: str | None,
        error: str | None,
        wakes_at: int | None,
    ) -> None:
        self.name = name
        self.state = state
        self.attempt = attempt
        self.run_attempt = run_attempt
        self.result = result
        self.error = error
        self.wakes_at = wakes_at


# Shared by all runs that execute for the first time.
_NO_RECORDS: Mapping[str, Recorded] = MappingProxyType({})


class StepJournal:
    """The records of a run's earlier executions, and the names that this execution has used."""

    __slots__ = ("_recorded", "_used")

    def __init__(self, entries: list[tuple[Any, ...]] | None) -> None:
        self._recorded: Mapping[str, Recorded] = (
            {entry[0]: Recorded(*entry) for entry in entries} if entries else _NO_RECORDS
        )
        self._used: set[str] = set()

    def recorded(self, name: str) -> Recorded | None:
        """Return the record of ``name`` and mark the name as used."""
        self._used.add(name)
        return self._recorded.get(name)

    def has_unreached(self) -> bool:
        """Whether earlier executions recorded steps that this one has not reached."""
        return any(name not in self._used and not name.startswith(PATCH) for name in self._recorded)

    def unknown_patches(self) -> list[str]:
        """Return patches that the run started with and that this execution has not requested.

        An execution that has reached a step recorded after the patch takes the new branch anyway,
        so such a patch does not count.
        """
        unknown: list[str] = []
        for name, record in self._recorded.items():
            if name.startswith(PATCH):
                if name not in self._used and record.result == "true":
                    unknown.append(name.removeprefix(PATCH))
            elif name in self._used:
                unknown.clear()
        return unknown

    def is_empty(self) -> bool:
        """Whether earlier executions recorded nothing."""
        return not self._recorded

    def take(self, name: str) -> Recorded | None:
        """Return the record of ``name``. Raises :class:`DuplicateStepError` for a used name."""
        if name in self._used:
            raise DuplicateStepError(
                f"the step name `{name}` is used twice in this run; names identify steps when "
                f'the run resumes, so number them in a loop: f"{name}-{{i}}"'
            )
        self._used.add(name)
        return self._recorded.get(name)

    def unreached(self, run_attempt: int) -> list[str]:
        """Return steps that are done in this attempt and that this execution has not used."""
        return [
            name
            for name, record in self._recorded.items()
            if record.state == "done"
            and record.run_attempt == run_attempt
            and name not in self._used
            and not name.startswith(PATCH)
        ]

    def check_same_code(self, run_attempt: int, step: str | None) -> None:
        """Check that a resumed run has reached every step that it had done, before a new step or
        (``None``) its end.

        Raises :class:`CodeChangedError` otherwise.
        """
        if not self._recorded:
            return
        patches = self.unknown_patches()
        unreached = self.unreached(run_attempt)
        if not patches and not unreached:
            return
        names = ", ".join(f"`{name}`" for name in unreached[:_NAMED_MAX])
        where = "its end" if step is None else f"the new step `{step}`"
        reason = f"it reached {where} without the steps that it had done before: {names}"
        if patches:
            patch = ", ".join(f"`{name}`" for name in patches[:_NAMED_MAX])
            reason = f"it started with the patch {patch}, which this code does not request"
        error = CodeChangedError(
            f"the run was resumed, and {reason}; the code has changed, or it branches on "
            f"something that is not recorded in a step. Nothing was repeated; start a new run, "
            f"or deploy the old code again and retry the run"
        )
        error.reason, error.patches = reason, tuple(patches)
        raise error
