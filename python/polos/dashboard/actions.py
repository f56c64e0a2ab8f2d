"""The actions of the dashboard's forms. Each one redirects, so that a reload repeats nothing."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping

from polos import backfills, calendars, limits, runs, schedules
from polos._validate.formatting import shown
from polos.client import PolosClient
from polos.exceptions import InvalidArgumentError, InvalidStateError

__all__ = ["ACTIONS", "DONE", "Action", "set_calendar"]

NOTE_LENGTH_MAX = 500

Action = Callable[[PolosClient, str, Mapping[str, str]], Awaitable[str]]
"""Does something to the schedule, backfill, or run of that id; returns the path to redirect to."""

DONE: Mapping[str, str] = {
    "paused": "Paused. No run starts until you resume it.",
    "resumed": "Resumed.",
    "skipped": "The next slot will be skipped.",
    "unskipped": "No coming slot will be skipped.",
    "triggered": "Started. This is the new run.",
    "cancelled": "Cancellation requested.",
    "sent": "Sent. The run has the event.",
    "backfill_cancelled": "Cancelled. No other run of the backfill starts.",
    "retried": "Retrying from the first unfinished step.",
    "calendar_set": "Stored. Schedules that name this calendar follow.",
    "calendar_deleted": "Deleted.",
    "limit_set": "Set. It counts within a second, until it is reset.",
    "limit_reset": "Reset. The declared values count.",
    "limit_deleted": "Deleted.",
}
"""The confirmation on the page that follows."""


async def pause(client: PolosClient, id: str, form: Mapping[str, str]) -> str:
    """Pause a schedule, with a note if there is one."""
    note = form.get("note", "").strip()
    if len(note) > NOTE_LENGTH_MAX:
        raise InvalidArgumentError(
            f"note: {len(note)} characters given, at most {NOTE_LENGTH_MAX} are allowed"
        )
    await schedules.pause(client, id, note or None)
    return f"/schedules/{id}?done=paused"


async def resume(client: PolosClient, id: str, form: Mapping[str, str]) -> str:
    """Resume a schedule."""
    await schedules.resume(client, id)
    return f"/schedules/{id}?done=resumed"


async def skip(client: PolosClient, id: str, form: Mapping[str, str]) -> str:
    """Skip the next slot."""
    await schedules.skip(client, id)
    return f"/schedules/{id}?done=skipped"


async def unskip(client: PolosClient, id: str, form: Mapping[str, str]) -> str:
    """Undo all skips of coming slots."""
    await schedules.unskip(client, id)
    return f"/schedules/{id}?done=unskipped"


async def trigger(client: PolosClient, id: str, form: Mapping[str, str]) -> str:
    """Start a run now."""
    handle = await schedules.trigger(client, id)
    return f"/runs/{handle.id}?done=triggered"


async def cancel(client: PolosClient, id: str, form: Mapping[str, str]) -> str:
    """Cancel a run."""
    await runs.cancel(client, id)
    return f"/runs/{id}?done=cancelled"


async def cancel_backfill(client: PolosClient, id: str, form: Mapping[str, str]) -> str:
    """Cancel all unfinished runs of a backfill."""
    await backfills.cancel(client, id)
    return "/backfills?done=backfill_cancelled"


async def retry(client: PolosClient, id: str, form: Mapping[str, str]) -> str:
    """Retry a run that failed or was cancelled."""
    await runs.retry(client, id)
    return f"/runs/{id}?done=retried"


async def send(client: PolosClient, id: str, form: Mapping[str, str]) -> str:
    """Send an event to a run. An empty payload is `null`."""
    text = form.get("payload", "").strip()
    try:
        payload = json.loads(text or "null")
    except ValueError as error:
        raise InvalidArgumentError(
            f'payload: not JSON ({error}); expected such as {{"by": "ada"}}, or nothing'
        ) from None
    if not await runs.send(client, id, form.get("event", ""), payload):
        raise InvalidStateError(
            "the event was not accepted: the run has another one of this name, or no longer waits "
            "for it"
        )
    return f"/runs/{id}?done=sent"


async def set_calendar(client: PolosClient, id: str, form: Mapping[str, str]) -> str:
    """Create a calendar, or replace its dates, from the text of a calendar file."""
    name = form.get("name", "").strip()
    dates = calendars.parse(form.get("text", ""))
    if not dates:
        raise InvalidArgumentError(
            "dates: none given; expected one date such as 2026-12-25 per line, or iCalendar"
        )
    await calendars.set(client, name, dates)
    return f"/calendars/{name}?done=calendar_set"


async def delete_calendar(client: PolosClient, id: str, form: Mapping[str, str]) -> str:
    """Delete a calendar that no schedule names."""
    await calendars.delete(client, id)
    return "/calendars?done=calendar_deleted"


async def set_limit(client: PolosClient, id: str, form: Mapping[str, str]) -> str:
    """Set values of a limit. Those of empty fields stay as they are."""
    await limits.set(
        client,
        form.get("name", ""),
        _whole(form, "max"),
        per_key=_whole(form, "per_key"),
        rate=_whole(form, "rate"),
        per=_seconds(form, "per"),
    )
    return "/limits?done=limit_set"


async def reset_limit(client: PolosClient, id: str, form: Mapping[str, str]) -> str:
    """Go back to the declared values of a limit."""
    await limits.reset(client, form.get("name", ""))
    return "/limits?done=limit_reset"


async def delete_limit(client: PolosClient, id: str, form: Mapping[str, str]) -> str:
    """Delete a limit that no worker declares."""
    await limits.delete(client, form.get("name", ""))
    return "/limits?done=limit_deleted"


def _whole(form: Mapping[str, str], name: str) -> int | None:
    text = form.get(name, "").strip()
    if not text:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) < 20):
        raise InvalidArgumentError(f"{name}: {shown(text)} given, expected a whole number")
    return int(text)


def _seconds(form: Mapping[str, str], name: str) -> float | None:
    text = form.get(name, "").strip()
    try:
        return float(text) if text else None
    except ValueError:
        raise InvalidArgumentError(
            f"{name}: {shown(text)} given, expected a number of seconds"
        ) from None


ACTIONS: Mapping[str, Action] = {
    "/schedules/{id}/pause": pause,
    "/schedules/{id}/resume": resume,
    "/schedules/{id}/skip": skip,
    "/schedules/{id}/unskip": unskip,
    "/schedules/{id}/trigger": trigger,
    "/backfills/{id}/cancel": cancel_backfill,
    "/calendars": set_calendar,
    "/calendars/{id}/delete": delete_calendar,
    "/limits": set_limit,
    "/limits/reset": reset_limit,
    "/limits/delete": delete_limit,
    "/runs/{id}/cancel": cancel,
    "/runs/{id}/retry": retry,
    "/runs/{id}/send": send,
}
