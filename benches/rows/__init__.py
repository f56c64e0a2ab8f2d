"""The rows, in the order of the report."""

from harness.model import Row
from rows import (
    core,
    create,
    cron,
    crossings,
    fires,
    herd,
    imports,
    lateness,
    limits,
    parse,
    pg_workers,
    postgres,
    preview,
    processes,
    runs,
    several,
    steps,
    stored,
)

ROWS: tuple[Row, ...] = (
    herd.ROW,
    fires.ROW,
    lateness.ROW,
    steps.ROW,
    runs.ROW,
    limits.ROW,
    create.ROW,
    stored.ROW,
    postgres.ROW,
    pg_workers.ROW,
    several.ROW,
    processes.ROW,
    imports.ROW,
    cron.ROW,
    parse.ROW,
    preview.ROW,
    core.ROW,
    crossings.ROW,
)
