"""Runs and schedules created in a transaction of the application, on all kinds of connections."""

from __future__ import annotations

import asyncio
import importlib.util
import re
import runpy
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

import polos.testing
from polos import (
    Debounce,
    InvalidArgumentError,
    InvalidScheduleError,
    InvalidStateError,
    PolosClient,
    RunHandle,
    RunNotFoundError,
    Worker,
    Workflow,
    WorkflowContext,
    WorkflowNotFoundError,
    runs,
    schedules,
    workflow,
)
from polos.exceptions import StoreUnavailableError

Eventually = Callable[[Callable[[], Any]], Awaitable[Any]]


def needs(*modules: str) -> Any:
    """Skip where a client library has no wheel for this Python."""
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


needs_psycopg = needs("psycopg")


@pytest.fixture
def url(new_schema: Callable[[], str]) -> str:
    return new_schema()


@pytest.fixture
def placeholder_client(url: str) -> Iterator[PolosClient]:
    """A client whose schema's name looks like a placeholder of client libraries."""
    with PolosClient(f"{url}%24p1%25%3Ap0%22") as client:
        yield client


@pytest.fixture
def client(url: str) -> Iterator[PolosClient]:
    with PolosClient(url) as client:
        yield client


class Connection:
    """A connection with an open transaction, and how to end it."""

    def __init__(self, it: Any, commit: Any, rollback: Any, execute: Any) -> None:
        self.it = it
        self.commit = commit
        self.rollback = rollback
        self.execute = execute


# --- kinds of connections --------------------------------------------------------------------


@asynccontextmanager
async def psycopg_async(postgres: str) -> AsyncIterator[Connection]:
    import psycopg

    async with await psycopg.AsyncConnection.connect(postgres) as it:
        yield Connection(it, it.commit, it.rollback, it.execute)


@asynccontextmanager
async def asyncpg_pooled(postgres: str) -> AsyncIterator[Connection]:
    import asyncpg

    async with (
        asyncpg.create_pool(postgres, min_size=1, max_size=1) as pool,
        pool.acquire() as it,
    ):
        transaction = it.transaction()
        await transaction.start()
        yield Connection(it, transaction.commit, transaction.rollback, it.execute)


def _async_engine(postgres: str, driver: str) -> Any:
    from sqlalchemy.ext.asyncio import create_async_engine

    return create_async_engine(postgres.replace("postgresql:", f"postgresql+{driver}:"))


@asynccontextmanager
async def sqlalchemy_async_connection(postgres: str) -> AsyncIterator[Connection]:
    from sqlalchemy import text

    engine = _async_engine(postgres, "asyncpg")
    async with engine.connect() as it:
        yield Connection(it, it.commit, it.rollback, lambda sql: it.execute(text(sql)))
    await engine.dispose()


@asynccontextmanager
async def sqlalchemy_async_session(postgres: str) -> AsyncIterator[Connection]:
    from sqlalchemy import text
    from sqlalchemy.ext.asyncio import AsyncSession

    engine = _async_engine(postgres, "psycopg")
    async with AsyncSession(engine) as it:
        yield Connection(it, it.commit, it.rollback, lambda sql: it.execute(text(sql)))
    await engine.dispose()


ASYNC = [
    pytest.param(psycopg_async, marks=needs_psycopg),
    pytest.param(asyncpg_pooled, marks=needs("asyncpg")),
    pytest.param(sqlalchemy_async_connection, marks=needs("sqlalchemy", "asyncpg")),
    pytest.param(sqlalchemy_async_session, marks=needs("sqlalchemy", "psycopg")),
]


@contextmanager
def psycopg_sync(postgres: str) -> Iterator[Connection]:
    import psycopg

    with psycopg.connect(postgres) as it:
        yield Connection(it, it.commit, it.rollback, it.execute)


@contextmanager
def sqlalchemy_connection(postgres: str) -> Iterator[Connection]:
    from sqlalchemy import create_engine, text

    engine = create_engine(postgres.replace("postgresql:", "postgresql+psycopg:"))
    with engine.connect() as it:
        yield Connection(it, it.commit, it.rollback, lambda sql: it.execute(text(sql)))
    engine.dispose()


@contextmanager
def sqlalchemy_session(postgres: str) -> Iterator[Connection]:
    from sqlalchemy import create_engine, text
    from sqlalchemy.orm import Session

    engine = create_engine(postgres.replace("postgresql:", "postgresql+psycopg:"))
    with Session(engine) as it:
        yield Connection(it, it.commit, it.rollback, lambda sql: it.execute(text(sql)))
    engine.dispose()


