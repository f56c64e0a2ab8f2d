"""Shared fixtures: isolation of tests, databases, and programs to start and kill."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import queue
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from inspect import isawaitable
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from polos import PolosClient, schedules
from polos.workflow import isolated_registry

ROOT = Path(__file__).resolve().parents[1]
PYTHON = ROOT / "python"

# The deadline of anything that must happen, on a busy machine. Only a failing test waits this long.
TIMEOUT = 30.0

# The same examples in every run, without deadlines. `--hypothesis-profile random` with
# `--hypothesis-seed N` tries others.
settings.register_profile(
    "repeatable",
    derandomize=True,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile(
    "random", settings.get_profile("repeatable"), derandomize=False, database=None
)
settings.load_profile("repeatable")

# Under nohup, and in the background of a shell script, SIGHUP and SIGINT are ignored. Programs that
# tests start would inherit that. A handler isn't inherited.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
    signal.signal(signal.SIGHUP, lambda *_: None)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--store",
        choices=["sqlite", "postgres"],
        default=os.environ.get("POLOS_TEST_STORE", "sqlite"),
        help="the database that the tests use (or POLOS_TEST_STORE)",
    )


# A test uses the store that `--store` names if it requests one of these fixtures, directly or not.
# `isolated` fails other tests that open the default database.
STORE_FIXTURES = frozenset({"own_database", "new_database"})


def works_on_store(item: pytest.Item) -> bool:
    """Return whether a test depends on `--store`."""
    names: list[str] = getattr(item, "fixturenames", [])
    return not STORE_FIXTURES.isdisjoint(names) and not item.get_closest_marker("files")


# Tests that wait most of their time, for deadlines of the product.
WAITING = ("tests/integration/test_hung_databases.py", "tests/torture/test_short.py")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With `--store postgres`, leave out tests that don't depend on the store.

    Tests that wait are spread among the others, which use the processors meanwhile.
    """
    if config.getoption("--store") != "sqlite":
        config.hook.pytest_deselected(items=[item for item in items if not works_on_store(item)])
        items[:] = [item for item in items if works_on_store(item)]
    if config.getoption("loadgroup", False):
        items[:] = spread(items)


def spread(items: list[pytest.Item]) -> list[pytest.Item]:
    """Return the tests in the same order, but those that wait at even distances."""
    waiting = [item for item in items if item.nodeid.startswith(WAITING)]
    others = [item for item in items if not item.nodeid.startswith(WAITING)]
    place = {
        item: (number + 0.5) / len(kind)
        for kind in (waiting, others)
        for number, item in enumerate(kind)
    }
    return sorted(items, key=place.__getitem__)


# Tests that share something costly: pytest-xdist gives all with the same beginning to one of its
# workers. Its own mark for that has no effect with pytest 9.2 (pytest-xdist issue 1386).
ONE_WORKER = (
    "tests/acceptance/test_benchmarks.py",
    "tests/acceptance/test_prometheus.py",
    "tests/acceptance/test_recorded_types.py",
    "tests/torture/test_checker.py",
    "tests/torture/test_short.py::test_a_fault_violates_nothing_on_postgresql",
    "tests/torture/test_soak.py",
)


def one_worker(nodeid: str) -> str | None:
    """Return the beginning that a test has in common with others that need the same worker."""
    return next((start for start in ONE_WORKER if nodeid.startswith(start)), None)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Let `--dist loadgroup` follow `ONE_WORKER`."""
    if config.getoption("dist") != "loadgroup":
        return None
    from xdist.scheduler import LoadGroupScheduling

    class Scheduling(LoadGroupScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return one_worker(nodeid) or nodeid

    return Scheduling(config, log)


@pytest.fixture(autouse=True)
def in_one_worker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Fail if `--dist loadgroup` gives tests of `ONE_WORKER` to different workers."""
    start, worker = one_worker(request.node.nodeid), os.environ.get("PYTEST_XDIST_WORKER")
    if start is None or worker is None or not request.config.getoption("loadgroup", False):
        return
    # Each worker has a folder in a common one.
    folder, name = tmp_path_factory.getbasetemp().parent, re.sub(r"\W", "-", start)
    (folder / f"{name}-in-{worker}").touch()
    assert len(list(folder.glob(f"{name}-in-*"))) == 1, f"several workers run tests of {start}"


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Generator[None, Any, Any]:
    """Let a worker of pytest-xdist report texts with lone surrogates, which some logs here have."""
    return encodable((yield))


