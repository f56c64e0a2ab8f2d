"""Which schedule a call means: an id, a :class:`~polos.Schedule`, or a workflow and a key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from polos._core import requests
from polos._validate.formatting import shown
from polos.client import checked_client
from polos.exceptions import InvalidArgumentError, ScheduleNotFoundError
from polos.workflow import Workflow

if TYPE_CHECKING:
    from polos.client import PolosClient
    from polos.models import Schedule

__all__ = ["schedule_id", "workflow_id"]


async def schedule_id(
    client: PolosClient,
    schedule: str | Schedule | None,
    workflow: str | Workflow[Any, Any] | None,
    key: str | None,
) -> str:
    """Return the id of the schedule that a call names.

    Raises :class:`InvalidArgumentError` unless exactly one way of naming it was used, and
    :class:`ScheduleNotFoundError` if the workflow has no schedule with that key.
    """
    if schedule is not None:
        if workflow is not None or key is not None:
            raise InvalidArgumentError(
                f"id: {shown(_text(schedule))} given together with `workflow` or `key`; name the "
                f"schedule by its id, or by its workflow and key"
            )
        return _text(schedule)
    if workflow is None:
        raise InvalidArgumentError(
            "id: nothing given, expected a schedule's id, a Schedule, or `workflow=` with `key=`"
        )
    if not isinstance(workflow, (str, Workflow)):
        raise InvalidArgumentError(
            f"workflow: {shown(workflow)} given, expected an id (text) or the decorated function"
        )
    if key is not None and not isinstance(key, str):
        raise InvalidArgumentError(f"key: {shown(key)} given, expected text")
    name, key = workflow_id(workflow), "global" if key is None else key
    request = requests.list_schedules(
        workflow=name,
        key=key,
        status=None,
        owner=None,
        key_prefix=None,
        tags={},
        limit=1,
        after=None,
        after_key=None,
    )
    found = await checked_client(client)._ask(request)
    if not found:
        raise ScheduleNotFoundError(f"workflow `{name}` has no schedule with the key `{key}`")
    id: str = found[0]["id"]
    return id


def workflow_id(value: str | Workflow[Any, Any] | None) -> str | None:
    """Return the id of a workflow that was given as its id or as the decorated function."""
    return value.id if isinstance(value, Workflow) else value


def _text(schedule: str | Schedule) -> str:
    from polos.models import Schedule

    if isinstance(schedule, Schedule):
        return schedule.id
    if not isinstance(schedule, str):
        raise InvalidArgumentError(
            f"id: {shown(schedule)} given, expected a schedule's id (text) or a Schedule"
        )
    return schedule
