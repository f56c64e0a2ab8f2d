"""Add ``run_id``, ``workflow``, and ``key`` to the log records that a run creates.

``ctx.log`` does this by itself. This module is for all other loggers, including those of
libraries::

    logging.basicConfig(format="%(run_id)s %(message)s")
    polos.logging.install()

    structlog.configure(processors=[polos.logging.add_run, ...])
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, MutableMapping
from typing import Any

from polos._runtime.current_run import current_run

__all__ = ["RunFilter", "add_run", "current", "install"]

_FIELDS = ("run_id", "workflow", "key")


def current() -> dict[str, str]:
    """Return ``run_id``, ``workflow``, and ``key`` of the run that executes here.

    Works inside a handler and in tasks and threads that it has started. Returns an empty dict
    outside of handlers.
    """
    active = current_run()
    if active is None:
        return {}
    return {"run_id": active.run_id, "workflow": active.workflow.id, "key": active.key}


class RunFilter(logging.Filter):
    """Adds ``run_id``, ``workflow``, and ``key`` to records. Add it to handlers, not to loggers.

    On a handler it sees the records of all loggers. It drops no records, and does not overwrite
    fields that a record already has.

    :param missing: the value of the fields outside of handlers.
    """

    def __init__(self, missing: str | None = "-") -> None:
        super().__init__()
        self._missing = missing

    def filter(self, record: logging.LogRecord) -> bool:
        """See ``logging.Filter``."""
        found = current()
        for field in _FIELDS:
            if field not in record.__dict__:
                record.__dict__[field] = found.get(field, self._missing)
        return True


def install(
    handlers: Iterable[logging.Handler] | None = None, *, missing: str | None = "-"
) -> None:
    """Make ``handlers`` (by default those of the root logger) add the run to every record.

    A second call changes nothing.
    """
    for handler in logging.getLogger().handlers if handlers is None else handlers:
        if not any(isinstance(filter, RunFilter) for filter in handler.filters):
            handler.addFilter(RunFilter(missing))


def add_run(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Add the run to an event: a processor for structlog."""
    for field, value in current().items():
        event.setdefault(field, value)
    return event
