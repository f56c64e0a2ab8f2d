"""The programs in `apps`, and other commands, as processes of a fault."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from harness import APPS, PYTHONPATH, TIMEOUT, UNBUFFERED, Bench, WorkerProcess


class Program(WorkerProcess):
    """A process that executes a Python program; it is killed when its bench closes."""

    def __init__(
        self,
        bench: Bench,
        script: Path | str,
        *arguments: object,
        env: Mapping[str, str] | None = None,
        python: tuple[str, ...] = ("-W", "ignore"),
        before: tuple[str, ...] = (),
    ) -> None:
        """Start ``script`` (a path, or the name of a program in `apps`).

        :param python: options of the interpreter.
        :param before: a command that executes it.
        """
        self._bench = bench
        self.errors = bench.folder / f"program-{len(bench.processes)}.stderr"
        command = [*before, sys.executable, *python, str(APPS / script), *map(str, arguments)]
        self._spawn(command, env or {})
        bench.processes.append(self)

    def _spawn(self, command: list[str], env: Mapping[str, str]) -> None:
        with self.errors.open("w") as errors:
            self._process = subprocess.Popen(
                command,
                env={**os.environ, **UNBUFFERED, "PYTHONPATH": PYTHONPATH, **env},
                cwd=self._bench.folder,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
            )
        self.pid = self._process.pid
        self.is_ready = False

    def line(self, timeout: float = TIMEOUT) -> str:
        """Return the next line of its output; raise ``AssertionError`` if none comes."""
        assert self._process.stdout is not None
        output = b""
        deadline = time.monotonic() + timeout
        # Byte by byte: `select` doesn't see what a buffer holds.
        descriptor = self._process.stdout.fileno()
        while not output.endswith(b"\n"):
            rest = max(0.0, deadline - time.monotonic())
            readable, _, _ = select.select([descriptor], [], [], rest)
            byte = os.read(descriptor, 1) if readable else b""
            if not byte:
                raise AssertionError(f"no further output: {self.errors.read_text()[-2000:]}")
            output += byte
        return output.decode().rstrip("\n")

    def ready(self) -> Program:
        output = self.line()
        assert output == "ready", output
        self.is_ready = True
        return self

    def stop_listening(self) -> None:
        """Stop reading its output."""
        assert self._process.stdout is not None
        self._process.stdout.close()

    @property
    def output(self) -> str:
        """What it has written to stderr."""
        return self.errors.read_text(errors="replace")


class Command(Program):
    """A process that executes any command."""

    def __init__(self, bench: Bench, *command: str, env: Mapping[str, str] | None = None) -> None:
        self._bench = bench
        self.errors = bench.folder / f"program-{len(bench.processes)}.stderr"
        self._spawn([*command], env or {})
        bench.processes.append(self)