@contextmanager
def django_connection(postgres: str) -> Iterator[Connection]:
    from urllib.parse import urlsplit

    import django
    from django.conf import settings
    from django.db.utils import ConnectionHandler

    if not settings.configured:
        settings.configure()
        django.setup()
    place = urlsplit(postgres)
    handler = ConnectionHandler(
        {
            "default": {
                "ENGINE": "django.db.backends.postgresql",
                "NAME": place.path.lstrip("/"),
                "USER": place.username,
                "HOST": place.hostname,
                "PORT": place.port,
            }
        }
    )
    it = handler["default"]
    it.set_autocommit(False)

    def execute(sql: str) -> None:
        with it.cursor() as cursor:
            cursor.execute(sql)

    yield Connection(it, it.commit, it.rollback, execute)
    it.close()


SYNC = [
    pytest.param(psycopg_sync, marks=needs_psycopg),
    pytest.param(sqlalchemy_connection, marks=needs("sqlalchemy", "psycopg")),
    pytest.param(sqlalchemy_session, marks=needs("sqlalchemy", "psycopg")),
    pytest.param(django_connection, marks=needs("django", "psycopg")),
]


ship: Workflow[int, int]


@pytest.fixture(autouse=True)
def _workflow(isolated: None) -> None:
    """Each test has a registry of its own."""
    global ship

    @workflow(id="ship", schedule=True)
    async def registered(ctx: WorkflowContext, order: int) -> int:
        return order + 1

    ship = registered


# --- commit and rollback ---------------------------------------------------------------------


@pytest.mark.parametrize("kind", ASYNC)
async def test_what_is_created_exists_once_the_transaction_has_committed(
    postgres: str, placeholder_client: PolosClient, kind: Any
) -> None:
    client = placeholder_client
    async with kind(postgres) as connection:
        await connection.execute("CREATE TEMPORARY TABLE orders (id int)")
        handle = await ship.invoke_in(connection.it, client, 7, key="100%:$1")
        id = await schedules.create_in(connection.it, client, ship, "0 9 * * *", key="a", input=1)
        assert await runs.list(client) == []
        assert await schedules.list(client) == []
        with pytest.raises(RunNotFoundError):
            await handle.status()
        await connection.commit()
    run = await runs.get(client, handle.id)
    assert (run.status, run.key, run.workflow) == ("queued", "100%:$1", "ship")
    assert [schedule.id for schedule in await schedules.list(client)] == [id]


@pytest.mark.parametrize("kind", ASYNC)
async def test_a_rollback_leaves_nothing(postgres: str, client: PolosClient, kind: Any) -> None:
    async with kind(postgres) as connection:
        await ship.invoke_in(connection.it, client, 7, idempotency_key="order-7")
        await schedules.create_in(connection.it, client, ship, "0 9 * * *", input=1)
        await connection.rollback()
    assert await runs.list(client) == []
    assert await schedules.list(client) == []


@pytest.mark.parametrize("kind", SYNC)
def test_the_blocking_versions_do_the_same(
    postgres: str, placeholder_client: PolosClient, kind: Any
) -> None:
    client = placeholder_client
    with kind(postgres) as connection:
        runs.sync.invoke_in(connection.it, client, ship, 7)
        schedules.sync.create_in(connection.it, client, "ship", every=3600, input=1)
        connection.rollback()
        assert runs.sync.list(client) == []
        handle = runs.sync.invoke_in(connection.it, client, ship, 8, key="100%:$1", priority=3)
        schedules.sync.create_in(connection.it, client, "ship", every=3600, input=1)
        assert runs.sync.list(client) == schedules.sync.list(client) == []
        connection.commit()
    assert [(run.id, run.key) for run in runs.sync.list(client)] == [(handle.id, "100%:$1")]
    assert [schedule.workflow for schedule in schedules.sync.list(client)] == ["ship"]


