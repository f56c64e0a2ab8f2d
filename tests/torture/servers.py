"""PostgreSQL servers that a fault can stop, kill, promote, and copy."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import ModuleType, TracebackType

from network import Host

from harness import HERE, TIMEOUT, NotRunError, until

READY = re.compile(rb"ready to accept (read-only )?connections")
FAST, IMMEDIATE = signal.SIGINT, signal.SIGQUIT


def script() -> ModuleType:
    """Return the script that starts the servers of other tests, as a module."""
    path = HERE.parents[1] / "scripts" / "postgres-for-tests"
    loader = importlib.machinery.SourceFileLoader("postgres_for_tests", str(path))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


class ServerFactory:
    """The folder of some servers, readable by their user, and PostgreSQL's binaries."""

    def __init__(self) -> None:
        self.tools = script()
        self.user = self.tools.other_user()
        self.folder = Path(tempfile.mkdtemp(prefix="polos-servers-"))
        self.folder.chmod(0o755)
        found = self.tools.local_binaries() or self.tools.installed_binaries()
        if found is None:
            raise NotRunError("there are no binaries of PostgreSQL")
        self.binaries: Path = self.tools.reachable(found, self.folder, self.user)
        self.servers: list[Server] = []

    def __enter__(self) -> ServerFactory:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for server in self.servers:
            server.stop(IMMEDIATE)
        shutil.rmtree(self.folder, ignore_errors=True)

    def run(self, name: str, *arguments: str) -> None:
        """Run one of PostgreSQL's programs; raise if it fails."""
        with tempfile.TemporaryFile() as output:
            command = [str(self.binaries / name), *arguments]
            code = self.tools.run(command, self.user, stdout=output, stderr=output).wait()
            if code:
                output.seek(0)
                text = output.read().decode(errors="replace")
                raise AssertionError(f"{name} failed: {text[-2000:]}")

    def server(self, *, on_host: Host | None = None, **settings: object) -> Server:
        """Start a new server that syncs its commits; ``on_host`` or on this host."""
        data = self._data()
        self.run(
            *("initdb", "-D", str(data), "-U", "polos", "-A", "trust", "-E", "UTF8"),
            *("--locale=C", "--no-sync"),
        )
        server = Server(self, data, settings, on_host)
        if on_host is not None:
            with (data / "pg_hba.conf").open("a") as hba:
                hba.write("host all all 0.0.0.0/0 trust\nhost replication all 0.0.0.0/0 trust\n")
        return server.start()

    def copy_of(
        self, server: Server, *, follows: bool, port: int | None, on_host: Host | None = None
    ) -> Server:
        """Copy a server in its present state without starting it; one that follows is a standby."""
        data = self._data()
        options = ("-R",) if follows else ()
        self.run(
            *("pg_basebackup", "-D", str(data), "-h", server.address, "-p", str(server.port)),
            *("-U", "polos", "-X", "stream", "-c", "fast", "--no-sync", *options),
        )
        copy = Server(self, data, {}, on_host)
        if port is not None:
            copy.move_to(port)
        return copy

    def _data(self) -> Path:
        data = self.folder / f"data-{len(self.servers)}"
        data.mkdir(mode=0o700)
        if self.user is not None:
            os.chown(data, self.user.pw_uid, self.user.pw_gid)
        return data


