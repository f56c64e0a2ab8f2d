"""What the forms do. Each answer is a redirect, so that a reload does nothing twice."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from polos import runs, schedules
from polos.client import PolosClient
from polos.exceptions import InvalidArgumentError

__all__ = ["ACTIONS", "DONE", "Action"]

NOTE_LENGTH_MAX = 500

Action = Callable[[PolosClient, str, Mapping[str, str]], Awaitable[str]]
"""Does something to the schedule or run of that id; gives the path to go on to."""

DONE: Mapping[str, str] = {
    "paused": "Paused: nothing of it starts until it is resumed.",
    "resumed": "Resumed: it fires again.",
    "skipped": "The coming slot will be left out; the one after it is next.",
    "triggered": "Started: this is the new run.",
    "cancelled": "Asked to stop.",
    "retried": "It goes on from its first unfinished step.",
}
"""What is said on the page that follows."""


async def pause(client: PolosClient, id: str, form: Mapping[str, str]) -> str:
    """With a note for others, if there is one."""
    note = form.get("note", "").strip()
    if len(note) > NOTE_LENGTH_MAX:
        raise InvalidArgumentError(
            f"note: it has {len(note)} characters, at most {NOTE_LENGTH_MAX} are allowed"
        )
    await schedules.pause(client, id, note or None)
    return f"/schedules/{id}?done=paused"


async def resume(client: PolosClient, id: str, form: Mapping[str, str]) -> str:
    """Fire again."""
    await schedules.resume(client, id)
    return f"/schedules/{id}?done=resumed"


async def skip(client: PolosClient, id: str, form: Mapping[str, str]) -> str:
    """Leave out the coming slot."""
    await schedules.skip(client, id)
    return f"/schedules/{id}?done=skipped"


async def trigger(client: PolosClient, id: str, form: Mapping[str, str]) -> str:
    """Run it now."""
    handle = await schedules.trigger(client, id)
    return f"/runs/{handle.id}?done=triggered"


async def cancel(client: PolosClient, id: str, form: Mapping[str, str]) -> str:
    """Ask a run to stop."""
    await runs.cancel(client, id)
    return f"/runs/{id}?done=cancelled"


async def retry(client: PolosClient, id: str, form: Mapping[str, str]) -> str:
    """Go on with a run that failed or was cancelled."""
    await runs.retry(client, id)
    return f"/runs/{id}?done=retried"


ACTIONS: Mapping[str, Action] = {
    "/schedules/{id}/pause": pause,
    "/schedules/{id}/resume": resume,
    "/schedules/{id}/skip": skip,
    "/schedules/{id}/trigger": trigger,
    "/runs/{id}/cancel": cancel,
    "/runs/{id}/retry": retry,
}
