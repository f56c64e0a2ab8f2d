"""``ctx.log``: a logger whose records name the run."""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from typing import Any

__all__ = ["RunLog"]

_log = logging.getLogger("polos.run")


class RunLog(logging.LoggerAdapter):  # type: ignore[type-arg]
    """Adds the run to every record."""

    def __init__(self, run_id: str, workflow_id: str, key: str) -> None:
        super().__init__(_log, {"run_id": run_id, "workflow": workflow_id, "key": key})

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, Any]:
        kwargs["extra"] = {**(self.extra or {}), **(kwargs.get("extra") or {})}
        return msg, kwargs
