"""Faults of the way to a PostgreSQL server: who may log in, what sessions know, dead hosts."""

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
from faults.server import LEASE, TROUBLE, Asker, on, under_load
from network import Host, Network
from servers import IMMEDIATE, Place, Server, together

from harness import PYTHON, UNBUFFERED, Bench, Life, until

DENIED = "the database refuses this worker"
RECOVERED = "the database works again"

# The longest gap in ticks when the primary's host dies and its standby is promoted at once.
LONGEST = 15.0

CUT = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'worker'"


@dataclass(frozen=True)
class Denial:
    """A way in which an operator keeps workers out, and what ends it."""

    what: str
    begin: Callable[[Server], object]
    end: Callable[[Server], object]


def ask_app(server: Server, sql: str) -> None:
    server.ask(sql, database="app")


def each_table(statement: str) -> str:
    """Executes a statement for every table of ours, with its name for ``%1$I``."""
    return (
        "DO $$ DECLARE t text; BEGIN FOR t IN SELECT tablename FROM pg_tables"
        " WHERE schemaname = 'polos' LOOP"
        f" EXECUTE format('{statement}', t); END LOOP; END $$"
    )


def reject(server: Server) -> None:
    """By pg_hba.conf."""
    hba = server.data / "pg_hba.conf"
    hba.write_text("host all worker all reject\n" + hba.read_text())
    server.ask("SELECT pg_reload_conf()")


def admit(server: Server) -> None:
    hba = server.data / "pg_hba.conf"
    hba.write_text(hba.read_text().replace("host all worker all reject\n", ""))
    server.ask("SELECT pg_reload_conf()")


def rename(server: Server, before: str, after: str) -> None:
    """A database, as while a backup is restored beside it; somebody may come in between."""

    def is_renamed() -> bool:
        server.ask(CUT)
        try:
            server.ask(f"ALTER DATABASE {before} RENAME TO {after}")
        except AssertionError:
            return False
        return True

    if not until(is_renamed):
        raise AssertionError("the database can't be renamed")


