"""Faults of the connection to PostgreSQL: refused logins, changed types, dead hosts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from faults.cluster import gaps
from faults.server import LEASE, TROUBLE, RetryingClient, bench_on, start_load
from network import Host, Network
from servers import IMMEDIATE, Server, ServerFactory, together

from harness import PYTHON, UNBUFFERED, Bench, WorkerProcess, until

DENIED = "the database refuses this worker"
RECOVERED = "the database works again"

# The longest gap in ticks when the primary's host dies and its standby is promoted at once.
LONGEST = 15.0

CUT = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'worker'"


@dataclass(frozen=True)
class Denial:
    """A way to refuse connections of workers, and its inverse."""

    what: str
    begin: Callable[[Server], object]
    end: Callable[[Server], object]


def ask_app(server: Server, sql: str) -> None:
    server.query(sql, database="app")


def each_table(statement: str) -> str:
    """Execute a statement for each table of polos; ``%1$I`` stands for its name."""
    return (
        "DO $$ DECLARE t text; BEGIN FOR t IN SELECT tablename FROM pg_tables"
        " WHERE schemaname = 'polos' LOOP"
        f" EXECUTE format('{statement}', t); END LOOP; END $$"
    )


def reject(server: Server) -> None:
    """Reject the role in pg_hba.conf."""
    hba = server.data / "pg_hba.conf"
    hba.write_text("host all worker all reject\n" + hba.read_text())
    server.query("SELECT pg_reload_conf()")


def admit(server: Server) -> None:
    hba = server.data / "pg_hba.conf"
    hba.write_text(hba.read_text().replace("host all worker all reject\n", ""))
    server.query("SELECT pg_reload_conf()")


def rename(server: Server, before: str, after: str) -> None:
    """Rename the database, as when a backup is restored; retry while it is in use."""

    def is_renamed() -> bool:
        server.query(CUT)
        try:
            server.query(f"ALTER DATABASE {before} RENAME TO {after}")
        except AssertionError:
            return False
        return True

    if not until(is_renamed):
        raise AssertionError("the database can't be renamed")


DENIALS = [
    Denial("pg_hba rejects the role", reject, admit),
    Denial(
        "the role may not log in",
        lambda server: server.query("ALTER ROLE worker NOLOGIN"),
        lambda server: server.query("ALTER ROLE worker LOGIN"),
    ),
    Denial(
        "the database has another name",
        lambda server: rename(server, "app", "away"),
        lambda server: rename(server, "away", "app"),
    ),
    Denial(
        "the schema has another name",
        lambda server: ask_app(server, "ALTER SCHEMA polos RENAME TO away"),
        lambda server: ask_app(server, "ALTER SCHEMA away RENAME TO polos"),
    ),
    Denial(
        "rights are revoked",
        lambda server: ask_app(server, each_table("REVOKE ALL ON polos.%1$I FROM worker")),
        lambda server: ask_app(server, each_table("GRANT ALL ON polos.%1$I TO worker")),
    ),
    Denial(
        "row-level security hides all rows",
        lambda server: ask_app(
            server,
            each_table(
                "ALTER TABLE polos.%1$I ENABLE ROW LEVEL SECURITY;"
                " ALTER TABLE polos.%1$I FORCE ROW LEVEL SECURITY"
            ),
        ),
        lambda server: ask_app(
            server,
            each_table(
                "ALTER TABLE polos.%1$I NO FORCE ROW LEVEL SECURITY;"
                " ALTER TABLE polos.%1$I DISABLE ROW LEVEL SECURITY"
            ),
        ),
    ),
]


def f18c(bench: Bench) -> None:
    """Connections of workers are refused for some seconds in six ways; each worker logs it once."""
    with ServerFactory() as servers:
        server = servers.server()
        server.query("CREATE ROLE worker LOGIN")
        server.query("CREATE DATABASE app OWNER worker")
        url = server.url.replace("polos@", "worker@").replace("/postgres", "/app")
        with bench_on(bench, url) as part:
            workers = [part.start("--lease", LEASE).ready() for _ in range(2)]
            part.create_digests()
            requester = RetryingClient(part)
            for number in range(bench.times(36, 6)):
                start_load(part, requester)
                denial = DENIALS[number % len(DENIALS)]
                before = [count_of(worker, DENIED) for worker in workers]
                denial.begin(server)

                def is_logged(before: list[int] = before) -> bool:
                    server.query(CUT)
                    return all(
                        count_of(worker, DENIED) > count
                        for worker, count in zip(workers, before, strict=True)
                    )

                is_logged = until(is_logged)
                part.verdict.expect("I12", is_logged, f"{denial.what}: a worker doesn't log it")
                if number < len(DENIALS):
                    check_doctor(part, url, denial.what)
                time.sleep(part.random.uniform(0.0, 2 * LEASE))
                denial.end(server)
                requester.wait_until_working(*workers)
                # The next refusal counts as a new outage.
                until(partial(all_recovered, workers))
                part.injections += 1
            for worker in workers:
                times = count_of(worker, DENIED)
                text = f"{part.injections} refusals were logged {times} times"
                part.verdict.expect("I12", times == part.injections, text)
                times = worker.errors.read_text().count("went back in time")
                part.verdict.expect("I12", times == 0, "the database did not go back")
            requester.check()
            part.finish(LEASE)


def count_of(worker: WorkerProcess, words: str) -> int:
    return worker.errors.read_text().count(words)


def all_recovered(workers: list[WorkerProcess]) -> bool:
    """Return whether the last line of each worker about its database is the recovery."""
    return all(has_recovered(worker.errors.read_text()) for worker in workers)


def has_recovered(text: str) -> bool:
    return text.rfind(RECOVERED) > max(text.rfind(DENIED), text.rfind(TROUBLE))


def check_doctor(bench: Bench, url: str, what: str) -> None:
    """I12: ``polos doctor`` reports the cause."""
    done = subprocess.run(
        [sys.executable, "-m", "polos", "doctor", "--json", "--database", url],
        env={**os.environ, **UNBUFFERED, "PYTHONPATH": str(PYTHON)},
        capture_output=True,
        text=True,
    )
    checks = json.loads(done.stdout)["checks"]
    problems = [check for check in checks if check["level"] == "problem"]
    text = f"{what}: {checks}"
    bench.verdict.expect("I12", done.returncode == 1 and problems, text)


def f18d(bench: Bench) -> None:
    """The types of all columns change and change back while workers use them."""
    kinds = ("varchar", "text")
    with ServerFactory() as servers:
        server = servers.server()
        with bench_on(bench, server.url) as part:
            workers = [part.start("--lease", LEASE).ready() for _ in range(2)]
            part.create_digests()
            requester = RetryingClient(part)
            for number in range(bench.times(20, 2)):
                start_load(part, requester)
                alter_columns(server, kinds[number % 2])
                requester.wait_until_working(*workers)
                part.injections += 1
            for worker in workers:
                text = worker.errors.read_text()
                times = text.count(TROUBLE) + text.count(DENIED)
                log = f"{part.injections} changes were logged {times} times: {text[-1000:]}"
                part.verdict.expect("I12", times <= part.injections, log)
            requester.check()
            part.finish(LEASE)


def alter_columns(server: Server, kind: str) -> None:
    """Change one table after another, as migrations do."""
    rows = server.query(
        "SELECT c.table_name, string_agg(format('ALTER COLUMN %I TYPE "
        f'{kind} COLLATE "C"'
        "', c.column_name), ', ') FROM information_schema.columns c JOIN pg_tables t"
        " ON t.schemaname = c.table_schema AND t.tablename = c.table_name"
        " WHERE c.table_schema = 'polos' AND c.data_type IN ('text', 'character varying')"
        # PostgreSQL doesn't change the type of a column in an index's or a trigger's condition.
        " AND c.column_name <> 'state' AND NOT EXISTS (SELECT FROM pg_depend d"
        " WHERE d.classid = 'pg_trigger'::regclass AND d.refobjsubid = c.ordinal_position"
        " AND d.refobjid = format('%I.%I', c.table_schema, c.table_name)::regclass)"
        " AND c.is_generated = 'NEVER' GROUP BY 1"
    )
    for table, changes in rows:

        def is_altered(table: str = table, changes: str = changes) -> bool:
            try:
                server.query(f"SET lock_timeout = '1s'; ALTER TABLE polos.{table} {changes}")
            except AssertionError:  # after a deadlock or a lock timeout, as migrations do
                return False
            return True

        if not until(is_altered):
            raise AssertionError(f"the table {table} can't be altered")


def f15c(bench: Bench) -> None:
    """The primary's host drops all packets, and its synchronous standby is promoted at once."""
    with Network() as network, ServerFactory() as servers:
        hosts = [network.host(name) for name in ("db1", "db2")]
        primary = servers.server(on_host=hosts[0])
        standby = following(servers, primary, hosts[1])
        # The dead host is first in the URL, then last.
        with bench_on(bench, together(primary, standby)) as part:
            workers = [part.start("--lease", LEASE).ready() for _ in range(2)]
            part.create_digests()
            requester = RetryingClient(part, 60.0)
            requester.wait_until_working(*workers)
            worst = 0.0
            for _ in range(bench.times(10)):
                start_load(part, requester)
                since = time.time()
                dead = primary.on_host
                assert dead is not None
                dead.disconnect()
                standby.promote()
                requester.wait_until_working(*workers)
                none, one = gaps(part, since)
                worst = max(worst, one)
                found = f"no tick for {none:.1f} s, none of the slowest schedule for {one:.1f} s"
                part.verdict.expect("I7", one <= LONGEST, found)
                part.remarks.append(found)
                part.injections += 1
                primary.stop(IMMEDIATE)
                dead.connect()
                port = primary.port
                primary, standby = standby, following(servers, standby, dead, port)
            part.remarks.append(f"the longest gap in ticks of a schedule was {worst:.1f} s")
            requester.check()
            part.finish(LEASE)


def following(
    servers: ServerFactory, primary: Server, host: Host, port: int | None = None
) -> Server:
    """Start a synchronous standby on this host, without which nothing is committed."""
    standby = servers.copy_of(primary, follows=True, port=port, on_host=host).start()
    primary.query("ALTER SYSTEM SET synchronous_standby_names = '*'")
    primary.query("SELECT pg_reload_conf()")
    if not primary.waits_until(
        "SELECT count(*) = 1 FROM pg_stat_replication WHERE sync_state = 'sync'"
    ):
        raise AssertionError("the standby doesn't replicate")
    return standby


FAULTS: dict[str, Callable[[Bench], None]] = {"F15c": f15c, "F18c": f18c, "F18d": f18d}