class Server:
    """One server. It keeps its port when it is stopped and started."""

    def __init__(
        self,
        factory: ServerFactory,
        data: Path,
        settings: Mapping[str, object],
        on_host: Host | None,
    ) -> None:
        self.factory = factory
        self.data = data
        self.on_host = on_host
        self.address = "127.0.0.1" if on_host is None else on_host.address
        self.port: int = factory.tools.free_port()
        self.log = factory.folder / f"{data.name}.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.settings: dict[str, object] = {
            "listen_addresses": self.address,
            "port": self.port,
            "unix_socket_directories": data,
            "shared_buffers": "32MB",
            "wal_level": "replica",
            "logging_collector": "off",
            **settings,
        }
        factory.servers.append(self)

    def move_to(self, port: int) -> None:
        """Use another port from the next start on."""
        self.port = port
        self.settings["port"] = port

    @property
    def host(self) -> str:
        return f"{self.address}:{self.port}"

    @property
    def url(self) -> str:
        return f"postgresql://polos@{self.host}/postgres"

    def start(self) -> Server:
        """Start it, and wait until it accepts connections."""
        command = [str(self.factory.binaries / "postgres"), "-D", str(self.data)]
        for name, value in self.settings.items():
            command += ["-c", f"{name}={value}"]
        user = self.factory.user
        if self.on_host is not None:
            # Only root can enter a namespace, and the server doesn't run as root.
            assert user is not None
            ids = f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"
            command = [*self.on_host.before, "setpriv", *ids, *command]
            user = None
        with self.log.open("ab") as log:
            begin = log.tell()
            self.process = self.factory.tools.run(
                command,
                user,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=self.factory.tools.dies_with_us,
            )

        def has_started() -> bool:
            assert self.process is not None
            with self.log.open("rb") as log:
                log.seek(begin)
                is_ready = READY.search(log.read())
            return bool(is_ready) or self.process.poll() is not None

        if not until(has_started) or self.process.poll() is not None:
            raise AssertionError(f"the server doesn't start: {self.log.read_text()[-2000:]}")
        return self

    def stop(self, how: signal.Signals) -> None:
        """Stop it as ``pg_ctl -m fast`` or ``-m immediate`` do."""
        if self.process is None:
            return
        with suppress(ProcessLookupError):
            self.process.send_signal(how)
        self.process.wait(TIMEOUT)
        self.process = None

    def promote(self) -> None:
        """Make a standby accept writes."""
        self.factory.run("pg_ctl", "promote", "-D", str(self.data), "-w", "-t", str(int(TIMEOUT)))

    def psql(self, user: str) -> list[str]:
        """Return the command that connects to it."""
        address = ["-h", self.address, "-p", str(self.port), "-U", user, "-d", "postgres"]
        return [str(self.factory.binaries / "psql"), "-XAtq", *address]

    def session(self, user: str = "polos") -> Session:
        """Open a connection that stays open."""
        return Session(self.psql(user))

    def query(self, sql: str, *, database: str = "postgres") -> list[list[str]]:
        """Return the rows of an answer."""
        command = [*self.psql("polos"), "-d", database, "-v", "ON_ERROR_STOP=1", "-c", sql]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise AssertionError(f"psql: {done.stderr}")
        return [line.split("|") for line in done.stdout.splitlines()]

    def waits_until(self, sql: str, timeout: float = TIMEOUT) -> bool:
        """Wait until the answer is ``t``; return whether it became so."""
        return bool(until(lambda: self.query(sql) == [["t"]], timeout))

    def backends(self) -> list[int]:
        """Return the server's processes that serve polos."""
        sql = "SELECT pid FROM pg_stat_activity WHERE application_name = 'polos'"
        return [int(row[0]) for row in self.query(sql)]


def together(*servers: Server) -> str:
    """Return one URL for several servers."""
    hosts = ",".join(server.host for server in servers)
    return f"postgresql://polos@{hosts}/postgres?target_session_attrs=read-write"


class Session:
    """A connection of another application. Its errors are ignored."""

    def __init__(self, command: list[str]) -> None:
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.end()

    def say(self, sql: str) -> None:
        """Send a statement without waiting. Without a connection, nothing happens."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write(sql + "\n")
            self._process.stdin.flush()

    def wait(self) -> bool:
        """Wait until all statements were executed; return false without a connection."""
        assert self._process.stdout is not None
        self.say("\\echo done")
        return any(line == "done\n" for line in self._process.stdout)

    def end(self) -> None:
        """Close it, even if a statement is executing."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            with suppress(BrokenPipeError):
                stream.close()
