"""Fixtures: the `polos` command in this process, a notebook, a web server, a browser."""

from __future__ import annotations

import asyncio
import atexit
import io
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from typing import Any, NamedTuple

import httpx
import pytest
from dashboard_forms import NAVIGATION

from polos import cli


class CommandResult(NamedTuple):
    """The result of a command."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    @property
    def objects(self) -> list[Any]:
        """What `--json` printed."""
        return [json.loads(line) for line in self.lines]


Command = Callable[..., CommandResult]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """``command("schedules", "list", stdin="")``: run a command in this process."""

    def call(*arguments: object, stdin: str = "") -> CommandResult:
        monkeypatch.setattr(sys, "argv", ["polos", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return CommandResult(int(ended.value.code or 0), *capsys.readouterr())

    return call


@pytest.fixture
def on_terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """``on_terminal(80)``: make stdout look like a terminal with 80 columns."""

    def act(columns: int) -> None:
        monkeypatch.setattr("polos.cli.ui.console.is_terminal", lambda: True)
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.delenv("NO_COLOR", raising=False)

    return act


class IgnoresCancellation:
    """A handler that ignores its cancellation until ``is_over`` is set."""

    def __init__(self) -> None:
        self.is_over = False

    async def __call__(self) -> None:
        while not self.is_over:
            with suppress(asyncio.CancelledError):
                await asyncio.Event().wait()


@pytest.fixture
def ignores_cancellation() -> IgnoresCancellation:
    """A handler that must be ended by ``ignores_cancellation.is_over = True``."""
    return IgnoresCancellation()


class Notebook:
    """Executes cells one after another on the test's loop, as Jupyter's kernel does."""

    def __init__(self) -> None:
        from IPython.core.interactiveshell import InteractiveShell
        from traitlets.config import Config

        config = Config()
        config.HistoryManager.enabled = False  # IPython's history without a database
        self.shell = InteractiveShell(config=config)
        self.shell.autoawait = True

    async def cell(self, source: str) -> Any:
        """Execute a cell; return the value of its last expression."""
        ended = await self.shell.run_cell_async(
            source, transformed_cell=self.shell.transform_cell(source)
        )
        ended.raise_error()
        return ended.result


@pytest.fixture
def notebook() -> Iterator[Notebook]:
    made = Notebook()
    yield made
    atexit.unregister(made.shell.atexit_operations)


@asynccontextmanager
async def behind_a_server(app: Any) -> AsyncIterator[Any]:
    import uvicorn

    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", ws="none"))
    serving = asyncio.create_task(server.serve())
    while not server.started:
        assert not serving.done(), "the application doesn't start"
        await asyncio.sleep(0.005)
    port = server.servers[0].sockets[0].getsockname()[1]
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as web:
        yield web
    server.should_exit = True
    await serving


Served = Callable[[Any], AbstractAsyncContextManager[Any]]


@pytest.fixture
def served() -> Served:
    """``async with served(app) as web``: run an application on a real server; yield a client."""
    return behind_a_server


Visit = Callable[..., Awaitable[httpx.AsyncClient]]


@pytest.fixture
async def visit() -> AsyncIterator[Visit]:
    """``await visit(app)``: a browser's HTTP client, by default on this machine."""
    async with AsyncExitStack() as visitors:

        async def visitor(
            app: Any, *, base: str = "http://localhost:6765", address: str = "127.0.0.1"
        ) -> httpx.AsyncClient:
            transport = httpx.ASGITransport(app=app, client=(address, 50_000))
            return await visitors.enter_async_context(
                httpx.AsyncClient(transport=transport, base_url=base, headers=NAVIGATION)
            )

        yield visitor
