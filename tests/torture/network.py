"""Network namespaces as hosts: each with its own address, connected by bridges.

A disconnected host keeps its carrier: nothing notices, packets disappear.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from harness import NotRunError, until

# An address range reserved for network tests; each network uses a part of it.
RANGE = "198.18"
NAME = re.compile(r"polos-(\d+)-\w+")


def ip(*words: str) -> str:
    """Run ``ip``; return its output."""
    done = subprocess.run(["ip", *words], capture_output=True, text=True)
    if done.returncode:
        raise AssertionError(f"ip {' '.join(words)}: {done.stderr}")
    return done.stdout


def processes_in(namespace: str) -> list[int]:
    return [int(word) for word in ip("netns", "pids", namespace).split()]


def remove_namespace(name: str) -> None:
    """Remove a namespace and everything that runs in it."""

    def is_empty() -> bool:
        found = processes_in(name)
        for process in found:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        return not found

    until(is_empty)
    ip("netns", "del", name)


def remove_leftovers(dead: int | None = None) -> None:
    """Remove what a killed run has left behind.

    :param dead: a process that is known to have ended, though it may not have been reaped yet.
    """
    for line in ip("netns", "list").splitlines():
        match = NAME.match(line)
        if match and (int(match[1]) == dead or not Path(f"/proc/{match[1]}").exists()):
            remove_namespace(match[0])


def free_prefix() -> str:
    """Return a part of the range that no other network of this machine uses."""
    taken = set(re.findall(rf"{re.escape(RANGE)}\.\d+", ip("addr", "show")))
    parts = (f"{RANGE}.{(os.getpid() + number) % 256}" for number in range(256))
    found = next((part for part in parts if part not in taken), None)
    if found is None:
        raise NotRunError("there are too many networks on this machine")
    return found


class Host:
    """A namespace with one network interface."""

    def __init__(self, network: Network, name: str, number: int) -> None:
        self.network = network
        self.name = name
        self.namespace = f"polos-{os.getpid()}-{name}"
        self.address = f"{network.prefix}.{number}"
        self.port = f"to-{name}"
        ip("netns", "add", self.namespace)
        ip(
            *("link", "add", "eth0", "netns", self.namespace, "type", "veth"),
            *("peer", "name", self.port, "netns", network.switch),
        )
        self.ip("addr", "add", f"{self.address}/24", "dev", "eth0")
        self.ip("link", "set", "eth0", "up")
        self.ip("link", "set", "lo", "up")
        network.on_switch("link", "set", self.port, "up")
        self.connect()

    def ip(self, *words: str) -> None:
        ip("-n", self.namespace, *words)

    @property
    def before(self) -> tuple[str, ...]:
        """The words before a command that make it run on this host."""
        return "ip", "netns", "exec", self.namespace

    def connect(self, bridge: str = "main") -> None:
        """Connect it to a bridge; hosts on one bridge reach each other."""
        self.network.on_switch("link", "set", self.port, "master", bridge)

    def disconnect(self) -> None:
        """Disconnect it silently: no packet passes, and no connection is closed."""
        self.network.on_switch("link", "set", self.port, "nomaster")

    def kill_all(self) -> None:
        """Kill everything on it with SIGKILL at once."""
        for process in self.processes():
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        if not until(lambda: not self.processes()):
            raise AssertionError(f"{self.name} still runs after SIGKILL")

    def processes(self) -> list[int]:
        return processes_in(self.namespace)


class Network:
    """Hosts, and two bridges between them. This process is on the main bridge."""

    def __init__(self) -> None:
        if os.name != "posix" or os.geteuid() != 0 or shutil.which("ip") is None:
            raise NotRunError("network namespaces need root and `ip` (iproute2)")
        self.hosts: dict[str, Host] = {}
        # Removes what we have made if this process is killed.
        self._guard = subprocess.Popen(
            [sys.executable, __file__, str(os.getpid())],
            stdin=subprocess.PIPE,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        self.switch = f"polos-{os.getpid()}-switch"
        self._here = f"polos{os.getpid() % 100_000_000}"
        try:
            remove_leftovers()
            self.prefix = free_prefix()
            ip("netns", "add", self.switch)
        except AssertionError as error:
            self._guard.communicate()
            raise NotRunError(f"network namespaces can't be made here: {error}") from None
        try:
            for bridge in ("main", "other"):
                self.on_switch("link", "add", bridge, "type", "bridge")
                self.on_switch("link", "set", bridge, "up")
            ip(
                *("link", "add", self._here, "type", "veth"),
                *("peer", "name", "to-us", "netns", self.switch),
            )
            ip("addr", "add", f"{self.prefix}.1/24", "dev", self._here)
            ip("link", "set", self._here, "up")
            self.on_switch("link", "set", "to-us", "up")
            self.on_switch("link", "set", "to-us", "master", "main")
        except AssertionError as error:
            self.close()
            raise NotRunError(f"network namespaces can't be connected here: {error}") from None

    def __enter__(self) -> Network:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def on_switch(self, *words: str) -> None:
        ip("-n", self.switch, *words)

    def host(self, name: str) -> Host:
        """Add a host."""
        host = Host(self, name, 11 + len(self.hosts))
        self.hosts[name] = host
        return host

    def reconnect(self, hosts: Iterable[Host] | None = None) -> None:
        """Connect all hosts to each other again."""
        for host in self.hosts.values() if hosts is None else hosts:
            host.connect()

    def close(self) -> None:
        """Remove all processes and interfaces."""
        for host in self.hosts.values():
            with suppress(AssertionError):
                remove_namespace(host.namespace)
        with suppress(AssertionError):
            remove_namespace(self.switch)
        with suppress(AssertionError):  # already removed with its peer
            ip("link", "del", self._here)
        self._guard.communicate()


if __name__ == "__main__":
    sys.stdin.read()
    remove_leftovers(int(sys.argv[1]))
