"""``polos.overview``: how much of what there is, without looking at all of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polos._arguments import count_of
from polos._blocking import blocking
from polos.client import checked_client

if TYPE_CHECKING:
    from polos.client import PolosClient
    from polos.models import Overview

__all__ = ["overview"]


async def _overview(client: PolosClient, *, count_to: int = 10_000) -> Overview:
    """How many schedules and unfinished runs there are, and how many schedules are behind.

    :param count_to: nothing is counted further than this; milliseconds, whatever is stored.
    """
    from polos.models import Overview

    answer = await checked_client(client)._ask("overview", count_to=count_of("count_to", count_to))
    return Overview._from_core(answer)


async def _stuck_parents(client: PolosClient, *, look_at: int = 10_000) -> list[str]:
    """Ids of runs that wait for a child run that has ended, and that nothing would wake.

    :param look_at: how many of the runs that wait for a child are looked at, at most.
    """
    found: list[str] = await checked_client(client)._ask("stuck_parents", look_at=look_at)
    return found


stuck_parents = blocking(_stuck_parents)
"""For ``polos doctor``, without an event loop."""


class _WithTwin:
    """``await overview(client)``, or ``overview.sync(client)`` without an event loop."""

    __call__ = staticmethod(_overview)
    sync = staticmethod(blocking(_overview))


overview = _WithTwin()
