"""``serve``: the dashboard on a separate port, for ``polos ui`` and ``polos dev``."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import signal
import socket
import sys
import threading
import webbrowser
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any

from polos._core.safe_logging import quiet_logger
from polos._validate.formatting import shown
from polos.client import PolosClient
from polos.dashboard.app import Dashboard
from polos.dashboard.auth import is_loopback
from polos.exceptions import InvalidArgumentError, MissingExtraError, WorkerError

__all__ = ["PORT", "serve"]

_log = quiet_logger("polos.dashboard")

PORT = 4747

# How long responses in progress may take during shutdown.
_TIMEOUT = 3


async def serve(
    client: PolosClient,
    *,
    host: str = "127.0.0.1",
    port: int = PORT,
    token: str | None = None,
    hide_payloads: bool = False,
    root_path: str = "",
    trusted_proxies: Iterable[str] = (),
    open_browser: bool = False,
    handle_signals: bool = True,
    on_ready: Callable[[str], None] | None = None,
) -> None:
    """Serve the dashboard until cancelled, or until SIGINT or SIGTERM.

    On an address other than loopback it needs a token, and generates one if none is given.

    :param port: 0 chooses a free one.
    :param root_path: the path under which a proxy publishes it, such as ``"/tools/polos"``.
    :param trusted_proxies: addresses or networks of proxies whose ``X-Forwarded-Prefix`` and
        ``X-Forwarded-Proto`` headers to trust.
    :param handle_signals: whether to end at SIGINT and SIGTERM. Signals that other code already
        handles are left alone.
    :param on_ready: called with the address when it can be opened. By default the address is
        printed to stderr. The address contains the token.

    Raises :class:`InvalidArgumentError`, :class:`MissingExtraError` without uvicorn, and
    :class:`WorkerError` if it cannot listen on the port.
    """
    try:
        import uvicorn
    except ModuleNotFoundError:
        raise MissingExtraError(
            "serving the dashboard needs the package `uvicorn`; install what it uses: "
            "pip install 'polos[ui]'",
            name="uvicorn",
        ) from None

    if token is None and not _is_local(host):
        token = secrets.token_urlsafe(24)
    dashboard = Dashboard(
        client,
        token=token,
        hide_payloads=hide_payloads,
        root_path=root_path,
        trusted_proxies=trusted_proxies,
    )
    listener = _listen(host, port)
    begun = asyncio.Event()

    class Server(uvicorn.Server):
        """Install no signal handlers: the program that runs the event loop has its own."""

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            begun.set()

        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

    server = Server(
        uvicorn.Config(
            dashboard,
            lifespan="off",
            log_config=None,  # the program configures logging
            log_level="warning",
            access_log=False,  # it would log the token
            ws="none",
            # uvicorn must not trust proxy headers: `auth` and `proxy` check them.
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=_TIMEOUT,
        )
    )

    def stop() -> None:
        dashboard.close()
        server.should_exit = True

    work = asyncio.ensure_future(server.serve(sockets=[listener]))
    restore = _on_signals(stop) if handle_signals else None
    try:
        address = _address(listener, host, root_path, token)
        await _either(begun, work)
        (on_ready or _print)(address)
        if open_browser:
            threading.Thread(
                target=_open, args=(address,), name="polos-browser", daemon=True
            ).start()
        await asyncio.shield(work)
    finally:
        stop()
        if restore is not None:
            restore()
        with suppress(asyncio.CancelledError):
            await work
        listener.close()


def _is_local(host: str) -> bool:
    return host == "localhost" or is_loopback(host)


def _listen(host: Any, port: Any) -> socket.socket:
    if not isinstance(host, str) or not host:
        raise InvalidArgumentError(
            f"host: {shown(host)} given, expected an address such as `127.0.0.1`"
        )
    if isinstance(port, bool) or not isinstance(port, int) or not 0 <= port <= 65_535:
        raise InvalidArgumentError(f"port: {shown(port)} given, expected 0 to 65535")
    try:
        family, _, _, _, place = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise InvalidArgumentError(
            f"host: {shown(host)} can't be resolved ({error.strerror}); expected an address of "
            f"this machine, such as `127.0.0.1`"
        ) from None
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        if sys.platform != "win32":  # on Windows, two programs could bind one port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(place)
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise WorkerError(
            f"the dashboard can't listen at {host}:{port} ({error.strerror}); "
            f"choose another port, 0 for any free one"
        ) from None
    return listener


async def _either(begun: asyncio.Event, work: asyncio.Future[None]) -> None:
    waiting = asyncio.ensure_future(begun.wait())
    both: set[asyncio.Future[Any]] = {waiting, work}
    await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if work.done():
        await work
        raise WorkerError("the dashboard's server stopped before it had started; see its log")


def _address(listener: socket.socket, host: str, root_path: str, token: str | None) -> str:
    port = listener.getsockname()[1]
    # A wildcard address is reachable on this machine by this name.
    name = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    query = f"?token={token}" if token is not None else ""
    return f"http://{name}:{port}{root_path.rstrip('/')}/{query}"


def _print(address: str) -> None:
    with suppress(OSError, ValueError):
        sys.stderr.write(f"the dashboard is at {address}\n")
        sys.stderr.flush()


def _open(address: str) -> None:
    with suppress(Exception):  # no browser; the URL was printed
        webbrowser.open(address)


def _on_signals(act: Callable[[], None]) -> Callable[[], None]:
    """Call ``act`` at SIGINT and SIGTERM, unless other code handles them; return the undo."""
    loop = asyncio.get_running_loop()
    taken = []
    for name in (signal.SIGINT, signal.SIGTERM):
        if not _is_free(signal.getsignal(name)):
            continue
        try:
            loop.add_signal_handler(name, act)
        except (NotImplementedError, RuntimeError, ValueError):  # Windows; not the main thread
            continue
        taken.append((name, signal.getsignal(name)))

    def restore() -> None:
        for name, _ in taken:
            loop.remove_signal_handler(name)

    return restore


def _is_free(handler: Any) -> bool:
    """Whether this is a default handler of Python or ``asyncio.run``."""
    if handler in (signal.SIG_DFL, signal.default_int_handler):
        return True
    function = getattr(handler, "func", handler)
    return getattr(function, "__qualname__", "").startswith("Runner.")