@needs_psycopg
async def test_a_worker_starts_the_run_after_the_commit_and_continues_meanwhile(
    postgres: str, client: PolosClient, url: str, eventually: Eventually
) -> None:
    """The transaction stays open while the worker registers, fires, claims, and completes."""
    async with psycopg_async(postgres) as connection:
        handle = await ship.invoke_in(connection.it, client, 1, idempotency_key="open")
        await schedules.create_in(connection.it, client, ship, every=3600, key="open", input=1)
        async with PolosClient(url) as other, Worker(other):
            for number in range(3):
                beside = await ship.invoke(client, number, idempotency_key=f"beside-{number}")
                assert await asyncio.wait_for(beside, 30) == number + 1
            id = await schedules.create(client, ship, every=1, key="beside", input=40)
            triggered = await schedules.trigger(client, id)
            assert await asyncio.wait_for(triggered, 30) == 41

            async def has_fired() -> bool:
                return bool(await schedules.history(client, id))

            await eventually(has_fired)
            # What would wait for the transaction is refused at once.
            with pytest.raises(StoreUnavailableError, match="still open"):
                await ship.invoke(client, 5, idempotency_key="open")
            with pytest.raises(StoreUnavailableError, match="still open"):
                await ship.invoke_many(
                    client, [polos.Invocation(1), polos.Invocation(2, idempotency_key="open")]
                )
            many = [polos.Invocation(n, idempotency_key=f"many-{n}") for n in range(300)]
            with pytest.raises(StoreUnavailableError, match="still open"):
                await ship.invoke_many(client, [*many, polos.Invocation(2, idempotency_key="open")])
            with pytest.raises(StoreUnavailableError, match="still open"):
                await schedules.create(client, ship, every=60, key="open", input=1)
            await connection.commit()
            assert await asyncio.wait_for(handle, 30) == 2
            repeated = await ship.invoke(client, 5, idempotency_key="open")
            assert repeated.id == handle.id
    assert len(await runs.list(client, key="global")) == 4


# --- connections that are refused ------------------------------------------------------------


@needs_psycopg
async def test_autocommit_is_refused_unless_a_transaction_is_open(
    postgres: str, client: PolosClient
) -> None:
    import psycopg

    async with await psycopg.AsyncConnection.connect(postgres, autocommit=True) as connection:
        with pytest.raises(InvalidStateError, match="autocommit"):
            await ship.invoke_in(connection, client, 1)
        with pytest.raises(InvalidStateError, match="autocommit"):
            await schedules.create_in(connection, client, ship, every=60, input=1)
        async with connection.transaction():
            await ship.invoke_in(connection, client, 2)
            async with connection.transaction(force_rollback=True):  # a savepoint
                await ship.invoke_in(connection, client, 3)
    assert len(await runs.list(client)) == 1
    assert await schedules.list(client) == []


@needs("asyncpg")
async def test_asyncpg_without_a_transaction_is_refused(postgres: str, client: PolosClient) -> None:
    import asyncpg

    connection = await asyncpg.connect(postgres)
    with pytest.raises(InvalidStateError, match="autocommit"):
        await ship.invoke_in(connection, client, 1)
    await connection.close()


@pytest.mark.parametrize("kind", ASYNC)
async def test_a_failed_transaction_is_reported(
    postgres: str, client: PolosClient, kind: Any
) -> None:
    async with kind(postgres) as connection:
        with pytest.raises(Exception, match="division"):
            await connection.execute("SELECT 1 / 0")
        with pytest.raises(InvalidStateError, match="failed already"):
            await ship.invoke_in(connection.it, client, 1)
        await connection.rollback()


@needs_psycopg
async def test_a_read_only_transaction_is_refused(postgres: str, client: PolosClient) -> None:
    async with psycopg_async(postgres) as connection:
        await connection.execute("SET TRANSACTION READ ONLY")
        with pytest.raises(InvalidStateError, match="read-only"):
            await ship.invoke_in(connection.it, client, 1)


@needs_psycopg
async def test_another_database_is_refused_and_the_transaction_continues(
    postgres: str, client: PolosClient, new_schema: Callable[[], str]
) -> None:
    import psycopg

    await runs.list(client)
    own = client._location.url.rpartition("schema=")[2]  # type: ignore[union-attr]
    async with await psycopg.AsyncConnection.connect(postgres, autocommit=True) as administrator:
        copy = f"copy_of_{own}"
        await administrator.execute(f"CREATE DATABASE {copy}")  # without tables
        try:
            place = postgres.rpartition("/")[0] + f"/{copy}"
            async with await psycopg.AsyncConnection.connect(place) as connection:
                with pytest.raises(InvalidArgumentError, match=f"no tables .* `{own}`"):
                    await ship.invoke_in(connection, client, 1)
                with PolosClient(f"{place}?schema={own}") as elsewhere:
                    await runs.list(elsewhere)
                with pytest.raises(InvalidArgumentError, match="another id"):
                    await ship.invoke_in(connection, client, 1)
                with pytest.raises(InvalidArgumentError, match="another id"):
                    await schedules.create_in(connection, client, ship, every=60, input=1)
                await connection.commit()
                # As in a copy, such as a restored dump.
                stored = await administrator.execute(f"SELECT id FROM {own}.database")
                (id,) = await stored.fetchone() or ("",)
                await connection.execute(f"UPDATE {own}.database SET id = %s", (id,))
                with pytest.raises(InvalidArgumentError, match="another id"):
                    await ship.invoke_in(connection, client, 1)
                cursor = await connection.execute("SELECT 1")  # the transaction has not failed
                assert await cursor.fetchone() == (1,)
                await connection.commit()
        finally:
            await administrator.execute(f"DROP DATABASE {copy} WITH (FORCE)")
    assert await runs.list(client) == []


