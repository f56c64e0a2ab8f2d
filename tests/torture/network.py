"""Network namespaces as hosts: each with an address of its own, connected by bridges.

A host whose cable is pulled out keeps its carrier: nobody is told, packets vanish.
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

# A range that is set aside for tests of networks; each network takes a part of it.
RANGE = "198.18"
NAME = re.compile(r"polos-(\d+)-\w+")


def ip(*words: str) -> str:
    """The command ``ip``; what it says."""
    done = subprocess.run(["ip", *words], capture_output=True, text=True)
    if done.returncode:
        raise AssertionError(f"ip {' '.join(words)}: {done.stderr}")
    return done.stdout


def processes_in(namespace: str) -> list[int]:
    return [int(word) for word in ip("netns", "pids", namespace).split()]


def remove_namespace(name: str) -> None:
    """With everything that runs in it."""

    def is_empty() -> bool:
        found = processes_in(name)
        for process in found:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        return not found

    until(is_empty)
    ip("netns", "del", name)


def remove_leftovers(dead: int | None = None) -> None:
    """What a run that was killed has left behind.

    :param dead: a process that is known to have ended, though it may not have been reaped yet.
    """
    for line in ip("netns", "list").splitlines():
        match = NAME.match(line)
        if match and (int(match[1]) == dead or not Path(f"/proc/{match[1]}").exists()):
            remove_namespace(match[0])


def free_prefix() -> str:
    """A part of the range that no other network of this machine has."""
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
        """What a command begins with that runs on this host."""
        return "ip", "netns", "exec", self.namespace

    def connect(self, bridge: str = "main") -> None:
        """Plug its cable into a bridge; hosts on the same one reach each other."""
        self.network.on_switch("link", "set", self.port, "master", bridge)

    def disconnect(self) -> None:
        """Pull its cable out, unnoticed: no packet comes or goes, and no connection ends."""
        self.network.on_switch("link", "set", self.port, "nomaster")

    def kill_all(self) -> None:
        """``kill -9`` of everything on it, at once."""
        for process in self.processes():
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        if not until(lambda: not self.processes()):
            raise AssertionError(f"{self.name} doesn't die")

    def processes(self) -> list[int]:
        return processes_in(self.namespace)


class Network:
    """Hosts, and two bridges between them. This process is on the main one."""

    def __init__(self) -> None:
        if os.name != "posix" or os.geteuid() != 0 or shutil.which("ip") is None:
            raise NotRunError("network namespaces need root and `ip` (iproute2)")
        self.hosts: dict[str, Host] = {}
        # If we are killed, it removes what we have made.
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
        """A new one."""
        host = Host(self, name, 11 + len(self.hosts))
        self.hosts[name] = host
        return host

    def reconnect(self, hosts: Iterable[Host] | None = None) -> None:
        """Everybody reaches everybody again."""
        for host in self.hosts.values() if hosts is None else hosts:
            host.connect()

    def close(self) -> None:
        """Nothing is left, neither processes nor interfaces."""
        for host in self.hosts.values():
            with suppress(AssertionError):
                remove_namespace(host.namespace)
        with suppress(AssertionError):
            remove_namespace(self.switch)
        with suppress(AssertionError):  # it has gone with its peer
            ip("link", "del", self._here)
        self._guard.communicate()


if __name__ == "__main__":
    sys.stdin.read()
    remove_leftovers(int(sys.argv[1]))