DENIALS = [
    Denial("pg_hba rejects the role", reject, admit),
    Denial(
        "the role may not log in",
        lambda server: server.ask("ALTER ROLE worker NOLOGIN"),
        lambda server: server.ask("ALTER ROLE worker LOGIN"),
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
    """Workers are kept out for some seconds, in six ways; none ends, and each says so once."""
    with Place() as place:
        server = place.server()
        server.ask("CREATE ROLE worker LOGIN")
        server.ask("CREATE DATABASE app OWNER worker")
        url = server.url.replace("polos@", "worker@").replace("/postgres", "/app")
        with on(bench, url) as part:
            workers = [part.start("--lease", LEASE).ready() for _ in range(2)]
            part.create_digests()
            asker = Asker(part)
            for number in range(bench.times(36, 6)):
                under_load(part, asker)
                denial = DENIALS[number % len(DENIALS)]
                before = [said(life, DENIED) for life in workers]
                denial.begin(server)

                def is_said(before: list[int] = before) -> bool:
                    server.ask(CUT)
                    return all(
                        said(life, DENIED) > count
                        for life, count in zip(workers, before, strict=True)
                    )

                told = until(is_said)
                part.verdict.expect("I12", told, f"{denial.what}: a worker doesn't say so")
                if number < len(DENIALS):
                    check_doctor(part, url, denial.what)
                time.sleep(part.random.uniform(0.0, 2 * LEASE))
                denial.end(server)
                asker.works(*workers)
                # The next one is an outage of its own.
                until(partial(all_recovered, workers))
                part.injections += 1
            for life in workers:
                times = said(life, DENIED)
                text = f"{part.injections} denials were told {times} times"
                part.verdict.expect("I12", times == part.injections, text)
                times = life.errors.read_text().count("went back in time")
                part.verdict.expect("I12", times == 0, "the database did not go back")
            asker.check()
            part.finish(LEASE)


def said(life: Life, words: str) -> int:
    return life.errors.read_text().count(words)


def all_recovered(workers: list[Life]) -> bool:
    """Whether the last that each said of its database is that it works."""
    return all(has_recovered(life.errors.read_text()) for life in workers)


def has_recovered(text: str) -> bool:
    return text.rfind(RECOVERED) > max(text.rfind(DENIED), text.rfind(TROUBLE))


def check_doctor(bench: Bench, url: str, what: str) -> None:
    """I12: ``polos doctor`` says what is wrong."""
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
    """The types of all columns change under the workers, to and fro."""
    kinds = ("varchar", "text")
    with Place() as place:
        server = place.server()
        with on(bench, server.url) as part:
            workers = [part.start("--lease", LEASE).ready() for _ in range(2)]
            part.create_digests()
            asker = Asker(part)
            for number in range(bench.times(20, 2)):
                under_load(part, asker)
                alter_columns(server, kinds[number % 2])
                asker.works(*workers)
                part.injections += 1
            for life in workers:
                text = life.errors.read_text()
                times = text.count(TROUBLE) + text.count(DENIED)
                told = f"{part.injections} changes were told {times} times: {text[-1000:]}"
                part.verdict.expect("I12", times <= part.injections, told)
            asker.check()
            part.finish(LEASE)


def alter_columns(server: Server, kind: str) -> None:
    """Tables are locked one after another, as those who migrate them do."""
    rows = server.ask(
        "SELECT c.table_name, string_agg(format('ALTER COLUMN %I TYPE "
        f'{kind} COLLATE "C"'
        "', c.column_name), ', ') FROM information_schema.columns c JOIN pg_tables t"
        " ON t.schemaname = c.table_schema AND t.tablename = c.table_name"
        " WHERE c.table_schema = 'polos' AND c.data_type IN ('text', 'character varying')"
        # PostgreSQL lets nobody change the type of a column in an index's condition or a trigger's.
        " AND c.column_name NOT IN ('state', 'tags') AND c.is_generated = 'NEVER' GROUP BY 1"
    )
    for table, changes in rows:

        def is_altered(table: str = table, changes: str = changes) -> bool:
            try:
                server.ask(f"SET lock_timeout = '1s'; ALTER TABLE polos.{table} {changes}")
            except AssertionError:  # a deadlock, or somebody at work; as whoever alters tables does
                return False
            return True

        if not until(is_altered):
            raise AssertionError(f"the table {table} can't be altered")


def f15c(bench: Bench) -> None:
    """The primary's host swallows packets from one moment to the next, and its synchronous standby
    is promoted at once.
    """
    with Network() as network, Place() as place:
        hosts = [network.host(name) for name in ("db1", "db2")]
        primary = place.server(on_host=hosts[0])
        standby = following(place, primary, hosts[1])
        # The dead one stands first, and then last.
        with on(bench, together(primary, standby)) as part:
            workers = [part.start("--lease", LEASE).ready() for _ in range(2)]
            part.create_digests()
            asker = Asker(part, 60.0)
            asker.works(*workers)
            worst = 0.0
            for _ in range(bench.times(10)):
                under_load(part, asker)
                since = time.time()
                dead = primary.on_host
                assert dead is not None
                dead.disconnect()
                standby.promote()
                asker.works(*workers)
                none, one = gaps(part, since)
                worst = max(worst, one)
                found = f"no tick for {none:.1f} s, none of the slowest schedule for {one:.1f} s"
                part.verdict.expect("I7", one <= LONGEST, found)
                part.remarks.append(found)
                part.injections += 1
                primary.stop(IMMEDIATE)
                dead.connect()
                port = primary.port
                primary, standby = standby, following(place, standby, dead, port)
            part.remarks.append(f"the longest gap in ticks of a schedule was {worst:.1f} s")
            asker.check()
            part.finish(LEASE)


def following(place: Place, primary: Server, host: Host, port: int | None = None) -> Server:
    """A standby on this host, without which nothing is committed any more."""
    standby = place.copy_of(primary, follows=True, port=port, on_host=host).start()
    primary.ask("ALTER SYSTEM SET synchronous_standby_names = '*'")
    primary.ask("SELECT pg_reload_conf()")
    if not primary.waits_until(
        "SELECT count(*) = 1 FROM pg_stat_replication WHERE sync_state = 'sync'"
    ):
        raise AssertionError("the standby doesn't follow")
    return standby


FAULTS: dict[str, Callable[[Bench], None]] = {"F15c": f15c, "F18c": f18c, "F18d": f18d}
