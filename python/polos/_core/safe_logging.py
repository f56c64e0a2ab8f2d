"""Loggers for polos itself: exceptions from an application's logging handlers must not reach the
worker.

``logging`` catches only what its own handlers raise while they write. A filter, a careless handler,
or an exception that cannot be formatted would otherwise leave a run without its completion, or
prevent the next runs from starting.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Any

__all__ = ["QuietLogger", "loggable", "quiet_logger"]


class QuietLogger:
    """A logger that never raises; a record that fails is dropped."""

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def debug(self, text: str, *args: Any) -> None:
        """Log details for debugging."""
        self._emit(logging.DEBUG, text, args)

    def info(self, text: str, *args: Any) -> None:
        """Log normal operation."""
        self._emit(logging.INFO, text, args)

    def warning(self, text: str, *args: Any, exc_info: Any = None) -> None:
        """Log something to look into; with ``exc_info``, the exception."""
        self._emit(logging.WARNING, text, args, exc_info)

    def error(self, text: str, *args: Any, exc_info: Any = None) -> None:
        """Log a failure; with ``exc_info``, the exception."""
        self._emit(logging.ERROR, text, args, exc_info)

    def exception(self, text: str, *args: Any) -> None:
        """Log a failure with the exception that is being handled."""
        self._emit(logging.ERROR, text, args, True)

    def _emit(self, level: int, text: str, args: tuple[Any, ...], exc_info: Any = None) -> None:
        # Attribute the record to the third frame from here: the caller of `info` and the like.
        try:
            self._logger.log(level, text, *args, exc_info=exc_info, stacklevel=3)
        except Exception:
            if exc_info is not None:
                # The exception, or one of its causes, may be what could not be logged.
                with suppress(Exception):
                    self._logger.log(level, text, *args, stacklevel=3)


def quiet_logger(name: str) -> QuietLogger:
    """Return a logger of that name that never raises, whatever its handlers do."""
    return QuietLogger(name)


def loggable(error: BaseException) -> BaseException | None:
    """Return the exception for a log record, or ``None`` if it cannot be printed."""
    try:
        str(error)
        error.__traceback__  # noqa: B018 -- what a log record looks at first
    except BaseException:
        return None
    return error
