"""Arguments that name workflows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from polos._validate.formatting import shown
from polos.exceptions import InvalidArgumentError
from polos.workflow import Workflow

__all__ = ["workflow_ids"]


def workflow_ids(given: Iterable[str | Workflow[Any, Any]]) -> frozenset[str]:
    """Return the ids of workflows that were given as ids or as the decorated functions.

    Raises :class:`InvalidArgumentError`.
    """
    if isinstance(given, (str, bytes)) or not isinstance(given, Iterable):
        raise InvalidArgumentError(
            f"workflows: {shown(given)} given, expected a list of workflows or of their ids"
        )
    ids = set()
    for each in given:
        if not isinstance(each, (str, Workflow)):
            raise InvalidArgumentError(
                f"workflows: {shown(each)} given, expected an id (text) or the decorated function"
            )
        ids.add(each.id if isinstance(each, Workflow) else each)
    return frozenset(ids)
