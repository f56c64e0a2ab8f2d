"""Watch and cancel backfills. :data:`sync` has blocking versions.

A backfill is what :func:`polos.schedules.backfill` has started: the runs of past slots of one
schedule.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from polos._core import requests
from polos._core.blocking import blocking
from polos._validate.schedule_options import check_identifier
from polos.client import checked_client

if TYPE_CHECKING:
    import builtins
    from collections.abc import Iterable
    from datetime import datetime

    from polos.client import PolosClient
    from polos.models import BackfillInfo

__all__ = ["Backfill", "cancel", "get", "list", "sync"]


class Backfill(list["datetime"]):
    """What :func:`polos.schedules.backfill` started: the slots, oldest first, as a list.

    Its methods say what has become of them, and cancel them.
    """

    def __init__(
        self, client: PolosClient, id: str | None, slots: Iterable[datetime], left: int
    ) -> None:
        super().__init__(slots)
        self.id = id
        """Identifies it in any process; ``None`` if nothing was started."""

        self.left = left
        """How many slots of the range are left without a run because of ``limit``."""

        self._client = client

    @property
    def sync(self) -> SyncBackfill:
        """The same for code without an event loop. Its methods block."""
        return SyncBackfill(self)

    async def info(self) -> BackfillInfo | None:
        """Return how many of its runs are done; ``None`` if nothing was started.

        Raises :class:`BackfillNotFoundError` if none of its runs is stored any more.
        """
        return None if self.id is None else await get(self._client, self.id)

    async def cancel(self) -> BackfillInfo | None:
        """Cancel all of its unfinished runs; see :func:`cancel`."""
        return None if self.id is None else await cancel(self._client, self.id)


class SyncBackfill:
    """A :class:`Backfill` for code without an event loop."""

    def __init__(self, backfill: Backfill) -> None:
        self.info = blocking(backfill.info)
        self.cancel = blocking(backfill.cancel)


async def list(client: PolosClient) -> builtins.list[BackfillInfo]:
    """Return the backfills whose runs are stored, by workflow and schedule; at most 1,000.

    Looks at the workflows that workers have registered.
    Runs that are older than the retention period are deleted, and no longer counted.
    """
    from polos.models import BackfillInfo

    found = await checked_client(client)._ask(requests.list_backfills())
    return [BackfillInfo._from_core(item) for item in found]


async def get(client: PolosClient, id: str) -> BackfillInfo:
    """Return one backfill: how many of its runs are done, in progress, and not started.

    Raises :class:`BackfillNotFoundError` if none of its runs is stored.
    """
    from polos.models import BackfillInfo

    id = check_identifier("backfills.get, id", id)
    found = await checked_client(client)._ask(requests.get_backfill(id))
    return BackfillInfo._from_core(found)


async def cancel(client: PolosClient, id: str) -> BackfillInfo:
    """Cancel all unfinished runs of a backfill, and return what it has come to.

    Those that are in progress are asked to stop, as by ``runs.cancel``; no other starts after this
    has returned. What is finished stays, and the cancelled slots count as run: a later backfill
    leaves them out, and ``runs.retry`` starts them.

    Raises what :func:`get` raises.
    """
    from polos.models import BackfillInfo

    id = check_identifier("backfills.cancel, id", id)
    found = await checked_client(client)._ask(requests.cancel_backfill(id))
    return BackfillInfo._from_core(found)


class sync:
    """The same for code without an event loop. It blocks the calling thread."""

    list = staticmethod(blocking(list))
    get = staticmethod(blocking(get))
    cancel = staticmethod(blocking(cancel))