@needs_psycopg
async def test_the_error_of_a_role_without_rights_says_what_to_grant(
    postgres: str, client: PolosClient
) -> None:
    await runs.list(client)
    own = client._location.url.rpartition("schema=")[2]  # type: ignore[union-attr]
    async with psycopg_async(postgres) as connection:
        await connection.execute(f"CREATE ROLE guest_{own}")
        await connection.execute(f"SET LOCAL ROLE guest_{own}")
        with pytest.raises(InvalidStateError, match=f'GRANT USAGE ON SCHEMA "{own}"'):
            await ship.invoke_in(connection.it, client, 1)
        await connection.execute("RESET ROLE")
        await connection.execute(f"GRANT USAGE ON SCHEMA {own} TO guest_{own}")
        await connection.execute(
            f"GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA {own} TO guest_{own}"
        )
        await connection.execute(f"SET LOCAL ROLE guest_{own}")
        await connection.execute("SET LOCAL search_path = nowhere")
        await ship.invoke_in(connection.it, client, 1)
        await connection.rollback()


@needs_psycopg
async def test_a_connection_that_does_not_fit_the_call_is_refused(
    postgres: str, client: PolosClient
) -> None:
    import psycopg

    with (
        psycopg.connect(postgres) as connection,
        pytest.raises(InvalidArgumentError, match=r"runs\.sync\.invoke_in"),
    ):
        await ship.invoke_in(connection, client, 1)
    async with psycopg_async(postgres) as other:
        with pytest.raises(InvalidArgumentError, match=r"await schedules\.create_in"):
            schedules.sync.create_in(other.it, client, ship, every=60, input=1)
        with pytest.raises(InvalidArgumentError, match="`PolosClient`"):
            await ship.invoke_in(other.it, other.it, 1)
    with pytest.raises(InvalidArgumentError, match="expected a connection of psycopg 3"):
        await ship.invoke_in(client, client, 1)


@needs_psycopg
async def test_a_client_of_another_kind_of_database_says_what_to_do(postgres: str) -> None:
    async with (
        psycopg_async(postgres) as connection,
        polos.testing.clock("2026-03-01T12:00Z", workflows=[ship]) as t,
    ):
        with pytest.raises(InvalidArgumentError, match=r"call `runs\.invoke` after the commit"):
            await ship.invoke_in(connection.it, t.client, 1)
        with pytest.raises(InvalidArgumentError, match=r"`schedules\.create` after the commit"):
            await schedules.create_in(connection.it, t.client, ship, every=60, input=1)


@pytest.mark.files
async def test_an_sqlite_file_is_refused_with_the_reason(tmp_path: Path) -> None:
    async with PolosClient(tmp_path / "polos.db") as client:
        with (
            closing(sqlite3.connect(tmp_path / "polos.db")) as connection,
            pytest.raises(InvalidArgumentError, match=r"one writer at a time.*`idempotency_key`"),
        ):
            await ship.invoke_in(connection, client, 1)


@needs("sqlalchemy")
def test_a_connection_to_another_kind_of_database_is_refused(client: PolosClient) -> None:
    from sqlalchemy import create_engine

    engine = create_engine("sqlite://")
    with (
        engine.connect() as connection,
        pytest.raises(InvalidArgumentError, match="it leads to sqlite"),
    ):
        runs.sync.invoke_in(connection, client, ship, 1)
    engine.dispose()


# --- arguments -------------------------------------------------------------------------------


