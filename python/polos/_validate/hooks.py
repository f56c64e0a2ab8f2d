"""Arguments that are hooks."""

from __future__ import annotations

import inspect
from typing import Any

from polos._validate.formatting import shown
from polos._validate.payloads import check_event
from polos._validate.signature import underlying
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
        _check_function(name, hook)
        return
    workflow: Any = hook
    if workflow.arity != 2:
        raise InvalidArgumentError(
            f"{name}: workflow `{workflow.id}` given, whose handler takes no payload; a hook needs "
            f"one that does: `async def {workflow.id}(ctx, event)`"
        )
    # Not `payload_type`, which is resolved once: the module may define its names later.
    check_event(name, workflow, workflow._handler.payload_hint(), _event_of(name))


def _check_function(name: str, hook: Any) -> None:
    given = f"{name}: {shown(hook)} given"
    inner = underlying(hook)
    if inspect.isgeneratorfunction(inner) or inspect.isasyncgenfunction(inner):
        raise InvalidArgumentError(
            f"{given}, a generator function, of which a call executes nothing; use `return` "
            f"instead of `yield`"
        )
    try:
        signature = inspect.signature(hook)
    except (TypeError, ValueError):  # some callables written in C have none
        return
    try:
        signature.bind(None)
    except TypeError as error:
        raise InvalidArgumentError(
            f"{given}, which cannot be called with the event alone ({error}); a hook takes one "
            f"argument: `def {name.rpartition(' ')[2]}(event)`"
        ) from None


def _event_of(name: str) -> type:
    """Return what the hook is called with whose name ``name`` ends with."""
    from polos import hooks

    events = {
        "on_success": hooks.RunSuccess,
        "on_failure": hooks.RunFailure,
        "on_missed": hooks.MissedSlots,
        "on_skipped": hooks.SkippedSlots,
        "on_late": hooks.LateRun,
    }
    return next(event for hook, event in events.items() if name.endswith(hook))
