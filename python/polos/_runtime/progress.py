"""Report the progress of a run: throttled, and best effort.

A report never waits, and losing one has no consequence. At most one per second and run is written;
of the others, the newest.
"""

from __future__ import annotations

import asyncio
import json
import math
from contextlib import suppress
from numbers import Real
from typing import TYPE_CHECKING, Any

from polos._core.safe_logging import quiet_logger
from polos._validate.formatting import printable, shown
from polos.exceptions import InvalidArgumentError

if TYPE_CHECKING:
    from polos._runtime.active_run import ActiveRun

__all__ = ["ProgressReports", "checked_progress"]

_log = quiet_logger("polos.run")

# Seconds between two reports of a run that are written.
_INTERVAL = 1.0
_MESSAGE_MAX = 300


def checked_progress(fraction: Any, message: Any) -> tuple[float | None, str | None]:
    """Return the arguments of ``ctx.progress`` as they are stored.

    Raises :class:`InvalidArgumentError`.
    """
    if fraction is not None:
        is_number = isinstance(fraction, Real) and not isinstance(fraction, bool)
        if not is_number or math.isnan(fraction) or not 0 <= fraction <= 1:
            raise InvalidArgumentError(
                f"ctx.progress, fraction: {shown(fraction)} given, expected a number from 0 to 1, "
                f"or None if it is unknown"
            )
        fraction = float(fraction)
    if message is not None:
        if not isinstance(message, str):
            raise InvalidArgumentError(
                f"ctx.progress, message: {shown(message)} given, expected a text"
            )
        message = " ".join(printable(message[: _MESSAGE_MAX + 1]).split())
        if len(message) > _MESSAGE_MAX:
            message = message[: _MESSAGE_MAX - 1] + "…"
    if fraction is None and not message:
        raise InvalidArgumentError("ctx.progress: give a fraction from 0 to 1, a message, or both")
    return fraction, message or None


class ProgressReports:
    """The reports of one execution of a run."""

    __slots__ = ("_active", "_next_at", "_pending", "_timer", "_writing")

    def __init__(self, active: ActiveRun) -> None:
        self._active = active
        self._pending: dict[str, Any] | None = None
        self._next_at = -math.inf
        self._timer: asyncio.TimerHandle | None = None
        self._writing: asyncio.Future[bool] | None = None

    def report(self, fraction: float | None, message: str | None) -> None:
        """Write a report soon. Call it from any thread."""
        active = self._active
        report = {"fraction": fraction, "message": message, "at": active.now()}
        if asyncio._get_running_loop() is active.loop:
            self._accept(report)
            return
        try:
            active.loop.call_soon_threadsafe(self._accept, report)
        except RuntimeError:  # the loop is closed: the worker is gone
            return

    def flush(self) -> None:
        """Write the newest report now, because the handler has ended. Raises nothing."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._pending is not None and self._writing is None:
            with suppress(BaseException):  # no memory, or a worker that is cut off
                self._write_pending()

    def _accept(self, report: dict[str, Any]) -> None:
        if self._active.stop_reason is not None or self._active.is_reported:
            return
        self._pending = report
        self._schedule()

    def _schedule(self) -> None:
        if self._pending is None or self._timer is not None or self._writing is not None:
            return
        loop = self._active.loop
        delay = self._next_at - loop.time()
        if delay > 0 and not self._active.executor.client._is_virtual():
            self._timer = loop.call_later(delay, self._on_time)
            return
        with suppress(Exception):  # no memory
            self._write_pending()

    def _on_time(self) -> None:
        self._timer = None
        if not self._active.is_reported:
            self._schedule()

    def _write_pending(self) -> None:
        active = self._active
        executor = active.executor
        report, self._pending = self._pending, None
        self._next_at = active.loop.time() + _INTERVAL
        written: asyncio.Future[bool] = active.loop.create_future()
        written.add_done_callback(self._on_written)
        self._writing = written
        executor.core.report_progress(
            executor.bridge.core, written, active.run_id, active.token, json.dumps(report)
        )

    def _on_written(self, written: asyncio.Future[bool]) -> None:
        self._writing = None
        error = None if written.cancelled() else written.exception()
        if error is not None:
            _log.debug(
                "a report of the progress of run %s was lost: %s", self._active.run_id, error
            )
        if not self._active.is_reported:
            self._schedule()
