"""``polos.ui``: the dashboard as an ASGI application, imported on first use."""

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
    """Return the dashboard as an ASGI application: ``app.mount("/polos", polos.ui(client))``.

    You can mount it at any path. Without ``token`` and ``allow_remote`` it answers only requests
    from its own machine, whatever the surrounding application does.

    :param token: anyone who has this token can view and act, from wherever the application can be
        reached. At least 16 characters. A browser asks for it once and then keeps a signed cookie.
    :param allow_remote: ``True`` if the surrounding application authenticates its users. Then
        everyone whom it lets through can view and act.
    :param hide_payloads: hide arguments, inputs, results, error messages, and tracebacks.
    :param root_path: the path under which a proxy publishes it, such as ``"/tools/polos"``. The
        path of a mount in an application is known without it.
    :param trusted_proxies: addresses or networks of proxies whose ``X-Forwarded-Prefix`` and
        ``X-Forwarded-Proto`` headers to trust. Headers from other senders are ignored.

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
