"""The log format of a worker on the command line."""

from __future__ import annotations

import logging
import os

from polos._validate.formatting import shown
from polos.cli.ui.console import TYPED_WRONG, fail

__all__ = ["LEVEL_VARIABLE", "log_to_stderr"]

LEVEL_VARIABLE = "POLOS_LOG_LEVEL"
_LEVELS = ("debug", "info", "warning", "error", "critical")


def log_to_stderr(prefix: str = "") -> None:
    """Log to stderr, unless the imported code has configured logging.

    The variable POLOS_LOG_LEVEL has the level. Exits if it is no level.

    :param prefix: what the source of each line begins with, such as a worker's number.
    """
    name = os.environ.get(LEVEL_VARIABLE) or "info"
    if name.lower() not in _LEVELS:
        fail(
            f"{LEVEL_VARIABLE}: {shown(name)} given, expected one of {', '.join(_LEVELS)}",
            TYPED_WRONG,
        )
    handler = logging.StreamHandler()
    handler.setFormatter(_Formatter(prefix))
    logging.basicConfig(level=name.upper(), handlers=[handler])


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

    def __init__(self, prefix: str = "") -> None:
        layout = "%(asctime)s.%(msecs)03d %(levelname)-7s {prefix}%(who)s: %(message)s"
        super().__init__(layout.format(prefix=prefix), "%H:%M:%S")