@needs_psycopg
async def test_arguments_are_checked_before_the_transaction_is_touched(
    postgres: str, client: PolosClient
) -> None:
    async with psycopg_async(postgres) as connection:
        it = connection.it
        with pytest.raises(InvalidArgumentError, match="payload of workflow `ship`"):
            await ship.invoke_in(it, client, "seven")  # type: ignore[call-overload]
        with pytest.raises(WorkflowNotFoundError, match="did you mean `ship`"):
            await runs.invoke_in(it, client, "shipp", 1)
        with pytest.raises(InvalidArgumentError, match="call `invoke` after the commit"):
            await ship.invoke_in(it, client, 1, debounce=Debounce("k", delay=1))  # type: ignore[call-overload]
        with pytest.raises(InvalidArgumentError, match="`auto:`"):
            await ship.invoke_in(it, client, 1, idempotency_key="auto:1")
        with pytest.raises(InvalidScheduleError):
            await schedules.create_in(it, client, ship, "0 25 * * *", input=1)
        with pytest.raises(InvalidScheduleError, match="evry"):
            await schedules.create_in(it, client, ship, evry=60, input=1)  # type: ignore[call-arg]
        assert it.info.transaction_status == 0  # nothing was sent


@needs_psycopg
async def test_delays_priorities_and_limits_are_those_of_a_run(
    postgres: str, client: PolosClient, url: str
) -> None:
    @workflow(id="limited", concurrency=1, priority=4)
    async def limited() -> None: ...

    at = datetime(2100, 5, 1, 9, tzinfo=timezone.utc)
    async with PolosClient(url) as other, Worker(other):
        async with psycopg_async(postgres) as connection:
            later = await limited.invoke_in(connection.it, client, at=at, key="u7")
            await connection.commit()
        run = await runs.get(client, later.id)
        assert (run.key, run.status, run.due_at) == ("u7", "queued", at)
        soon = await limited.invoke(client)
        await asyncio.wait_for(soon, 30)
        async with psycopg_async(postgres) as connection:
            columns = await connection.execute(
                f"SELECT id, limit_name, priority, origin FROM {url.rpartition('schema=')[2]}.run"
            )
            rows = {row[0]: row[1:] for row in await columns.fetchall()}
    assert rows[later.id] == rows[soon.id]
    assert rows[later.id][1:] == (4, "invoke")


# --- names -----------------------------------------------------------------------------------


@needs_psycopg
async def test_an_idempotency_key_finds_the_run_of_another_transaction(
    postgres: str, client: PolosClient
) -> None:
    first = await ship.invoke(client, 1, idempotency_key="stored")
    async with psycopg_async(postgres) as one, psycopg_async(postgres) as two:
        again = await ship.invoke_in(one.it, client, 2, idempotency_key="stored")
        assert again.id == first.id
        own = await ship.invoke_in(one.it, client, 1, idempotency_key="new")
        assert (await ship.invoke_in(one.it, client, 2, idempotency_key="new")).id == own.id
        waiting = asyncio.create_task(
            ship.invoke_in(two.it, client, 2, idempotency_key="new")  # waits for the other one
        )
        await asyncio.sleep(0)
        await one.commit()
        assert (await waiting).id == own.id
        await two.commit()
    assert len(await runs.list(client)) == 2


@needs_psycopg
@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
async def test_stricter_isolation_works_and_reports_conflicts_as_the_server_does(
    postgres: str, client: PolosClient, level: str
) -> None:
    import psycopg

    await runs.list(client)  # creates the tables
    async with psycopg_async(postgres) as connection:
        await connection.execute(f"SET TRANSACTION ISOLATION LEVEL {level}")
        await connection.execute("SELECT 1")  # takes the snapshot
        first = await ship.invoke(client, 1, idempotency_key="k")
        with pytest.raises(psycopg.errors.SerializationFailure):
            await ship.invoke_in(connection.it, client, 1, idempotency_key="k")
        await connection.rollback()
        await connection.execute(f"SET TRANSACTION ISOLATION LEVEL {level}")
        again = await ship.invoke_in(connection.it, client, 1, idempotency_key="k")
        other = await ship.invoke_in(connection.it, client, 2)
        await connection.commit()
    assert again.id == first.id
    assert {run.id for run in await runs.list(client)} == {first.id, other.id}


@needs_psycopg
async def test_an_equal_schedule_is_kept_and_another_one_is_not_changed(
    postgres: str, client: PolosClient
) -> None:
    id = await schedules.create(client, ship, "0 9 * * *", "Europe/Paris", key="u7", input=1)
    async with psycopg_async(postgres) as connection:
        it = connection.it
        equal = await schedules.create_in(
            it, client, ship, "0 9 * * *", "Europe/Paris", "u7", input=1
        )
        assert equal == id
        with pytest.raises(InvalidStateError, match=r"`schedules\.create` after the commit"):
            await schedules.create_in(it, client, ship, "0 10 * * *", key="u7", input=1)
        # Nothing that a worker needs is locked: another transaction changes the schedule at once.
        await schedules.pause(client, id)
        await connection.commit()
    assert len(await schedules.list(client)) == 1


