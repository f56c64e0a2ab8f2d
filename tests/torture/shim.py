"""Controls the library between a worker and its disk (``shim.c``) while the worker runs."""

from __future__ import annotations

import ctypes
import mmap
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from harness import NotRunError

SOURCE = Path(__file__).with_name("shim.c")

WRITE, SYNC, TRUNCATE, UNLINK, CREATE = range(1, 6)


@cache
def library(folder: Path) -> Path:
    """Compile the library into ``folder``."""
    compiler = shutil.which(os.environ.get("CC", "cc")) or shutil.which("gcc")
    if sys.platform != "linux" or compiler is None:
        raise NotRunError("it needs Linux and a C compiler")
    made = folder / "shim.so"
    command = [compiler, "-O2", "-shared", "-fPIC", "-o", str(made), str(SOURCE), "-ldl"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise NotRunError(f"the shim can't be compiled: {done.stderr[-300:]}")
    return made


class Control(ctypes.Structure):
    """Matches ``struct control`` in shim.c."""

    _fields_ = [
        (name, ctypes.c_int64)
        for name in (
            *("points", "kill_at", "is_torn"),
            *("syncs", "sync_from", "sync_until", "sync_errno", "is_sync_done"),
            *("writes", "write_from", "write_until", "write_errno"),
            "failed",
        )
    ]

    points: int
    kill_at: int
    is_torn: int
    syncs: int
    sync_from: int
    sync_until: int
    sync_errno: int
    is_sync_done: int
    writes: int
    write_from: int
    write_until: int
    write_errno: int
    failed: int


class Shim:
    """The library for one process and the files in ``folder``; it can be controlled at any time."""

    def __init__(self, folder: Path, *, made_in: Path, name: str = "shim", log: bool = False):
        self._shared = folder / f"{name}.control"
        self._shared.write_bytes(bytes(ctypes.sizeof(Control)))
        self.log = folder / f"{name}.log"
        self.environment = {
            "LD_PRELOAD": str(library(made_in)),
            "POLOS_SHIM_FOLDER": str(folder),
            "POLOS_SHIM_CONTROL": str(self._shared),
            **({"POLOS_SHIM_LOG": str(self.log)} if log else {}),
        }
        with self._shared.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), ctypes.sizeof(Control))
        self.control = Control.from_buffer(self._map)

    def fail_syncs(self, error: int, *, number: int, count: int = 1, done: bool = False) -> None:
        """Fail from the ``number``-th next sync on; with ``done``, it works and reports failure."""
        self.control.sync_errno = error
        self.control.is_sync_done = done
        self.control.sync_until = self.control.syncs + number + count
        self.control.sync_from = self.control.syncs + number

    def fail_writes(self, error: int, *, number: int, count: int = 1) -> None:
        """Fail from the ``number``-th next write on."""
        self.control.write_errno = error
        self.control.write_until = self.control.writes + number + count
        self.control.write_from = self.control.writes + number

    def heal(self) -> None:
        """Stop failing."""
        self.control.sync_from = self.control.write_from = 0


@dataclass(frozen=True)
class Change:
    """One entry of the record: a change on disk."""

    kind: int
    name: str
    offset: int
    data: bytes


def changes(log: Path) -> Iterator[Change]:
    """Return the recorded changes in order."""
    text = log.read_bytes()
    place = 0
    while place + 32 <= len(text):
        kind, name_size, offset, size = (
            int.from_bytes(text[place + 8 * n : place + 8 * n + 8], "little", signed=True)
            for n in range(4)
        )
        place += 32
        name = text[place : place + name_size].decode()
        place += name_size
        yield Change(kind, name, offset, text[place : place + size])
        place += size
