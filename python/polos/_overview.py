"""``polos.overview``: counts of schedules and runs, without reading all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polos._core import requests
from polos._core.blocking import blocking
from polos._validate.arguments import count_of
from polos.client import checked_client

if TYPE_CHECKING:
    from polos.client import PolosClient
    from polos.models import Overview

__all__ = ["overview"]


async def _overview(client: PolosClient, *, count_to: int = 10_000) -> Overview:
    """Count schedules, unfinished runs, and overdue schedules.

    :param count_to: counting stops here, so this takes milliseconds however much is stored.
    """
    from polos.models import Overview

    request = requests.overview(count_of("count_to", count_to))
    answer = await checked_client(client)._ask(request)
    return Overview._from_core(answer)


async def _stuck_parents(client: PolosClient, *, look_at: int = 10_000) -> list[str]:
    """Return ids of runs that wait for a finished child run and that nothing would resume.

    :param look_at: how many of the runs that wait for a child to check, at most.
    """
    return await checked_client(client)._ask(requests.stuck_parents(look_at))


stuck_parents = blocking(_stuck_parents)
"""For ``polos doctor``, without an event loop."""


class _WithTwin:
    """``await overview(client)``, or ``overview.sync(client)`` without an event loop."""

    __call__ = staticmethod(_overview)
    sync = staticmethod(blocking(_overview))


overview = _WithTwin()
