"""The cost of enqueueing on a PostgreSQL server without a scheduler.

Rows with an id, a payload, and an index for claims: all in one COPY, and all in one INSERT from
arrays.
"""

import time

import psycopg

import side

options = side.options(url="", count=20_000)

CREATE = """
CREATE TABLE job (
    id text PRIMARY KEY, workflow text, payload text, state text, available_at bigint
);
CREATE INDEX ON job (workflow, available_at) WHERE state = 'queued'
"""


def rows(kind: str) -> list[tuple[str, str, str, str, int]]:
    now = time.time_ns() // 1_000
    return [
        (f"{kind}_{number:026}", "nothing", str(number), "queued", now)
        for number in range(options.count)
    ]


def main() -> None:
    with psycopg.connect(options.url, autocommit=True) as database:
        database.execute(CREATE)
        begun = time.perf_counter()
        with database.cursor().copy("COPY job FROM STDIN") as copy:
            for row in rows("copy"):
                copy.write_row(row)
        copied = time.perf_counter() - begun
        begun = time.perf_counter()
        arrays = [list(column) for column in zip(*rows("unnest"), strict=True)]
        database.execute(
            "INSERT INTO job SELECT * FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[], "
            "%s::bigint[])",
            arrays,
        )
        inserted = time.perf_counter() - begun
    side.report(
        copy_per_s=side.rate(options.count, copied), unnest_per_s=side.rate(options.count, inserted)
    )


main()
