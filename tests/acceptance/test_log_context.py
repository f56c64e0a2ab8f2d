"""Every log record of a handler has the run's fields."""

from __future__ import annotations

import asyncio
import io
import logging
import logging.config
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

import polos.logging
from polos import SyncWorkflowContext, WorkflowContext, runs, schedules, workflow
from polos.testing import VirtualTime

library = logging.getLogger("another.package")


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """Return the output of a handler on the root logger, by run."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(run_id)s %(workflow)s %(key)s %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    polos.logging.install([handler])
    polos.logging.install([handler])
    assert len(handler.filters) == 1
    yield stream
    root.removeHandler(handler)


async def test_records_of_other_loggers_carry_the_run(
    polos_clock: VirtualTime, written: io.StringIO
) -> None:
    async def fetch() -> None:
        library.warning("in a step")

    async def beside() -> None:
        library.warning("in a task")

    @workflow(schedule=True)
    async def digest(ctx: WorkflowContext) -> None:
        library.warning("in the handler")
        await ctx.step.run("fetch", fetch)
        await ctx.step.run("thread", library.warning, "in a thread")
        await asyncio.create_task(beside())
        ctx.log.warning("by its own log")
        library.warning("with its own key", extra={"key": "mine"})

    id = await schedules.create(polos_clock.client, digest, cron="0 8 * * *", key="ada")
    handle = await schedules.trigger(polos_clock.client, id)
    await handle.result()
    library.warning("outside")
    assert written.getvalue().splitlines() == [
        f"{handle.id} digest ada in the handler",
        f"{handle.id} digest ada in a step",
        f"{handle.id} digest ada in a thread",
        f"{handle.id} digest ada in a task",
        f"{handle.id} digest ada by its own log",
        f"{handle.id} digest mine with its own key",
        "- - - outside",
    ]


async def test_records_of_concurrent_runs_are_distinguished(
    polos_clock: VirtualTime, written: io.StringIO
) -> None:
    @workflow
    async def job(ctx: WorkflowContext, number: int) -> None:
        await asyncio.sleep(0)
        library.warning("%d", number)
        await ctx.step.run("again", asyncio.sleep, 0)
        library.warning("%d", number)

    handles = [await job.invoke(polos_clock.client, number) for number in range(5)]
    await asyncio.gather(*(handle.result() for handle in handles))
    lines = written.getvalue().splitlines()
    assert sorted(lines) == sorted(
        f"{handle.id} job global {number}" for number, handle in enumerate(handles) for _ in "ab"
    )


async def test_a_sync_handler_s_records_carry_the_run(
    polos_clock: VirtualTime, written: io.StringIO
) -> None:
    @workflow
    def job(ctx: SyncWorkflowContext) -> None:
        library.warning("here")
        ctx.step.run("step", library.warning, "there")

    handle = await job.invoke(polos_clock.client)
    await handle.result()
    assert written.getvalue() == f"{handle.id} job global here\n{handle.id} job global there\n"


async def test_an_error_of_a_run_says_which(polos_clock: VirtualTime, written: io.StringIO) -> None:
    @workflow
    async def job() -> None:
        raise ValueError("no luck")

    handle = await job.invoke(polos_clock.client)
    await polos_clock.advance(seconds=1)
    assert (await runs.get(polos_clock.client, handle.id)).status == "failed"
    assert written.getvalue().startswith(f"{handle.id} job global run {handle.id} of workflow")


async def test_structlog_events_carry_the_run_too(polos_clock: VirtualTime) -> None:
    events: list[Any] = []

    def keep(logger: Any, method: str, event: Any) -> Any:
        events.append(dict(event))
        raise structlog.DropEvent

    logger = structlog.wrap_logger(None, processors=[polos.logging.add_run, keep])

    @workflow
    async def job() -> None:
        logger.info("inside", key="mine")

    handle = await job.invoke(polos_clock.client)
    await handle.result()
    logger.info("outside")
    assert events == [
        {"event": "inside", "key": "mine", "run_id": handle.id, "workflow": "job"},
        {"event": "outside"},
    ]


async def test_it_is_configured_like_any_filter(polos_clock: VirtualTime) -> None:
    stream = io.StringIO()
    logging.config.dictConfig(
        {
            "version": 1,
            "incremental": False,
            "disable_existing_loggers": False,
            "filters": {"run": {"()": "polos.logging.RunFilter", "missing": None}},
            "formatters": {"short": {"format": "%(workflow)s: %(message)s"}},
            "handlers": {
                "out": {
                    "class": "logging.StreamHandler",
                    "stream": stream,
                    "filters": ["run"],
                    "formatter": "short",
                }
            },
            "loggers": {"configured": {"handlers": ["out"], "propagate": False}},
        }
    )

    @workflow
    async def job() -> None:
        logging.getLogger("configured").warning("inside")

    await job.run(polos_clock.client)
    logging.getLogger("configured").warning("outside")
    assert stream.getvalue() == "job: inside\nNone: outside\n"
    logging.getLogger("configured").handlers.clear()


def test_outside_of_handlers_there_is_no_run() -> None:
    assert polos.logging.current() == {}
