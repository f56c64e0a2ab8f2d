"""The cost of runs on a PostgreSQL server without a scheduler.

A row is inserted and committed, then updated and committed; a hundred rows in two transactions.
"""

import time

import psycopg

import side

options = side.options(url="", alone=400, at_once=100, batches=20)

INSERT = "INSERT INTO run (id, state) VALUES (%s, 'running')"
UPDATE = "UPDATE run SET state = 'succeeded', result = 'null' WHERE id = %s AND state = 'running'"


def main() -> None:
    with psycopg.connect(options.url, autocommit=True) as database:
        database.execute("CREATE TABLE run (id bigint PRIMARY KEY, state text, result text)")
        begun = time.perf_counter()
        for id in range(options.alone):
            database.execute(INSERT, (id,))
            database.execute(UPDATE, (id,))
        alone = time.perf_counter() - begun
        begun = time.perf_counter()
        for batch in range(1, options.batches + 1):
            ids = [(batch * 1_000_000 + n,) for n in range(options.at_once)]
            for statement in (INSERT, UPDATE):
                with database.transaction():
                    database.cursor().executemany(statement, ids)
        together = time.perf_counter() - begun
    side.report(
        alone_per_s=side.rate(options.alone, alone),
        together_per_s=side.rate(options.at_once * options.batches, together),
    )


main()
