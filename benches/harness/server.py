"""A PostgreSQL server for the rows that need one; it syncs what it commits."""

from __future__ import annotations

import contextlib
import importlib.machinery
import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from itertools import count
from types import ModuleType

from harness.environments import say
from harness.model import ROOT

SCRIPT = ROOT / "scripts" / "postgres-for-tests"

# Other settings have their defaults.
SETTINGS = ("shared_buffers=256MB", "max_connections=700")


class Server:
    """A server that starts when it is first needed."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._url = ""
        self._numbers = count()

    @contextlib.contextmanager
    def database(self) -> Iterator[str]:
        """Yield the URL of an empty database, which is dropped afterwards."""
        if self._process is None:
            self._start()
        name = f"bench_{next(self._numbers)}"
        self._psql(f"CREATE DATABASE {name}")
        try:
            yield self._url.rpartition("/")[0] + "/" + name
        finally:
            self._psql(f"DROP DATABASE {name} WITH (FORCE)")
            # Dirty pages of this measurement must not be written during the next one.
            self._psql("CHECKPOINT")

    def close(self) -> None:
        """Stop the server."""
        if self._process is not None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._process.wait()

    def _start(self) -> None:
        say("starting a PostgreSQL server")
        options = [word for setting in SETTINGS for word in ("--set", setting)]
        self._process = subprocess.Popen(
            [sys.executable, str(SCRIPT), "--durable", *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self._url = self._process.stdout.readline().strip()
        if not self._url:
            raise SystemExit("there is no PostgreSQL server, see above")

    def _psql(self, sql: str) -> None:
        tools = _tools()
        binaries = tools.local_binaries() or tools.installed_binaries()
        command = [str(binaries / "psql"), "-Xq", "-v", "ON_ERROR_STOP=1", self._url, "-c", sql]
        subprocess.run(command, check=True, capture_output=True)


def _tools() -> ModuleType:
    """Import the script that finds the binaries."""
    loader = importlib.machinery.SourceFileLoader("postgres_for_tests", str(SCRIPT))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module
