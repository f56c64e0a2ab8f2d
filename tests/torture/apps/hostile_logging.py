"""A worker whose loggers or outputs are hostile: ``hostile_logging.py DATABASE HOW KEY``."""

from __future__ import annotations

import logging
import os
import sys
import threading
from datetime import timedelta

from polos import PolosClient, Worker, schedules, workflow
from polos._runtime.asyncio_run import run_to_end

DATABASE, HOW, KEY = sys.argv[1:]


@workflow(id="tick", schedule=True)
async def tick() -> None:
    logging.getLogger("polos.app").info("tick")


@workflow(id="failing")
async def failing() -> None:
    raise ValueError("expected")


class HostileHandler(logging.Handler):
    """A log handler that raises, blocks, or logs again."""

    def handle(self, record: logging.LogRecord) -> bool:
        if HOW == "raise":
            raise RuntimeError("the log server is away")
        if HOW == "block" and record.name == "polos.worker":
            threading.Event().wait(1.5)
        if HOW == "recurse":
            logging.getLogger("polos.worker").error("again")
        return True


class RaisingFilter(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        raise RuntimeError("no")


class ReportingWorker(Worker):
    async def start(self) -> None:
        await super().start()
        os.write(1, b"ready\n")
        await schedules.create(self.client, tick, every=timedelta(seconds=1), key=KEY)
        if HOW == "closed":
            os.close(1)
            os.close(2)
        elif HOW == "full":
            full = os.open("/dev/full", os.O_WRONLY)
            os.dup2(full, 1)
            os.dup2(full, 2)


def main() -> None:
    logging.basicConfig(level=logging.DEBUG)
    logger = logging.getLogger("polos")
    logger.setLevel(logging.DEBUG)
    if HOW == "filter":
        logging.getLogger("polos.worker").addFilter(RaisingFilter())
    elif HOW not in ("broken-pipe", "closed", "full"):
        logger.addHandler(HostileHandler())
    run_to_end(ReportingWorker(PolosClient(DATABASE), app=KEY, drain=1).run())


main()
