"""A TCP proxy between client and server that drops data on demand."""

from __future__ import annotations

import select
import socket
import struct
import threading
from contextlib import suppress

# The end of our transactions on the wire: the text of a statement, terminated by NUL.
COMMIT = b"COMMIT\x00"


class Proxy:
    """Forwards everything in both directions until a test changes that."""

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._lock = threading.Lock()
        self._pairs: list[Pair] = []
        self._lost: list[Pair] = []
        self._cut: str | None = None
        self.cut_done = threading.Event()
        self.flows = threading.Event()
        self.flows.set()
        self._is_closed = False
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"postgresql://polos@127.0.0.1:{self.port}/postgres"

    def cut_next_commit(self, where: str) -> None:
        """Cut the connection that commits next, ``before`` or ``after``.

        Before: the server never receives the commit. After: the answer is lost.
        """
        with self._lock:
            self.cut_done.clear()
            self._cut = where

    def takes_cut(self) -> str | None:
        """Return where the commit that passes now is to be cut; only one commit is."""
        with self._lock:
            where, self._cut = self._cut, None
            return where

    def swallow(self) -> None:
        """Forward nothing any more, without closing any connection."""
        self.flows.clear()

    def flow(self) -> None:
        """Forward again, including what was held back."""
        self.flows.set()

    def lose(self) -> None:
        """Forward nothing any more on existing connections; new ones work."""
        with self._lock:
            lost, self._pairs = self._pairs, []
            self._lost += lost
        for pair in lost:
            pair.is_lost.set()

    def cut_all(self) -> None:
        """Reset every connection."""
        with self._lock:
            pairs, self._pairs, self._lost = self._pairs + self._lost, [], []
        for pair in pairs:
            pair.cut()

    def close(self) -> None:
        self._is_closed = True
        self._listener.close()
        self.flows.set()
        self.cut_all()

    def _accept(self) -> None:
        while not self._is_closed:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._server_port))
            except OSError:
                client.close()
                continue
            pair = Pair(self, client, server)
            with self._lock:
                self._pairs.append(pair)
            threading.Thread(target=pair.carry, daemon=True).start()


class Pair:
    """One connection."""

    def __init__(self, proxy: Proxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy = proxy
        self._client = client
        self._server = server
        self._tail = b""
        self._answer_is_lost = False
        self.is_lost = threading.Event()

    def carry(self) -> None:
        """Forward until one side closes or the connection is cut."""
        with suppress(OSError, ValueError):
            while True:
                ready, _, _ = select.select([self._client, self._server], [], [])
                self._proxy.flows.wait()
                if self.is_lost.is_set():
                    # Both sides stay open: their peers wait for an answer that never comes.
                    return
                for source in ready:
                    data = source.recv(65536)
                    if not data or not self._passes(source, data):
                        self.cut()
                        return
        if not self.is_lost.is_set():
            self.cut()

    def _passes(self, source: socket.socket, data: bytes) -> bool:
        """Forward data; return whether the connection continues."""
        if source is self._server:
            if self._answer_is_lost:
                # Drop the whole answer: the commit's is its end.
                if b"COMMIT\x00" in data:
                    self._proxy.cut_done.set()
                    return False
                return True
            self._client.sendall(data)
            return True
        seen = self._tail + data
        self._tail = seen[-len(COMMIT) :]
        if COMMIT in seen:
            self._tail = b""
            where = self._proxy.takes_cut()
            if where == "before":
                self._proxy.cut_done.set()
                return False
            self._answer_is_lost = where == "after"
        self._server.sendall(data)
        return True

    def cut(self) -> None:
        """Reset the connection on both sides, even with data in transit."""
        now = struct.pack("ii", 1, 0)
        for side in (self._client, self._server):
            with suppress(OSError):
                side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, now)
            with suppress(OSError):
                side.close()