@needs_psycopg
async def test_a_worker_that_declares_the_schedule_starts_after_the_commit(
    postgres: str,
    client: PolosClient,
    url: str,
    caplog: pytest.LogCaptureFixture,
    eventually: Eventually,
) -> None:
    @workflow(id="daily", schedule="0 9 * * *")
    async def daily() -> None: ...

    async with psycopg_async(postgres) as connection:
        id = await schedules.create_in(connection.it, client, daily, "0 10 * * *")
        worker = Worker(client)
        starting = asyncio.create_task(worker.start())
        await eventually(lambda: "still open" in caplog.text)
        await connection.commit()
        await starting

        async def is_declared() -> bool:
            return (await schedules.get(client, workflow=daily)).cron == "0 9 * * *"

        await eventually(is_declared)
        await worker.close()
    assert [schedule.id for schedule in await schedules.list(client)] == [id]


ABANDONED = """
    import asyncio, sys
    import psycopg
    from polos import PolosClient, WorkflowContext, schedules, workflow

    @workflow(id="ship", schedule=True)
    async def ship(ctx: WorkflowContext, order: int) -> int: ...

    async def main(server, url):
        async with PolosClient(url) as client:
            connection = await psycopg.AsyncConnection.connect(server)
            await ship.invoke_in(connection, client, 1, idempotency_key="k")
            await schedules.create_in(connection, client, ship, every=60, key="k", input=1)
            print("created", flush=True)
            sys.stdin.readline()

    asyncio.run(main(*sys.argv[1:]))
"""


@needs_psycopg
async def test_a_process_that_dies_before_the_commit_leaves_nothing(
    postgres: str, client: PolosClient, url: str, start: Callable[..., Any], eventually: Eventually
) -> None:
    program = start(ABANDONED, postgres, url)
    program.wait_for_line("created")
    with pytest.raises(StoreUnavailableError, match="still open"):
        await ship.invoke(client, 2, idempotency_key="k")
    program.kill()

    async def started() -> RunHandle[int] | None:
        # Until the server has noticed it.
        with suppress(StoreUnavailableError):
            return await ship.invoke(client, 2, idempotency_key="k")
        return None

    run = await eventually(started)
    assert [found.id for found in await runs.list(client)] == [run.id]
    assert await schedules.list(client) == []


# --- documents -------------------------------------------------------------------------------

ROOT = Path(__file__).parents[2]


def blocks_of_the_page() -> dict[str, Any]:
    """Return the definitions of the page's blocks that use a connection."""
    names: dict[str, Any] = {}
    text = (ROOT / "docs" / "transactions.md").read_text()
    for code in re.findall(r"^```python\n((?:.*\n)*?)^```$", text, re.MULTILINE):
        if "connection: Any" in code:
            exec(code, names)
    return names


@needs_psycopg
async def test_the_page_does_what_it_says(postgres: str, client: PolosClient) -> None:
    page = blocks_of_the_page()
    async with psycopg_async(postgres) as connection:
        await connection.execute("CREATE TEMPORARY TABLE orders (id int)")
        await connection.execute("CREATE TEMPORARY TABLE users (name text)")
        await connection.commit()
        run = await page["place_order"](connection.it, client, 7)
        schedule = await page["subscribe"](connection.it, client, "ada")
    assert [found.id for found in await runs.list(client)] == [run]
    assert (await schedules.get(client, schedule)).key == "ada"


@needs_psycopg
def test_the_page_does_the_same_without_a_loop(postgres: str, client: PolosClient) -> None:
    page = blocks_of_the_page()
    with psycopg_sync(postgres) as connection:
        connection.execute("CREATE TEMPORARY TABLE users (name text)")
        page["sign_up"](connection.it, client, "ada")
    assert [run.workflow for run in runs.sync.list(client)] == ["welcome"]


@needs_psycopg
def test_an_order_is_confirmed_once(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("POLOS_DATABASE_URL", url)
    example = runpy.run_path(str(ROOT / "examples" / "order_in_a_transaction.py"))
    asyncio.run(example["main"]())
    assert capsys.readouterr().out == (
        "order 7 is confirmed\norder 7 exists already, and is not confirmed twice\n"
    )
