"""List the workers of a project. :data:`sync` has the blocking version."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polos._core import requests
from polos._core.blocking import blocking
from polos.client import checked_client

if TYPE_CHECKING:
    import builtins

    from polos.client import PolosClient
    from polos.models import WorkerInfo

__all__ = ["list", "sync"]


async def list(client: PolosClient) -> builtins.list[WorkerInfo]:
    """Return all registered workers, ordered by id.

    A worker that was killed is in the list until another worker expires it, or until the next
    worker starts on its machine.
    """
    from polos.models import WorkerInfo

    found = await checked_client(client)._ask(requests.workers())
    return [WorkerInfo._from_core(item) for item in found]


class sync:
    """The same for code without an event loop. It blocks the calling thread."""

    list = staticmethod(blocking(list))
