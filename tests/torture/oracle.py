"""The oracle: a file outside of the database, in which programs record what they have done.

Each line is written with one append, and synced before the program continues, so neither a crash
of the program nor a defect of the database can lose it.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path


class Oracle:
    """The writing side, for programs under torture."""

    def __init__(self, path: str, *, durable: bool = True) -> None:
        """Open or create the file; without ``durable``, lines are not synced."""
        self._durable = durable
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def write(self, *words: object) -> None:
        """Append a line of these words."""
        os.write(self._file, (" ".join(map(str, words)) + "\n").encode())
        if self._durable:
            os.fsync(self._file)


class Tally:
    """The reading side of oracles whose lines are ``kind run``: how often each run is named."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._counts: dict[str, Counter[str]] = {}

    def count(self, kind: str) -> Counter[str]:
        """The number of lines of this kind for each run, up to the last whole line."""
        if self._path.exists():
            with self._path.open("rb") as file:
                file.seek(self._offset)
                text = file.read()
            whole = text[: text.rfind(b"\n") + 1]
            self._offset += len(whole)
            for line in whole.decode().splitlines():
                of, run = line.split()
                self._counts.setdefault(of, Counter())[run] += 1
        return self._counts.setdefault(kind, Counter())
