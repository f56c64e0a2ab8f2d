"""List and change limits. :data:`sync` has blocking versions.

A limit is declared in code (:class:`polos.Limit`). An operator can set other values, which win
until they are reset, and take effect within a second.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from polos._core import requests
from polos._core.blocking import blocking
from polos._validate.limits import Limit
from polos._validate.schedule_options import check_identifier
from polos.client import checked_client
from polos.exceptions import InvalidArgumentError, LimitNotFoundError

if TYPE_CHECKING:
    import builtins
    from datetime import timedelta

    from polos.client import PolosClient
    from polos.models import LimitInfo, Run

__all__ = ["Limit", "delete", "get", "list", "reset", "set", "sync"]

_COUNT_TO = 100_000


async def list(client: PolosClient) -> builtins.list[LimitInfo]:
    """Return all limits that workers of the project have declared, by name, with their use."""
    return await _read(client)


async def get(client: PolosClient, name: str, *, key: str | None = None) -> LimitInfo:
    """Return one limit with its use.

    :param name: that of the limit; a limit without a name has that of its workflow.
    :param key: counts the runs in progress that have this key, too: ``running_of_key``.

    Raises :class:`LimitNotFoundError`.
    """
    name = check_identifier("limits.get, name", name)
    if key is not None:
        check_identifier("limits.get, key", key)
    for limit in await _read(client, key=key):
        if limit.name == name:
            return limit
    raise LimitNotFoundError(f"there is no limit `{name}`")


async def _of_run(client: PolosClient, run: Run) -> builtins.list[LimitInfo]:
    """Return the limit of a run that has not started or waits, with the use of the run's key."""
    if run.status not in ("queued", "waiting"):
        return []
    return await _read(client, run.workflow, run.key)


async def _read(
    client: PolosClient, workflow: str | None = None, key: str | None = None
) -> builtins.list[LimitInfo]:
    from polos.models import LimitInfo

    found = await checked_client(client)._ask(requests.list_limits(_COUNT_TO, workflow, key))
    return [LimitInfo._from_core(item) for item in found]


async def set(
    client: PolosClient,
    name: str,
    max: int | None = None,
    *,
    per_key: int | None = None,
    rate: int | None = None,
    per: float | timedelta | None = None,
) -> None:
    """Set values of a limit, in place of those that the code declares, until they are reset.

    Values that are not given stay as they are: those that an operator set before, and otherwise
    those that the code declares, whatever it declares later. ``rate`` and ``per`` belong together:
    if one of them is given, both are set. A lower value cancels nothing: runs that are in progress
    continue, and no further ones start until fewer are in progress. ``max`` may be 0, which stops
    new starts.

    :param name: that of the limit; a limit without a name has that of its workflow.
    :param per: seconds or ``timedelta``.

    Raises :class:`LimitNotFoundError`, or :class:`InvalidArgumentError` for an invalid value.
    """
    name = check_identifier("limits.set, name", name)
    if max is None and per_key is None and rate is None and per is None:
        raise InvalidArgumentError(
            "limits.set: no value given, expected `max`, `per_key`, `rate`, or `per`; "
            "`limits.reset` goes back to the declared values"
        )
    # Each is checked as in a declaration, where `rate` and `per` are given together.
    checked = Limit(
        name,
        0 if max is None else max,
        per_key=per_key,
        rate=1 if rate is None and per is not None else rate,
        per=1 if per is None and rate is not None else per,
    )
    from polos._core.instants import micros_of

    changes: dict[str, Any] = {}
    if max is not None:
        changes["max"] = checked.max
    if per_key is not None:
        changes["per_key"] = checked.per_key
    if rate is not None:
        changes["rate"] = checked.rate
    if per is not None and checked.per is not None:
        changes["per_us"] = micros_of(checked.per)
    await checked_client(client)._ask(requests.set_limit(name, changes))


async def reset(client: PolosClient, name: str) -> None:
    """Go back to the values that the code declares.

    Raises :class:`LimitNotFoundError`.
    """
    name = check_identifier("limits.reset, name", name)
    await checked_client(client)._ask(requests.set_limit(name, None))


async def delete(client: PolosClient, name: str) -> None:
    """Delete a limit that the code no longer declares, with the values that an operator has set.

    Raises :class:`LimitNotFoundError`, or :class:`InvalidStateError` while a worker that declares
    it is registered, or an unfinished run counts against it.
    """
    name = check_identifier("limits.delete, name", name)
    await checked_client(client)._ask(requests.delete_limit(name))


class sync:
    """The same for code without an event loop. It blocks the calling thread."""

    delete = staticmethod(blocking(delete))
    list = staticmethod(blocking(list))
    get = staticmethod(blocking(get))
    _of_run = staticmethod(blocking(_of_run))
    set = staticmethod(blocking(set))
    reset = staticmethod(blocking(reset))