def encodable(value: Any) -> Any:
    """Escape lone surrogates, which UTF-8 can't encode."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {encodable(key): encodable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map(encodable, value))
    return value


@pytest.fixture(scope="session", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Give the tests an empty home: browsers and notebooks leave files there."""
    old = Path.home()
    with pytest.MonkeyPatch.context() as patch:
        # Where cargo is installed.
        patch.setenv("CARGO_HOME", os.environ.get("CARGO_HOME", str(old / ".cargo")))
        patch.setenv("RUSTUP_HOME", os.environ.get("RUSTUP_HOME", str(old / ".rustup")))
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a server that runs as long as the tests. Fails if none can be started."""
    with subprocess.Popen(
        [sys.executable, str(ROOT / "scripts" / "postgres-for-tests")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        assert url, "there is no PostgreSQL server to test with, see above"
        yield url
        assert server.stdin is not None
        server.stdin.close()
        server.wait(TIMEOUT)


@pytest.fixture(scope="session")
def new_schema(postgres: str) -> Callable[[], str]:
    """Returns URLs of unused schemas."""
    numbers = count()
    sign = "&" if "?" in postgres else "?"
    return lambda: f"{postgres}{sign}schema=test_{os.getpid()}_{next(numbers)}"


class UsedSchemas:
    """Schemas with empty tables, which tests use one after another.

    To make one takes longer than most tests. It is used again if no connection to it is left, and
    no test has changed its definition.
    """

    # What belongs to a schema; different in one whose tables were altered, dropped, or migrated.
    DEFINITION = """
        SELECT concat(nspacl, nspowner, (SELECT concat(version, ' ', oldest) FROM {0}.version),
            (SELECT string_agg(concat_ws(' ', relname, relkind, relnatts, relowner, relacl,
                relchecks, relhastriggers, relhasrules, reloptions, indisvalid), ', '
                ORDER BY relname)
             FROM pg_class c LEFT JOIN pg_index ON indexrelid = c.oid WHERE relnamespace = n.oid))
        FROM pg_namespace n WHERE nspname = '{0}'
    """
    EMPTY = """
        DO $$
        DECLARE name text;
        BEGIN
            FOR name IN SELECT tablename FROM pg_tables
                WHERE schemaname = '{0}' AND tablename NOT IN ('version', 'commits', 'database')
            LOOP
                EXECUTE format('DELETE FROM {0}.%I', name);
            END LOOP;
            PERFORM setval(oid, 1, false) FROM pg_class
                WHERE relkind = 'S' AND relnamespace = '{0}'::regnamespace;
            UPDATE {0}.commits SET no = 0;
            UPDATE {0}.database SET id = md5(random()::text);
        END
        $$
    """

    def __init__(self, server: str) -> None:
        import psycopg  # here, since most runs have no use for it

        self._server = f"{server}{'&' if '?' in server else '?'}"
        self._connection = psycopg.connect(server, autocommit=True)
        self._connection.execute("SET lock_timeout = '1s'")
        self._error = psycopg.Error
        self._numbers = count()
        self._definitions: dict[str, str] = {}
        self._used: deque[tuple[str, str]] = deque()

    def _rows(self, sql: str) -> list[tuple[Any, ...]]:
        return self._connection.execute(sql.encode()).fetchall()

    def _url(self, user: str, schema: str) -> str:
        return f"{self._server}application_name={user}&schema={schema}"

    @contextmanager
    def one(self) -> Iterator[str]:
        """Lend the URL of a schema. The name of its connections is new each time."""
        user = f"test_{os.getpid()}_{next(self._numbers)}"
        schema = self._emptied() or self._made(f"used_{user}")
        yield self._url(user, schema)
        self._used.append((user, schema))

    def _made(self, schema: str) -> str:
        with PolosClient(self._url("maker", schema)) as client:
            schedules.sync.list(client)
        self._definitions[schema] = self._rows(self.DEFINITION.format(schema))[0][0]
        return schema

    def _emptied(self) -> str | None:
        connected = {
            user for (user,) in self._rows("SELECT application_name FROM pg_stat_activity")
        }
        for user, schema in list(self._used):
            if user in connected:
                continue
            self._used.remove((user, schema))
            with suppress(self._error):  # somebody holds a lock, or the schema is gone
                if self._rows(self.DEFINITION.format(schema))[0][0] == self._definitions[schema]:
                    self._connection.execute(self.EMPTY.format(schema).encode())
                    return schema
        return None

    def close(self) -> None:
        self._connection.close()


@pytest.fixture(scope="session")
def used_schemas(postgres: str) -> Iterator[UsedSchemas]:
    schemas = UsedSchemas(postgres)
    yield schemas
    schemas.close()


NewDatabase = Callable[[Path], Path | str]


@pytest.fixture(scope="session")
def new_database(request: pytest.FixtureRequest) -> NewDatabase:
    """``new_database(folder)``: an unused database, as ``PolosClient`` takes it."""
    if request.config.getoption("--store") == "sqlite":
        return lambda folder: folder / "polos.db"
    new_schema = request.getfixturevalue("new_schema")
    return lambda folder: new_schema()


@pytest.fixture
def own_database(
    request: pytest.FixtureRequest, tmp_path: Path, new_database: NewDatabase
) -> Iterator[Path | str]:
    """The test's database. ``PolosClient()`` uses it too, also in programs that the test starts.

    On PostgreSQL, it has tables already if the test uses the fixture ``client``.
    """
    if request.config.getoption("--store") == "sqlite" or "client" not in request.fixturenames:
        yield new_database(tmp_path)
        return
    with request.getfixturevalue("used_schemas").one() as url:
        yield url


@pytest.fixture
def database(own_database: Path | str) -> Path | str:
    """The same under a shorter name."""
    return own_database


@pytest.fixture(autouse=True)
def isolated(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Isolate each test: its own workflows, environment, and folder."""
    monkeypatch.delenv("POLOS_DATABASE_URL", raising=False)
    is_on_store = works_on_store(request.node)
    if is_on_store:
        own_database = request.getfixturevalue("own_database")
        if isinstance(own_database, str):
            monkeypatch.setenv("POLOS_DATABASE_URL", own_database)
    monkeypatch.chdir(tmp_path)
    with isolated_registry():
        yield
    if not is_on_store and not request.node.get_closest_marker("files"):
        left = sorted(tmp_path.rglob("polos.db"))
        assert not left, (
            f"the test opened {left[0]}, so it may depend on the store: let it use the fixture "
            f"`own_database` (then it runs on PostgreSQL too), or mark it `files`"
        )


