"""``polos.ui``: the dashboard as an application, imported when it is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from polos.client import PolosClient
    from polos.dashboard import Dashboard

__all__ = ["ui"]


def ui(
    client: PolosClient,
    *,
    token: str | None = None,
    allow_remote: bool = False,
    hide_payloads: bool = False,
    root_path: str = "",
    trusted_proxies: Iterable[str] = (),
) -> Dashboard:
    """The dashboard as an ASGI application: ``app.mount("/polos", polos.ui(client))``.

    Works at any address that it is mounted at. Without ``token`` and ``allow_remote`` it answers
    the machine that it runs on, and nobody else, whatever the application around it does.

    :param token: who knows it may look and act, from wherever the application can be reached. At
        least 16 characters; asked for once in a browser, then kept as a signed cookie.
    :param allow_remote: ``True`` if the application around it checks its users: then everybody
        whom it lets through may look and act.
    :param hide_payloads: show no arguments, inputs, results, messages of errors and tracebacks.

    :param root_path: the path under which a proxy publishes it, such as ``"/tools/polos"``; where
        an application mounts it, the mount's path is known anyway.
    :param trusted_proxies: addresses or networks of proxies whose ``X-Forwarded-Prefix`` and
        ``X-Forwarded-Proto`` headers are followed. Anybody else's are ignored.

    Raises :class:`InvalidArgumentError`, and :class:`MissingExtraError` without the packages of
    the extra ``polos[ui]``.
    """
    from polos.dashboard import Dashboard

    return Dashboard(
        client,
        token=token,
        allow_remote=allow_remote,
        hide_payloads=hide_payloads,
        root_path=root_path,
        trusted_proxies=trusted_proxies,
    )
