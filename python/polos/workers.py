"""Workers: who executes workflows of the project now. See :data:`sync` for the blocking twin."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polos._blocking import blocking
from polos.client import checked_client

if TYPE_CHECKING:
    import builtins

    from polos.client import PolosClient
    from polos.models import WorkerInfo

__all__ = ["list", "sync"]


async def list(client: PolosClient) -> builtins.list[WorkerInfo]:
    """All workers that have signed in and were neither signed out nor buried, by their ids. One
    that was killed is among them until another worker, or the next start, notices.
    """
    from polos.models import WorkerInfo

    found = await checked_client(client)._ask("workers")
    return [WorkerInfo._from_core(item) for item in found]


class sync:
    """The same for code without an event loop: it blocks the calling thread."""

    list = staticmethod(blocking(list))