@pytest.fixture
def client(database: Path | str) -> Iterator[PolosClient]:
    with PolosClient(database) as client:
        yield client


class Program:
    """A Python program in a separate process, whose output is read line by line."""

    def __init__(self, script: Path, *arguments: str, env: dict[str, str] | None = None) -> None:
        environment = {**os.environ, "PYTHONPATH": str(PYTHON), **(env or {})}
        self._errors = (script.parent / f"{script.stem}-{time.monotonic_ns()}.stderr").open("w+")
        self._process = subprocess.Popen(
            [sys.executable, "-u", str(script), *arguments],
            cwd=script.parent,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        self.lines: list[str] = []
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def wait_for_line(self, expected: str) -> str:
        """Wait for a line that begins with ``expected``; return the rest of it."""
        deadline = time.monotonic() + TIMEOUT
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"no line `{expected}` in time; {self._story()}") from None
            if line is None:
                self._lines.put(None)
                raise AssertionError(f"it ended without a line `{expected}`; {self._story()}")
            self.lines.append(line)
            if line.startswith(expected):
                return line.removeprefix(expected).strip()

    def send_line(self, text: str) -> None:
        """Write a line to its standard input."""
        assert self._process.stdin is not None
        self._process.stdin.write(text + "\n")
        self._process.stdin.flush()

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def kill(self) -> None:
        """Kill it with SIGKILL, and wait until it has ended."""
        self._process.kill()
        self._process.wait(TIMEOUT)

    def ends(self) -> int:
        """Wait until it has ended by itself; return its code."""
        try:
            code = self._process.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it doesn't end; {self._story()}") from None
        self._reader.join(TIMEOUT)
        while not self._lines.empty():
            line = self._lines.get()
            if line is not None:
                self.lines.append(line)
        return code

    @property
    def errors(self) -> str:
        """What it has written to its standard error."""
        self._errors.flush()
        self._errors.seek(0)
        return self._errors.read()

    def close(self) -> None:
        if self._process.poll() is None:
            self.kill()
        self._reader.join(TIMEOUT)
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            assert stream is not None
            with suppress(BrokenPipeError):  # it ended without reading everything
                stream.close()

    def _story(self) -> str:
        return f"output {self.lines}, errors:\n{self.errors[-4000:]}"


LoadModule = Callable[[Path], ModuleType]


@pytest.fixture(scope="session")
def load_module() -> LoadModule:
    """``load_module(path)``: import a file that no package contains."""

    def load(path: Path) -> ModuleType:
        name = f"loaded_{path.stem}"
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


Start = Callable[..., Program]


def written(folder: Path, name: str, source: str) -> Path:
    script = folder / name
    script.write_text(textwrap.dedent(source))
    return script


@pytest.fixture(scope="session")
def start_in() -> Iterator[Start]:
    """Like ``start``, in a given folder and until all tests have run."""
    programs: list[Program] = []

    def start_program(
        folder: Path, source: str, *arguments: str, env: dict[str, str] | None = None
    ) -> Program:
        programs.append(Program(written(folder, "app.py", source), *arguments, env=env))
        return programs[-1]

    yield start_program
    for program in programs:
        program.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """``start(source, *arguments, name="app.py")``: start a program that ends with the test."""
    programs: list[Program] = []

    def start_program(
        source: str, *arguments: str, name: str = "app.py", env: dict[str, str] | None = None
    ) -> Program:
        programs.append(Program(written(tmp_path, name, source), *arguments, env=env))
        return programs[-1]

    yield start_program
    for program in programs:
        program.close()


Eventually = Callable[[Callable[[], Any]], Awaitable[Any]]


@pytest.fixture
def eventually() -> Eventually:
    """``await eventually(condition)``: wait for another process until the condition is true."""

    async def wait(condition: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + TIMEOUT
        while True:
            value = condition()
            if isawaitable(value):
                value = await value
            if value:
                return value
            assert time.monotonic() < deadline, "the condition didn't become true"
            await asyncio.sleep(0.01)

    return wait
