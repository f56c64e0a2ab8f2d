"""Arguments that are hooks."""

from __future__ import annotations

from typing import Any

from polos._validate.formatting import shown
from polos.exceptions import InvalidArgumentError

__all__ = ["check_hook"]


def check_hook(name: str, hook: Any, workflow_type: type) -> None:
    """Raise :class:`InvalidArgumentError` for a hook that cannot be called.

    :param name: what to call it; it ends with the name of the hook.
    :param workflow_type: the class of workflows, which imports this module.
    """
    if not callable(hook):
        raise InvalidArgumentError(
            f"{name}: {shown(hook)} given, expected a function or a workflow"
        )
    if not isinstance(hook, workflow_type):
        return
    workflow: Any = hook
    if name.endswith("on_missed"):
        raise InvalidArgumentError(
            f"{name}: workflow `{workflow.id}` given; calls about missed slots are not recorded, "
            f"so no run can be promised for them: give a function, which may invoke the workflow"
        )
    if workflow.arity != 2:
        raise InvalidArgumentError(
            f"{name}: workflow `{workflow.id}` given, whose handler takes no payload; a hook needs "
            f"one that does: `async def {workflow.id}(ctx, event)`"
        )
