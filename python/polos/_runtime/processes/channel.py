"""Frames between a worker and the process of a step.

A frame is the length of its header (4 bytes, big-endian), the header as JSON, and the parts whose
lengths the header lists. Parts are JSON texts of the codec, which need no second encoding.
"""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Callable, Sequence
from typing import Any

__all__ = ["BrokenFrameError", "Frame", "receive", "send"]

_LENGTH = struct.Struct(">I")
_HEADER_MAX = 1 << 20
_TOTAL_MAX = 1 << 30
_CHUNK = 1 << 18

Wait = Callable[[bool], None]
"""Waits until the socket can be read (``False``) or written (``True``). May raise."""


class BrokenFrameError(Exception):
    """The other side has sent something that is no frame, or has ended in the middle of one."""


class Frame:
    """A message: a small header, and parts of any size."""

    __slots__ = ("header", "parts")

    def __init__(self, header: dict[str, Any], parts: Sequence[bytes] = ()) -> None:
        self.header = header
        self.parts = parts

    def to_bytes(self) -> bytes:
        """Return the frame as it is sent."""
        header = json.dumps({**self.header, "parts": [len(part) for part in self.parts]}).encode()
        return b"".join((_LENGTH.pack(len(header)), header, *self.parts))


def send(channel: socket.socket, frame: Frame, wait: Wait | None = None) -> None:
    """Send a frame. ``wait`` is required for a socket that does not block."""
    left = memoryview(frame.to_bytes())
    while left:
        try:
            left = left[channel.send(left[:_CHUNK]) :]
        except BlockingIOError:
            assert wait is not None
            wait(True)


def receive(channel: socket.socket, wait: Wait | None = None) -> Frame | None:
    """Return the next frame, or ``None`` when the other side has closed its end.

    Raises :class:`BrokenFrameError`.
    """
    start = _exactly(channel, _LENGTH.size, wait, may_end=True)
    if start is None:
        return None
    (length,) = _LENGTH.unpack(start)
    if length > _HEADER_MAX:
        raise BrokenFrameError(f"a header of {length:,} bytes")
    try:
        header = json.loads(_exactly(channel, length, wait) or b"")
        sizes = header.pop("parts")
        total = sum(sizes)
        if not all(type(size) is int and size >= 0 for size in sizes):
            raise BrokenFrameError("a part of negative length")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BrokenFrameError(f"a header that cannot be read: {error}") from None
    if total > _TOTAL_MAX:
        raise BrokenFrameError(f"{total:,} bytes")
    return Frame(header, [_exactly(channel, size, wait) or b"" for size in sizes])


def _exactly(
    channel: socket.socket, size: int, wait: Wait | None, *, may_end: bool = False
) -> bytes | None:
    chunks: list[bytes] = []
    left = size
    while left:
        try:
            chunk = channel.recv(min(left, _CHUNK))
        except BlockingIOError:
            assert wait is not None
            wait(False)
            continue
        except ConnectionError:
            chunk = b""
        if not chunk:
            if may_end and not chunks:
                return None
            raise BrokenFrameError("it ends in the middle")
        chunks.append(chunk)
        left -= len(chunk)
    return b"".join(chunks)
