"""Report runs to a service that expects a request for each: Healthchecks, Cronitor, and others."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from polos._core.own_thread import in_own_thread
from polos._runtime.backoff import duration
from polos._runtime.start_reports import StartReports
from polos._validate.formatting import shown
from polos.exceptions import InvalidArgumentError

if TYPE_CHECKING:
    from polos.context import WorkflowContext
    from polos.hooks import RunFailure, RunSuccess
    from polos.workflow import Workflow

__all__ = ["Ping", "ping"]

# Such services cut longer texts off.
_BODY_MAX = 10_000


def ping(
    url: str,
    *,
    workflows: Iterable[str | Workflow[Any, Any]] | None = None,
    start: str | None = "/start",
    success: str | None = "",
    failure: str | None = "/fail",
    timeout: float | timedelta = 10,
) -> Ping:
    """Return middleware that requests a URL when a run starts, succeeds, and fails.

    ``Worker(client, middleware=[polos.ping("https://hc-ping.com/...", workflows=["backup"])])``.
    The requests are POST requests, in threads of their own, and delay no handler. The body is the
    run's id, and for a failure its error. A run that will be retried has not failed. A request that
    fails is logged, and not repeated.

    :param url: the address of the check. http or https.
    :param workflows: of which workflows to report the runs; of all by default.
    :param start: what to append to ``url`` for a start; ``None`` reports no starts.
    :param success: the same for a success.
    :param failure: the same for a failure.
    :param timeout: how long a request may take, in seconds or as ``timedelta``.

    Raises :class:`InvalidArgumentError`.
    """
    _check(url, {"start": start, "success": success, "failure": failure})
    seconds = duration("timeout", timeout, zero=False).total_seconds()
    return Ping(url, StartReports(workflows), (start, success, failure), seconds)


def _check(url: Any, endings: dict[str, Any]) -> None:
    if not isinstance(url, str) or not url.startswith(("http://", "https://")):
        raise InvalidArgumentError(
            f"url: {shown(url)} given, expected an address that begins with `https://` or `http://`"
        )
    for name, value in endings.items():
        if value is not None and not isinstance(value, str):
            raise InvalidArgumentError(
                f"{name}: {shown(value)} given, expected text to append to the url, or `None`"
            )


class Ping:
    """Middleware that reports runs. Made by :func:`ping`."""

    def __init__(
        self,
        url: str,
        starts: StartReports,
        endings: tuple[str | None, str | None, str | None],
        timeout: float,
    ) -> None:
        self._url = url
        self._starts = starts
        self._start, self._success, self._failure = endings
        self._timeout = timeout

    async def __call__(self, call_next: Callable[[], Any], ctx: WorkflowContext) -> Any:
        """Report the start of a run, and enter its handler at once."""
        if self._start is not None and self._starts.includes(ctx.workflow_id):
            message = (self._url + self._start, ctx.run_id)
            self._starts.begin(ctx, self._send, message, "the ping of a start")
        return await call_next()

    async def on_success(self, event: RunSuccess) -> None:
        """Report that a run has succeeded."""
        await self._report_end(self._success, event, event.run_id)

    async def on_failure(self, event: RunFailure) -> None:
        """Report that a run has failed and is not retried."""
        error = event.error
        await self._report_end(
            self._failure, event, f"{event.run_id}\n{type(error).__name__}: {error}"
        )

    async def _report_end(
        self, ending: str | None, event: RunSuccess | RunFailure, text: str
    ) -> None:
        if ending is None or not self._starts.includes(event.workflow_id):
            return
        await self._starts.wait(event.run_id)
        await in_own_thread(self._send, (self._url + ending, text))

    def _send(self, message: tuple[str, str]) -> None:
        address, text = message
        body = text.encode(errors="replace")[:_BODY_MAX]
        request = urllib.request.Request(address, body, {"Content-Type": "text/plain"})
        try:
            urllib.request.urlopen(request, timeout=self._timeout).close()
        except urllib.error.HTTPError as error:
            error.close()
            raise
