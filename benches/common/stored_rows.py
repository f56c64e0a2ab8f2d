"""Rows of other schedules and finished runs, copied by the server from one of each."""

from __future__ import annotations

from datetime import timedelta

import pg_server
from polos import PolosClient, Worker, schedules, workflow

# The first row is the template; the others are copies with their own ids and keys.
COPY_SCHEDULES = """
INSERT INTO polos.schedule ({columns}) SELECT {values}
FROM polos.schedule s, generate_series(1, {count}) n WHERE s.key = 'template'
"""

COPY_RUNS = """
INSERT INTO polos.run ({columns}) SELECT {values}
FROM polos.run r, generate_series(1, {count}) n WHERE r.key = 'template'
"""


@workflow(id="other", schedule=True)
async def other() -> None:
    return None


def _copied(server: pg_server.Server, table: str, changed: dict[str, str]) -> tuple[str, str]:
    """Return the columns of a table, and values for copies of a row in which some change."""
    names = server.sql(
        "SELECT string_agg(attname, ' ') FROM pg_attribute WHERE attnum > 0 AND NOT attisdropped "
        f"AND attidentity = '' AND attgenerated = '' AND attrelid = 'polos.{table}'::regclass"
    ).split()
    values = [changed.get(name, f"{table[0]}.{name}") for name in names]
    return ", ".join(names), ", ".join(values)


async def store(client: PolosClient, server: pg_server.Server, count: int, finished: int) -> None:
    """Store ``count`` schedules that are not due, and ``finished`` runs of a thousand of them."""
    async with Worker(client):
        await schedules.create(client, other, key="template", every=timedelta(days=3_000))
        await (await other.invoke(client, key="template"))
    if count:
        changed = {"id": "'sch_' || n", "key": "'k' || n"}
        columns, values = _copied(server, "schedule", changed)
        server.sql(COPY_SCHEDULES.format(columns=columns, values=values, count=count))
    if finished:
        changed = {
            "id": "'run_' || n",
            "key": "'k' || n % 1000",
            "schedule_id": "'sch_' || n % 1000",
        }
        columns, values = _copied(server, "run", {**changed, "slot": "n"})
        server.sql(COPY_RUNS.format(columns=columns, values=values, count=finished))
