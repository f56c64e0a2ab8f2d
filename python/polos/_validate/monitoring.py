"""Checks of the options by which a worker is watched."""

from __future__ import annotations

import os
import re
from typing import Any

from polos._validate.formatting import shown
from polos.exceptions import InvalidArgumentError

__all__ = ["check_address", "check_heartbeat_file", "numbered_address", "numbered_file"]

_ADDRESS = r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})"
_PORT_MAX = 65_535


def check_address(value: Any) -> str:
    """Return ``HOST:PORT``, or raise :class:`InvalidArgumentError`."""
    match = re.fullmatch(_ADDRESS, value) if isinstance(value, str) else None
    if match is None or int(match[2]) > _PORT_MAX:
        raise InvalidArgumentError(
            f"health: {shown(value)} given, expected `HOST:PORT` with a port of at most "
            f"{_PORT_MAX}, such as `127.0.0.1:8080`, `[::1]:8080`, or, for all addresses of the "
            f"machine, `0.0.0.0:8080`"
        )
    return match[0]


def check_heartbeat_file(value: Any) -> str:
    """Return the absolute path of the file, or raise :class:`InvalidArgumentError`."""
    path = os.fspath(value) if isinstance(value, (str, os.PathLike)) else None
    if not isinstance(path, str) or not path or "\0" in path:
        raise InvalidArgumentError(
            f"heartbeat_file: {shown(value)} given, expected the path of a file"
        )
    return os.path.abspath(path)


def numbered_address(address: str, number: int) -> str:
    """Return the address of worker ``number``, counted from 1: each takes the next port."""
    host, _, port = check_address(address).rpartition(":")
    own = int(port) + number - 1 if int(port) else 0
    if own > _PORT_MAX:
        raise InvalidArgumentError(
            f"health: `{address}` given for {number} workers, which take a port each; the last one "
            f"would be {own}, and the highest is {_PORT_MAX}"
        )
    return f"{host}:{own}"


def numbered_file(path: str, number: int) -> str:
    """Return the heartbeat file of worker ``number``, counted from 1."""
    return f"{path}.{number}"
