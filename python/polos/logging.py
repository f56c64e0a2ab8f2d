"""Which run a log record was made in: ``run_id``, ``workflow`` and ``key`` for every record.

``ctx.log`` says so by itself. This is for all other loggers, those of libraries included::

    logging.basicConfig(format="%(run_id)s %(message)s")
    polos.logging.install()

    structlog.configure(processors=[polos.logging.add_run, ...])
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, MutableMapping
from typing import Any

from polos._worker import current_run

__all__ = ["RunFilter", "add_run", "current", "install"]

_FIELDS = ("run_id", "workflow", "key")


def current() -> dict[str, str]:
    """``run_id``, ``workflow`` and ``key`` of the run whose handler, or what it has started, is
    being executed here; nothing outside of handlers.
    """
    active = current_run()
    if active is None:
        return {}
    return {"run_id": active.run_id, "workflow": active.workflow.id, "key": active.key}


class RunFilter(logging.Filter):
    """Adds ``run_id``, ``workflow`` and ``key`` to records; put it on handlers, not on loggers.

    On a handler it sees the records of all loggers. It holds back nothing, and leaves fields alone
    that a record has by itself.

    :param missing: what the fields are outside of handlers.
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
    """Have ``handlers`` (those of the root logger by default) add the run to every record. Doing so
    again changes nothing.
    """
    for handler in logging.getLogger().handlers if handlers is None else handlers:
        if not any(isinstance(filter, RunFilter) for filter in handler.filters):
            handler.addFilter(RunFilter(missing))


def add_run(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A processor for structlog, which adds the same to every event made inside a handler."""
    for field, value in current().items():
        event.setdefault(field, value)
    return event
