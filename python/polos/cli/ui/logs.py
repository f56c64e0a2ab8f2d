"""The log format of a worker on the command line."""

from __future__ import annotations

import logging

__all__ = ["log_to_stderr"]


def log_to_stderr() -> None:
    """Log to stderr, unless the imported code has configured logging."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Formatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler])


class _Formatter(logging.Formatter):
    """Formats time, level, source (the run's workflow and key, if the record has them), and
    message.
    """

    def format(self, record: logging.LogRecord) -> str:
        workflow, key = getattr(record, "workflow", None), getattr(record, "key", None)
        record.who = record.name if workflow is None else workflow
        if workflow is not None and key != "global":
            record.who = f"{workflow}[{key}]"
        return super().format(record)

    def __init__(self) -> None:
        super().__init__("%(asctime)s.%(msecs)03d %(levelname)-7s %(who)s: %(message)s", "%H:%M:%S")
