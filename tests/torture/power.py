"""What remains after a power loss: everything that was synced, and any part of the rest."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from shim import CREATE, SYNC, TRUNCATE, UNLINK, WRITE, Change

SECTOR = 512

# Written by the tested program for the harness. They stay as they were at that moment.
RECORDS = ("change-log.txt", "oracle.txt")


@dataclass
class Content:
    """A file: what is certainly on disk, and what may be."""

    synced: bytearray = field(default_factory=bytearray)
    pending: list[Change] = field(default_factory=list)

    def sync(self) -> None:
        for change in self.pending:
            put(self.synced, change)
        self.pending.clear()

    def left(self, rng: random.Random) -> bytes:
        data = bytearray(self.synced)
        chance = rng.choice((0.0, 0.1, 0.5, 0.9, 1.0))
        for change in self.pending:
            if rng.random() < chance:
                put(data, torn(change, rng))
        return bytes(data)


def put(data: bytearray, change: Change) -> None:
    """Apply a change."""
    if change.kind == TRUNCATE:
        del data[change.offset :]
        data.extend(bytes(change.offset - len(data)))
        return
    data.extend(bytes(max(0, change.offset - len(data))))
    data[change.offset : change.offset + len(change.data)] = change.data


def torn(change: Change, rng: random.Random) -> Change:
    """Sometimes keep only the first sectors of a write."""
    if change.kind != WRITE or len(change.data) <= SECTOR or rng.random() < 0.7:
        return change
    kept = rng.randrange(1, len(change.data) // SECTOR + 1) * SECTOR
    return Change(change.kind, change.name, change.offset, change.data[:kept])


@dataclass
class Disk:
    """A folder: its files, and the names that are certainly on disk."""

    files: dict[str, Content] = field(default_factory=dict)
    synced_names: dict[str, Content] = field(default_factory=dict)
    pending_names: list[tuple[str, Content | None]] = field(default_factory=list)

    def take(self, change: Change) -> None:
        """Apply one entry of the record."""
        if change.kind == CREATE:
            self.files[change.name] = Content()
            self.pending_names.append((change.name, self.files[change.name]))
        elif change.kind == UNLINK:
            del self.files[change.name]
            self.pending_names.append((change.name, None))
        elif change.kind == SYNC and not change.name:
            name_files(self.synced_names, self.pending_names)
            self.pending_names.clear()
        elif change.kind == SYNC:
            self.files[change.name].sync()
        else:
            self.files[change.name].pending.append(change)

    def left(self, rng: random.Random) -> dict[str, bytes]:
        """Return what remains. Changes of names are applied in order, up to a random point."""
        names = dict(self.synced_names)
        name_files(names, self.pending_names[: rng.randint(0, len(self.pending_names))])
        return {name: content.left(rng) for name, content in names.items()}


def name_files(names: dict[str, Content], changes: Iterable[tuple[str, Content | None]]) -> None:
    """Apply changes of names."""
    for name, content in changes:
        if content is None:
            names.pop(name, None)
        else:
            names[name] = content


def cuts(
    record: Sequence[Change], places: Sequence[int], rng: random.Random
) -> Iterator[tuple[int, dict[str, bytes]]]:
    """Yield what remains if the power fails after each of ``places`` changes (ascending)."""
    disk = Disk()
    untouched = {name: bytearray() for name in RECORDS}
    taken = 0
    for place in places:
        for change in record[taken:place]:
            if change.name not in untouched:
                disk.take(change)
            elif change.kind == WRITE:
                untouched[change.name] += change.data
        taken = place
        yield place, {**disk.left(rng), **{name: bytes(text) for name, text in untouched.items()}}
