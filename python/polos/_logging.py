"""Our own loggers: what an application's logging handlers raise must not reach the worker.

``logging`` catches what its own handlers raise while they write, and no more: a filter, a handler
without that care, or an exception that can't be looked at would otherwise leave a run without its
end, or the runs behind it without their start.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Any

__all__ = ["QuietLogger", "quiet_logger"]


class QuietLogger:
    """Says something, or doesn't; never raises."""

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def debug(self, text: str, *args: Any) -> None:
        """For who looks for the cause of something."""
        self._say(logging.DEBUG, text, args)

    def info(self, text: str, *args: Any) -> None:
        """Something that need not be looked into."""
        self._say(logging.INFO, text, args)

    def warning(self, text: str, *args: Any, exc_info: Any = None) -> None:
        """Something that should be looked into; with ``exc_info``, the exception."""
        self._say(logging.WARNING, text, args, exc_info)

    def error(self, text: str, *args: Any, exc_info: Any = None) -> None:
        """Something went wrong; with ``exc_info``, the exception."""
        self._say(logging.ERROR, text, args, exc_info)

    def exception(self, text: str, *args: Any) -> None:
        """Something went wrong, with the exception that is being handled."""
        self._say(logging.ERROR, text, args, True)

    def _say(self, level: int, text: str, args: tuple[Any, ...], exc_info: Any = None) -> None:
        # The third frame from here is who speaks.
        try:
            self._logger.log(level, text, *args, exc_info=exc_info, stacklevel=3)
        except Exception:
            if exc_info is not None:
                # It may have been the exception, or one that it was raised from.
                with suppress(Exception):
                    self._logger.log(level, text, *args, stacklevel=3)


def quiet_logger(name: str) -> QuietLogger:
    """The logger of that name, whose handlers may do what they like."""
    return QuietLogger(name)
