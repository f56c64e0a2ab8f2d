"""Pages that update by themselves, and the end of the server."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import httpx
import pytest
from dashboard_forms import NAVIGATION

import polos
from polos import InvalidArgumentError, PolosClient, WorkerError, schedules, workflow
from polos.dashboard import serve
from polos.dashboard import sse as live

TIMEOUT = 20.0


@asynccontextmanager
async def served(client: PolosClient, **options: Any) -> AsyncIterator[str]:
    """Serve a dashboard on its own port; yield its address."""
    ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    options = {"port": 0, "handle_signals": False, "on_ready": ready.set_result, **options}
    task = asyncio.create_task(serve(client, **options))
    await asyncio.wait({task, ready}, return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        await task
    try:
        yield await ready
    finally:
        task.cancel()
        await asyncio.wait({task}, timeout=TIMEOUT)
        assert task.done(), "the server doesn't stop"


class Stream:
    """Events as they arrive."""

    def __init__(self, answer: httpx.Response) -> None:
        self.answer = answer
        self._lines = answer.aiter_lines()

    async def event(self) -> dict[str, str]:
        """Return the next event that isn't empty."""
        return await asyncio.wait_for(self._next(), TIMEOUT)

    async def _next(self) -> dict[str, str]:
        async for line in self._lines:
            if line.startswith("data: "):
                event: dict[str, str] = json.loads(line.removeprefix("data: "))
                return event
        raise AssertionError("the stream ended")

    async def ends(self) -> None:
        """Wait until the stream ends."""

        async def rest() -> None:
            async for _ in self._lines:
                pass

        await asyncio.wait_for(rest(), TIMEOUT)


@asynccontextmanager
async def listening(base: str, path: str, seen: str = "0") -> AsyncIterator[Stream]:
    sign = "&" if "?" in path else "?"
    async with (
        httpx.AsyncClient(base_url=base, timeout=TIMEOUT) as browser,
        browser.stream("GET", f"{path}{sign}live={seen}") as answer,
    ):
        yield Stream(answer)


@pytest.fixture
async def schedule(client: PolosClient) -> str:
    @workflow(id="job", schedule=True)
    async def job() -> None: ...

    return await schedules.create(client, job, every=timedelta(hours=1), key="user-of-the-shop")


async def test_a_page_is_sent_again_when_something_has_changed(client: PolosClient, schedule: str):
    async with served(client) as base, listening(base, f"/schedules/{schedule}") as stream:
        assert stream.answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert stream.answer.headers["x-accel-buffering"] == "no"
        assert "no-transform" in stream.answer.headers["cache-control"]
        first = await stream.event()
        assert "user-of-the-shop" in first["html"]
        assert "Resume" not in first["html"]
        await schedules.pause(client, schedule, note="for a test")
        second = await stream.event()
        assert "for a test" in second["html"]
        assert "Resume" in second["html"]


async def test_a_page_that_is_up_to_date_is_not_sent_again(client: PolosClient, schedule: str):
    async with served(client) as base:
        async with httpx.AsyncClient(base_url=base, headers=NAVIGATION) as browser:
            page = (await browser.get("/schedules")).text
        seen = page.partition('data-revision="')[2].partition('"')[0]
        async with listening(base, "/schedules", seen) as stream:
            await schedules.pause(client, schedule, note="now")
            # The first event is the change: the page that it already had was not sent again.
            assert "paused" in (await stream.event())["html"]


async def test_no_secret_of_a_form_is_in_a_stream(client: PolosClient, schedule: str):
    async with served(client) as base, listening(base, f"/schedules/{schedule}") as stream:
        html = (await stream.event())["html"]
    assert html.count('name="secret" value=""') == html.count('name="secret"') >= 3


async def test_an_error_is_reported_and_the_last_page_stays(client: PolosClient, schedule: str):
    async with served(client) as base, listening(base, f"/schedules/{schedule}") as stream:
        assert (await stream.event())["trouble"] == ""
        await schedules.delete(client, schedule)
        event = await stream.event()
        assert "no schedule" in event["trouble"]
        assert event["html"] == ""


async def test_streams_are_as_closed_as_pages(client: PolosClient, schedule: str):
    async with served(client, token="correct-horse-battery") as address:
        base = address.partition("?")[0]
        async with listening(base, "/") as stream:
            assert stream.answer.status_code == 401


