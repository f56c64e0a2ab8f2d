"""Counts what clients send to a PostgreSQL server: statements, round trips, connections.

A relay in another process between the clients and the server. The counts don't depend on the speed
of the machine. Standard library only.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from types import TracebackType
from urllib.parse import urlsplit, urlunsplit


class Relay:
    """The relay; ``url`` connects through it to the server."""

    def __init__(self, url: str) -> None:
        self._server = url
        self.url = ""

    def __enter__(self) -> Relay:
        command = [sys.executable, "-S", __file__, self._server]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        port = self._answer()["port"]
        parts = urlsplit(self._server)
        user = parts.netloc.rpartition("@")[0]
        place = f"{user}@127.0.0.1:{port}" if user else f"127.0.0.1:{port}"
        self.url = urlunsplit(parts._replace(netloc=place))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def counts(self) -> dict[str, int]:
        """Return statements and round trips so far, and the open connections."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, int]:
        assert self._process.stdout is not None
        answer: dict[str, int] = json.loads(self._process.stdout.readline())
        return answer


class _Counts:
    def __init__(self) -> None:
        self.statements = 0
        self.round_trips = 0
        self.connections = 0

    def note(self, kind: int, body: bytes) -> None:
        """Count a message of a client.

        ``Q`` is a script, ``E`` executes one prepared statement, and ``S`` ends a batch of those.
        """
        if kind == ord("Q"):
            self.statements += sum(1 for part in body.rstrip(b"\0").split(b";") if part.strip())
            self.round_trips += 1
        elif kind == ord("E"):
            self.statements += 1
        elif kind == ord("S"):
            self.round_trips += 1


def _messages(buffer: bytearray) -> Iterator[tuple[int, bytes]]:
    """Take complete messages out of the buffer."""
    while len(buffer) >= 5:
        end = 1 + int.from_bytes(buffer[1:5], "big")
        if len(buffer) < end:
            return
        yield buffer[0], bytes(buffer[5:end])
        del buffer[:end]


async def _relay(url: str) -> None:
    parts = urlsplit(url)
    counts = _Counts()

    async def pass_on(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while data := await source.read(1 << 16):
            target.write(data)
            await target.drain()

    async def attend(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        counts.connections += 1
        target = None
        try:
            back, target = await asyncio.open_connection(parts.hostname, parts.port or 5432)
            answers = asyncio.ensure_future(pass_on(back, writer))
            try:
                await _count(reader, target, counts)
            finally:
                answers.cancel()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            counts.connections -= 1
            for end in (writer, target):
                if end is not None:
                    end.close()

    server = await asyncio.start_server(attend, "127.0.0.1", 0)
    print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
    commands = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    while await commands.readline():
        print(json.dumps(vars(counts)), flush=True)


async def _count(
    reader: asyncio.StreamReader, target: asyncio.StreamWriter, counts: _Counts
) -> None:
    # The messages before the login have no type: a request for TLS (8 bytes), then the startup.
    while True:
        head = await reader.readexactly(4)
        start = head + await reader.readexactly(int.from_bytes(head, "big") - 4)
        target.write(start)
        if len(start) != 8:
            break
    buffer = bytearray()
    while data := await reader.read(1 << 16):
        target.write(data)
        buffer += data
        for kind, body in _messages(buffer):
            counts.note(kind, body)
        await target.drain()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_relay(sys.argv[1]))
