"""Pages that update themselves: each address is rendered once for all viewers.

One task per open address renders it about once a second and sends it as a server-sent event when it
has changed. The number of streams is limited, and they end after some seconds (the browser opens
the next one). So proxy timeouts, expired sessions, and servers that wait for connections at
shutdown cause no problems.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import json
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from starlette.types import Receive, Scope, Send

from polos._core.safe_logging import quiet_logger

__all__ = ["EventStream", "Fragment", "Live"]

_log = quiet_logger("polos.dashboard")

STREAMS_MAX = 32
INTERVAL = 1.0
# Largest fraction of one processor that rendering a page repeatedly may use.
CPU_SHARE_MAX = 0.05
STREAM_SECONDS = 25.0
HEARTBEAT = 10.0
STOP_CHECK_INTERVAL = 0.25


@dataclass(frozen=True, slots=True)
class Fragment:
    """The part of a page that changes."""

    title: str
    html: str
    trouble: str = ""
    """Why it cannot be rendered now; the browser keeps the previous content."""

    @property
    def revision(self) -> str:
        """A hash that is the same for the same content in any process."""
        digest = hashlib.sha256(
            f"{self.title}\0{self.html}\0{self.trouble}".encode("utf-8", "replace")
        )
        return digest.hexdigest()[:16]


Render = Callable[[], Awaitable[Fragment]]


class Live:
    """All open pages."""

    def __init__(self) -> None:
        self._channels: dict[str, _Channel] = {}
        self._count = 0
        self.is_closed = False

    def open(self, address: str, render: Render, seen: str) -> EventStream | None:
        """Return a stream of changes at ``address`` since ``seen``; ``None`` if there are too many
        streams.
        """
        if self.is_closed or self._count >= STREAMS_MAX:
            return None
        return EventStream(self, address, render, seen)

    def close(self) -> None:
        """End all streams, and open no more."""
        self.is_closed = True
        for channel in list(self._channels.values()):
            channel.notify()

    def subscribe(self, address: str, render: Render, changed: asyncio.Event) -> _Channel:
        """Add a viewer of an address."""
        self._count += 1
        channel = self._channels.get(address)
        if channel is None or not channel.is_usable():
            channel = self._channels[address] = _Channel(self, render)
        channel.viewers.add(changed)
        return channel

    def unsubscribe(self, address: str, channel: _Channel, changed: asyncio.Event) -> None:
        """Remove a viewer; the last one stops the rendering."""
        self._count -= 1
        channel.viewers.discard(changed)
        if not channel.viewers:
            channel.stop()
            if self._channels.get(address) is channel:
                del self._channels[address]


class _Channel:
    """One address that is rendered repeatedly."""

    def __init__(self, live: Live, render: Render) -> None:
        self._live = live
        self._render = render
        self._loop = asyncio.get_running_loop()
        self._task = self._loop.create_task(self._work(), name="polos-dashboard-live")
        self.viewers: set[asyncio.Event] = set()
        self.latest: Fragment | None = None

    def is_usable(self) -> bool:
        """Whether it runs, on this event loop."""
        return not self._task.done() and self._loop is asyncio.get_running_loop()

    def stop(self) -> None:
        """Stop rendering."""
        self._task.cancel()

    def notify(self) -> None:
        """Wake all viewers."""
        for changed in self.viewers:
            changed.set()

    async def _work(self) -> None:
        while True:
            begun = self._loop.time()
            try:
                fragment = await self._render()
            except Exception:
                # Expected errors are rendered as a page; this one is a defect.
                _log.exception("a page of the dashboard can't be rendered")
                fragment = Fragment("", "", "the dashboard has failed; see its log")
            if fragment != self.latest:
                self.latest = fragment
                self.notify()
            until = self._loop.time() + max(INTERVAL, (self._loop.time() - begun) / CPU_SHARE_MAX)
            while self._loop.time() < until:
                await asyncio.sleep(STOP_CHECK_INTERVAL)
                if server_is_stopping():
                    self._live.close()
                    return


class EventStream:
    """The response to an ``EventSource``; an ASGI application for one response."""

    def __init__(self, live: Live, address: str, render: Render, seen: str) -> None:
        self._live = live
        self._address = address
        self._render = render
        self._seen = seen

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send events until the stream ends."""
        headers = [
            (b"content-type", b"text/event-stream; charset=utf-8"),
            (b"cache-control", b"no-store, no-transform"),
            (b"x-accel-buffering", b"no"),  # nginx would keep events until its buffer is full
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        changed = asyncio.Event()
        channel = self._live.subscribe(self._address, self._render, changed)
        gone = asyncio.ensure_future(_disconnected(receive))
        try:
            await self._send_events(channel, changed, gone, send)
        finally:
            self._live.unsubscribe(self._address, channel, changed)
            gone.cancel()
            with suppress(asyncio.CancelledError):
                await gone

    async def _send_events(
        self, channel: _Channel, changed: asyncio.Event, gone: asyncio.Future[None], send: Send
    ) -> None:
        async def send_text(text: str, *, more: bool = True) -> None:
            body = text.encode("utf-8", "replace")
            await send({"type": "http.response.body", "body": body, "more_body": more})

        loop = asyncio.get_running_loop()
        until = loop.time() + STREAM_SECONDS
        await send_text("retry: 2000\n\n")
        while not self._live.is_closed and loop.time() < until and not gone.done():
            changed.clear()
            fragment = channel.latest
            if fragment is not None and fragment.revision != self._seen:
                self._seen = fragment.revision
                data = json.dumps(dataclasses.asdict(fragment))
                await send_text(f"id: {self._seen}\ndata: {data}\n\n")
            waiting = asyncio.ensure_future(changed.wait())
            either: set[asyncio.Future[Any]] = {gone, waiting}
            await asyncio.wait(either, timeout=HEARTBEAT, return_when=asyncio.FIRST_COMPLETED)
            if not waiting.done():
                waiting.cancel()
                if not gone.done():
                    await send_text(": still here\n\n")
        if not gone.done():
            await send_text("", more=False)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def server_is_stopping() -> bool:
    """Whether a uvicorn of this process waits for its connections to end. Uvicorn does not announce
    it, but its signal handler is a method of the server, which has the state.
    """
    for name in (signal.SIGINT, signal.SIGTERM):
        server = getattr(signal.getsignal(name), "__self__", None)
        if getattr(server, "should_exit", None) is True:
            return True
    return False
