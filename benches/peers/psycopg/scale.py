"""Measure what a fire costs on PostgreSQL without a scheduler: one transaction inserts a batch of
rows and advances their schedules, another completes them; all as arrays.
"""

import time

import psycopg

import pg_server
import side

options = side.options(url="", count=10_000, batch=500)

CREATE = """
CREATE TABLE schedule (id text PRIMARY KEY, workflow text, next_slot bigint);
CREATE INDEX ON schedule (workflow, next_slot);
CREATE TABLE run (id text PRIMARY KEY, schedule_id text, slot bigint, state text, result text);
CREATE INDEX ON run (schedule_id, slot)
"""

FIRE = """
WITH due AS (
    SELECT id, next_slot FROM schedule WHERE workflow = 'fire' AND next_slot <= 1
    ORDER BY next_slot LIMIT %s FOR UPDATE SKIP LOCKED
), advanced AS (
    UPDATE schedule s SET next_slot = s.next_slot + 60 FROM due WHERE s.id = due.id RETURNING s.id
)
INSERT INTO run SELECT 'run_' || a.id, a.id, 1, 'running', NULL FROM advanced a RETURNING id
"""

END = "UPDATE run SET state = 'succeeded', result = 'null' WHERE id = ANY(%s) AND state = 'running'"


def main() -> None:
    server = pg_server.Server(options.url)
    server.without_full_pages(True)
    try:
        with psycopg.connect(options.url, autocommit=True) as database:
            database.execute(CREATE)
            with database.cursor().copy("COPY schedule FROM STDIN") as copy:
                for number in range(options.count):
                    copy.write_row((f"sch_{number:026}", "fire", 1))
            server.sql("CHECKPOINT")
            position, used = server.log_position(), server.processor_seconds()
            own, begun = side.processor_seconds(), time.perf_counter()
            for _ in range(0, options.count, options.batch):
                ids = [row[0] for row in database.execute(FIRE, (options.batch,))]
                assert len(ids) == options.batch
                database.execute(END, (ids,))
            seconds = time.perf_counter() - begun
            used = server.processor_seconds() - used + side.processor_seconds() - own
            position = server.log_position() - position
    finally:
        server.without_full_pages(False)
    side.report(
        fires_per_s=side.rate(options.count, seconds),
        cpu_us=used / options.count * 1e6,
        log_bytes=position / options.count,
    )


main()