async def test_streams_are_bounded(
    client: PolosClient, schedule: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(live, "STREAMS_MAX", 2)
    async with served(client) as base, listening(base, "/") as one, listening(base, "/runs") as two:
        await one.event()
        await two.event()
        async with listening(base, "/") as three:
            assert three.answer.status_code == 503
            assert three.answer.headers["retry-after"] == "30"


async def test_a_closed_stream_makes_room_for_another(
    client: PolosClient, schedule: str, monkeypatch: pytest.MonkeyPatch, eventually: Any
):
    monkeypatch.setattr(live, "STREAMS_MAX", 1)
    async with served(client) as base:
        async with listening(base, "/") as one:
            await one.event()

        async def has_room() -> bool:
            async with listening(base, "/") as stream:
                return stream.answer.status_code == 200

        await eventually(has_room)


async def test_a_page_is_rendered_once_for_all_streams(client: PolosClient, schedule: str):
    made: list[str] = []
    streams = live.Live()

    async def render() -> live.Fragment:
        made.append("")
        return live.Fragment("t", "h")

    events = [asyncio.Event() for _ in range(5)]
    channels = [streams.subscribe("/x", render, event) for event in events]
    assert len({id(channel) for channel in channels}) == 1
    await events[0].wait()
    assert len(made) == 1
    for channel, event in zip(channels, events, strict=True):
        streams.unsubscribe("/x", channel, event)
    assert not streams._channels


async def test_streams_end_by_themselves_for_proxies_and_sessions_that_end(
    client: PolosClient, schedule: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(live, "STREAM_SECONDS", 0.1)
    monkeypatch.setattr(live, "HEARTBEAT", 0.05)
    async with served(client) as base, listening(base, "/schedules") as stream:
        await stream.ends()


# --- stopping --------------------------------------------------------------------------------


async def test_cancelling_ends_open_streams_and_frees_the_port(client: PolosClient, schedule: str):
    async with served(client) as base:
        port = httpx.URL(base).port
        async with listening(base, "/") as stream:
            await stream.event()
            # `served` stops it on the way out, while this stream is open.
            waiting = asyncio.ensure_future(stream.ends())
            await asyncio.sleep(0)
            waiting.cancel()
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", port))


SERVED = """
    import asyncio, sys
    import polos
    from polos.dashboard import serve

    async def main():
        async with polos.PolosClient() as client:
            await polos.schedules.list(client)
            await serve(client, port=0, on_ready=lambda address: print("at", address))
        print("ended")

    asyncio.run(main())
"""

MOUNTED = """
    import asyncio, socket, sys
    import polos
    import uvicorn
    from starlette.applications import Starlette
    from starlette.routing import Mount

    with polos.PolosClient() as client:
        polos.schedules.sync.list(client)
        app = Starlette(routes=[Mount("/polos", app=polos.ui(client))])
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        listener.listen()  # before the address is printed: a client may connect at once
        print("at", f"http://127.0.0.1:{listener.getsockname()[1]}/polos/", flush=True)
        uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])
    print("ended")
"""


@pytest.mark.usefixtures("own_database")
@pytest.mark.parametrize("program", [SERVED, MOUNTED], ids=["served", "mounted"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_ends_the_server_while_pages_are_looked_at(
    start: Any, program: str, number: signal.Signals
):
    process = start(program)
    base = process.wait_for_line("at")
    async with listening(base, "./") as stream:
        await stream.event()
        process.signal(number)
        await stream.ends()
    process.wait_for_line("ended") if program is SERVED else None
    # uvicorn raises the signal again when it has stopped, as programs do.
    assert process.ends() in (0, -number, 128 + number, 1)


# --- where it listens ------------------------------------------------------------------------


async def test_on_another_address_it_generates_a_token(client: PolosClient, schedule: str):
    async with served(client, host="0.0.0.0") as address:
        assert address.startswith("http://127.0.0.1:")
        token = httpx.URL(address).params["token"]
        assert len(token) >= 32
        async with httpx.AsyncClient(headers=NAVIGATION) as browser:
            assert (await browser.get(address.partition("?")[0])).status_code == 401
            assert (await browser.get(address, follow_redirects=True)).status_code == 200


async def test_a_port_that_is_in_use_is_reported(client: PolosClient):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(WorkerError, match=f"can't listen at 127.0.0.1:{port}"):
            await serve(client, port=port)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"port": -1}, "expected 0 to 65535"),
        ({"port": "80"}, "expected 0 to 65535"),
        ({"host": ""}, "expected an address such as `127.0.0.1`"),
        ({"host": "no such host"}, "can't be resolved"),
        ({"token": "short"}, "at least 16"),
    ],
)
async def test_invalid_arguments_are_refused(
    client: PolosClient, options: dict[str, Any], sentence: str
):
    with pytest.raises(InvalidArgumentError, match=sentence):
        await serve(client, **options)


async def test_by_default_the_address_is_printed(
    client: PolosClient, capsys: pytest.CaptureFixture[str], eventually: Any
):
    task = asyncio.create_task(serve(client, port=0, handle_signals=False))
    output: list[str] = []

    def has_spoken() -> bool:
        output.append(capsys.readouterr().err)
        return "the dashboard is at http://127.0.0.1:" in "".join(output)

    await eventually(has_spoken)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_ui_is_all_that_a_program_needs():
    assert polos.ui.__module__ == "polos._ui"
