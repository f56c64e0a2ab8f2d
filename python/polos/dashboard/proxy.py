"""The dashboard's address behind a proxy.

A proxy can report the path (``X-Forwarded-Prefix``) and the scheme (``X-Forwarded-Proto``) of the
browser's request. Anyone can send these headers, so only those from proxies that the operator names
are read.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import Headers
from starlette.types import Scope

from polos._validate.formatting import shown
from polos.exceptions import InvalidArgumentError

__all__ = ["InvalidHeader", "ProxyConfig"]

_PATH = re.compile(r"(?:/[A-Za-z0-9._~-]+)*")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class InvalidHeader(ValueError):
    """A trusted proxy sent a header that is not valid."""


@dataclass(frozen=True, slots=True)
class ProxyConfig:
    """The path of the dashboard and the proxies in front of it."""

    root_path: str = ""
    trusted: tuple[Network, ...] = ()

    @classmethod
    def checked(cls, root_path: Any, trusted_proxies: Any) -> ProxyConfig:
        """Build it from the arguments of :func:`polos.ui`."""
        if not isinstance(root_path, str) or not _is_path(root_path.rstrip("/")):
            raise InvalidArgumentError(
                f"root_path: {shown(root_path)} given, expected a path such as `/tools/polos`"
            )
        if isinstance(trusted_proxies, str) or not isinstance(trusted_proxies, Iterable):
            raise InvalidArgumentError(
                f"trusted_proxies: {shown(trusted_proxies)} given, expected a list of addresses"
            )
        return cls(root_path.rstrip("/"), tuple(_network(given) for given in trusted_proxies))

    def seen_from(self, scope: Scope) -> Scope:
        """Return the request as the browser made it; raises :class:`InvalidHeader`."""
        prefix, scheme = self.root_path, scope.get("scheme", "http")
        if self.trusted and self._is_trusted(scope):
            headers = Headers(scope=scope)
            prefix = _first(headers.get("x-forwarded-prefix")).rstrip("/") or prefix
            if not _is_path(prefix):
                raise InvalidHeader(
                    f"the proxy sent X-Forwarded-Prefix: {shown(prefix)}, expected a path such as "
                    f"`/tools/polos`"
                )
            scheme = _first(headers.get("x-forwarded-proto")).lower() or scheme
            if scheme not in ("http", "https"):
                raise InvalidHeader(
                    f"the proxy sent X-Forwarded-Proto: {shown(scheme)}, expected `http` or `https`"
                )
        if not prefix:
            return {**scope, "scheme": scheme}
        path: str = scope["path"]
        # A proxy may remove the prefix from the path, or not.
        if path != prefix and not path.startswith(f"{prefix}/"):
            path = prefix + path
        root: str = scope.get("root_path", "")
        return {**scope, "scheme": scheme, "path": path, "root_path": prefix + root}

    def _is_trusted(self, scope: Scope) -> bool:
        client = scope.get("client")
        try:
            address = ipaddress.ip_address(client[0] if client else "")
        except ValueError:
            return False
        address = getattr(address, "ipv4_mapped", None) or address
        return any(address in network for network in self.trusted)


def _is_path(path: str) -> bool:
    parts = path.split("/")
    return _PATH.fullmatch(path) is not None and "." not in parts and ".." not in parts


def _first(value: str | None) -> str:
    return (value or "").partition(",")[0].strip()


def _network(given: Any) -> Network:
    try:
        if isinstance(given, str):
            return ipaddress.ip_network(given, strict=False)
    except ValueError:
        pass
    raise InvalidArgumentError(
        f"trusted_proxies: {shown(given)} given, expected an address or network such as "
        f"`127.0.0.1` or `10.0.0.0/8`"
    )
