"""Three PostgreSQL nodes managed by Patroni and etcd, each on its own host."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any

from network import Host, Network
from servers import ServerFactory

from harness import NotRunError, until

# Shorter than Patroni's defaults (30, 10, 10): most of a gap after a silent failure is `ttl`.
TTL, LOOP_WAIT, RETRY_TIMEOUT = 15, 2, 5

# Seconds after which a primary drops a silent standby.
SENDER_TIMEOUT = 10

START = 180.0
FAILOVER = 90.0


@dataclass(frozen=True)
class Node:
    """One of the three nodes."""

    host: Host
    folder: Path

    @property
    def name(self) -> str:
        return self.host.name

    @property
    def address(self) -> str:
        return self.host.address

    def status_of(self, path: str, timeout: float = 1.0) -> int | None:
        """Return the status with which its Patroni answers; ``None`` if it doesn't answer."""
        try:
            with urllib.request.urlopen(f"http://{self.address}:8008/{path}", timeout=timeout) as r:
                return int(r.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code
        except OSError:
            return None

    def is_primary(self) -> bool:
        return self.status_of("primary") == 200

    def output(self) -> str:
        """Return the end of its programs' logs."""
        texts = [path.read_text()[-1500:] for path in sorted(self.folder.glob("*.log"))]
        return "\n".join(texts)


class Cluster:
    """The three nodes.

    :param logs: a folder for the logs of their programs.
    :param is_synchronous: whether a commit is acknowledged only when a standby has it too.
    """

    def __init__(self, network: Network, logs: Path, *, is_synchronous: bool) -> None:
        programs = {name: shutil.which(name) for name in ("patroni", "etcd", "setpriv")}
        if missing := [name for name, path in programs.items() if path is None]:
            raise NotRunError(f"not installed: {', '.join(missing)}")
        self._servers = ServerFactory()
        self._logs = logs
        self._is_synchronous = is_synchronous
        if self._servers.user is None:
            raise NotRunError("there is no user `postgres` to run servers as")
        self.nodes = [self._made(network.host(f"db{number}")) for number in (1, 2, 3)]

    def __enter__(self) -> Cluster:
        try:
            for node in self.nodes:
                self.start(node)
            if not until(lambda: self.primary_or_none() and self._has_standbys(2), START):
                raise AssertionError(f"the cluster doesn't start: {self.nodes[0].output()}")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for node in self.nodes:
            with suppress(AssertionError):
                node.host.kill_all()
            for log in node.folder.glob("*.log"):
                shutil.copy(log, self._logs / f"{node.name}-{log.name}")
        self._servers.__exit__(kind, error, traceback)

    @property
    def url(self) -> str:
        """The URL of all three nodes; clients use the one that accepts writes."""
        hosts = ",".join(f"{node.address}:5432" for node in self.nodes)
        return f"postgresql://polos@{hosts}/postgres?target_session_attrs=read-write"

    @property
    def psql(self) -> Path:
        return self._servers.binaries / "psql"

    def primary_or_none(self) -> Node | None:
        return next((node for node in self.nodes if node.is_primary()), None)

    def primary(self) -> Node:
        """Wait for the node that accepts writes, and return it."""
        found = until(self.primary_or_none, FAILOVER)
        if found is None:
            raise AssertionError(f"there is no primary: {self.nodes[0].output()}")
        assert isinstance(found, Node)
        return found

    def others(self, node: Node) -> list[Node]:
        return [other for other in self.nodes if other != node]

    def kill_server(self, node: Node) -> None:
        """Kill PostgreSQL and Patroni with SIGKILL; etcd continues."""

        def are_gone() -> bool:
            names = {process: name_of(process) for process in node.host.processes()}
            # Patroni first, so that it doesn't start PostgreSQL again.
            for process in sorted(names, key=lambda process: names[process] != "patroni"):
                if names[process] not in ("etcd", ""):
                    with suppress(ProcessLookupError):
                        os.kill(process, signal.SIGKILL)
            return set(names.values()) <= {"etcd", ""}

        if not until(are_gone):
            raise AssertionError(f"{node.name} still runs after SIGKILL")

    def synchronous_standby(self) -> Node:
        """Wait for a standby that has everything that was acknowledged, and return it."""

        def found() -> Node | None:
            return next((node for node in self.nodes if node.status_of("synchronous") == 200), None)

        node = until(found, START)
        if node is None:
            raise AssertionError("there is no synchronous standby")
        assert isinstance(node, Node)
        return node

    def is_healthy(self) -> bool:
        """Return whether all nodes are up, with a synchronous standby if one is required."""
        primary = self.primary_or_none()
        if primary is None or not self._has_standbys(2):
            return False
        return not self._is_synchronous or any(
            node.status_of("synchronous") == 200 for node in self.others(primary)
        )

    def wait_until_healthy(self) -> None:
        """Wait until all nodes are up again."""
        # Patroni changes the synchronous standby in several steps, between which no node can be
        # promoted. So a single observation is not enough.
        healthy_since = time.monotonic()

        def stays_healthy() -> bool:
            nonlocal healthy_since
            if not self.is_healthy():
                healthy_since = time.monotonic()
            return time.monotonic() - healthy_since > 3 * LOOP_WAIT

        if not until(stays_healthy, START):
            output = "\n".join(f"{node.name}: {node.output()}" for node in self.nodes)
            raise AssertionError(f"the cluster doesn't heal: {output}")

    def switch_over(self, candidate: Node) -> None:
        """Switch over through Patroni, as an operator does."""
        primary = self.primary()
        body = json.dumps({"leader": primary.name, "candidate": candidate.name}).encode()
        request = urllib.request.Request(f"http://{primary.address}:8008/switchover", data=body)
        with urllib.request.urlopen(request, timeout=FAILOVER) as answer:
            assert answer.status == 200, answer.read()

    def start(self, node: Node) -> None:
        """Start everything that runs on a node."""
        for program in ("etcd", "patroni"):
            self.start_program(node, program)

    def start_program(self, node: Node, program: str) -> None:
        assert self._servers.user is not None
        arguments = {"etcd": self._etcd, "patroni": self._patroni}[program](node)
        user, group = self._servers.user.pw_uid, self._servers.user.pw_gid
        with (node.folder / f"{program}.log").open("ab") as log:
            subprocess.Popen(
                [
                    *node.host.before,
                    *("setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups"),
                    *arguments,
                ],
                cwd="/",
                env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "HOME": str(node.folder)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _made(self, host: Host) -> Node:
        folder = self._servers.folder / host.name
        folder.mkdir(mode=0o700)
        assert self._servers.user is not None
        os.chown(folder, self._servers.user.pw_uid, self._servers.user.pw_gid)
        return Node(host, folder)

    def _has_standbys(self, count: int) -> bool:
        return sum(node.status_of("replica") == 200 for node in self.nodes) == count

    def _etcd(self, node: Node) -> list[str]:
        members = ",".join(f"{other.name}=http://{other.address}:2380" for other in self.nodes)
        client, peer = f"http://{node.address}:2379", f"http://{node.address}:2380"
        return [
            *("etcd", "--name", node.name, "--data-dir", str(node.folder / "etcd")),
            *("--listen-client-urls", client, "--advertise-client-urls", client),
            *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
            *("--initial-cluster", members, "--initial-cluster-token", "polos"),
            *("--heartbeat-interval", "200", "--election-timeout", "2000"),
            *("--log-level", "warn", "--unsafe-no-fsync", "--enable-v2"),
        ]

    def _patroni(self, node: Node) -> list[str]:
        path = node.folder / "patroni.json"
        path.write_text(json.dumps(self._configuration(node)))
        path.chmod(0o644)
        return ["patroni", str(path)]

    def _configuration(self, node: Node) -> dict[str, Any]:
        """Return Patroni's configuration as JSON, which is valid YAML."""
        hosts = ["local all all trust"]
        hosts += [f"host {database} all 0.0.0.0/0 trust" for database in ("all", "replication")]
        server = {
            "use_pg_rewind": True,
            "use_slots": True,
            "parameters": {
                "wal_level": "replica",
                "wal_log_hints": "on",
                "max_connections": 100,
                "shared_buffers": "32MB",
                "wal_keep_size": "64MB",
                # How soon a standby and a primary notice that the other one is silent.
                "wal_sender_timeout": f"{SENDER_TIMEOUT}s",
                "wal_receiver_timeout": f"{SENDER_TIMEOUT}s",
            },
        }
        return {
            "scope": "polos",
            "name": node.name,
            "restapi": {
                "listen": f"{node.address}:8008",
                "connect_address": f"{node.address}:8008",
            },
            # Not `etcd3`: there, Patroni before 3.0.3 overwrites the leader's key without checking
            # it, and a primary that returns from a partition makes itself the primary again.
            "etcd": {"hosts": [f"{other.address}:2379" for other in self.nodes]},
            "bootstrap": {
                "dcs": {
                    "ttl": TTL,
                    "loop_wait": LOOP_WAIT,
                    "retry_timeout": RETRY_TIMEOUT,
                    # So that the old copy of an asynchronous cluster can be promoted.
                    "maximum_lag_on_failover": 64 * 1024**2,
                    "synchronous_mode": self._is_synchronous,
                    "synchronous_mode_strict": self._is_synchronous,
                    "postgresql": server,
                },
                "initdb": [{"encoding": "UTF8"}, {"locale": "C"}, "no-sync"],
            },
            "postgresql": {
                "listen": f"{node.address}:5432",
                "connect_address": f"{node.address}:5432",
                "data_dir": str(node.folder / "data"),
                "bin_dir": str(self._servers.binaries),
                "pgpass": str(node.folder / "pgpass"),
                "authentication": {
                    "superuser": {"username": "polos", "password": "unused"},
                    "replication": {"username": "replicator", "password": "unused"},
                },
                "parameters": {"unix_socket_directories": str(node.folder)},
                "pg_hba": hosts,
            },
        }


def name_of(process: int) -> str:
    """Return the name of the program that a process executes, or "" if it has ended."""
    with suppress(OSError):
        return Path(f"/proc/{process}/comm").read_text().strip()
    return ""


class BaselineClient:
    """Commits twice a second by libpq: measures the gap that the cluster alone causes.

    It makes a connection for each commit, first to the node that answered last.
    """

    EVERY = 0.5
    # A killed client leaves its server process behind while that waits for a standby.
    TIMEOUT = 30.0
    MOST = 6

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._is_over = threading.Event()
        self._committed: list[float] = []
        self._last = cluster.primary().address
        self._asking: dict[subprocess.Popen[str], float] = {}
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        begun = 0.0
        while not self._is_over.wait(0.02):
            if time.monotonic() - begun >= self.EVERY and len(self._asking) < self.MOST:
                begun = time.monotonic()
                self._asking[self._ask()] = begun
            for process, since in list(self._asking.items()):
                if process.poll() is None:
                    if time.monotonic() - since > self.TIMEOUT:
                        process.kill()
                    continue
                del self._asking[process]
                output, _ = process.communicate()
                if process.returncode == 0:
                    self._committed.append(time.time())
                    self._last = output.strip() or self._last

    def _ask(self) -> subprocess.Popen[str]:
        addresses = [node.address for node in self._cluster.nodes]
        addresses.sort(key=lambda address: address != self._last)
        command = [
            str(self._cluster.psql),
            "-XAtq",
            f"host={','.join(addresses)} user=polos dbname=postgres connect_timeout=2 "
            f"target_session_attrs=read-write",
            *("-c", "CREATE TABLE IF NOT EXISTS watched (at timestamptz)"),
            *("-c", "INSERT INTO watched VALUES (now())"),
            *("-c", "SELECT host(inet_server_addr())"),
        ]
        environment = {
            "PATH": os.environ.get("PATH", ""),
            "PGOPTIONS": "-c client_min_messages=error",
        }
        return subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def away(self, since: float) -> float:
        """Return the longest time after ``since`` without a commit."""
        return longest(self._committed, since)

    def close(self) -> None:
        self._is_over.set()
        self._thread.join()
        for process in self._asking:
            process.kill()
            process.communicate()


def longest(times: Iterable[float], since: float) -> float:
    """Return the longest time between two instants, the later of which is after ``since``."""
    return max((b - a for a, b in pairwise(sorted(times)) if b > since), default=0.0)
