"""What a loss of power leaves: everything synced, and of the rest any part."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from shim import CREATE, SYNC, TRUNCATE, UNLINK, WRITE, Change

SECTOR = 512

# These the harness has the program testify; they are as they were at that moment.
TESTIMONY = ("diary.txt", "oracle.txt")


@dataclass
class Content:
    """A file, as it is surely on disk, and what may be."""

    synced: bytearray = field(default_factory=bytearray)
    pending: list[Change] = field(default_factory=list)

    def sync(self) -> None:
        for change in self.pending:
            put(self.synced, change)
        self.pending.clear()

    def left(self, dice: random.Random) -> bytes:
        data = bytearray(self.synced)
        chance = dice.choice((0.0, 0.1, 0.5, 0.9, 1.0))
        for change in self.pending:
            if dice.random() < chance:
                put(data, torn(change, dice))
        return bytes(data)


def put(data: bytearray, change: Change) -> None:
    """Carry it out."""
    if change.kind == TRUNCATE:
        del data[change.offset :]
        data.extend(bytes(change.offset - len(data)))
        return
    data.extend(bytes(max(0, change.offset - len(data))))
    data[change.offset : change.offset + len(change.data)] = change.data


def torn(change: Change, dice: random.Random) -> Change:
    """Sometimes only the beginning of a write is there, up to a sector."""
    if change.kind != WRITE or len(change.data) <= SECTOR or dice.random() < 0.7:
        return change
    kept = dice.randrange(1, len(change.data) // SECTOR + 1) * SECTOR
    return Change(change.kind, change.name, change.offset, change.data[:kept])


@dataclass
class Disk:
    """A folder: its files, and which names it has for sure."""

    files: dict[str, Content] = field(default_factory=dict)
    synced_names: dict[str, Content] = field(default_factory=dict)
    pending_names: list[tuple[str, Content | None]] = field(default_factory=list)

    def take(self, change: Change) -> None:
        """One more entry of the record."""
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

    def left(self, dice: random.Random) -> dict[str, bytes]:
        """Names come and go in order; how far that came, nobody knows."""
        names = dict(self.synced_names)
        name_files(names, self.pending_names[: dice.randint(0, len(self.pending_names))])
        return {name: content.left(dice) for name, content in names.items()}


def name_files(names: dict[str, Content], changes: Iterable[tuple[str, Content | None]]) -> None:
    """Carry out what became of names."""
    for name, content in changes:
        if content is None:
            names.pop(name, None)
        else:
            names[name] = content


def cuts(
    record: Sequence[Change], places: Sequence[int], dice: random.Random
) -> Iterator[tuple[int, dict[str, bytes]]]:
    """What is left when the power fails after so many changes: each of ``places``, ascending."""
    disk = Disk()
    told = {name: bytearray() for name in TESTIMONY}
    taken = 0
    for place in places:
        for change in record[taken:place]:
            if change.name not in told:
                disk.take(change)
            elif change.kind == WRITE:
                told[change.name] += change.data
        taken = place
        yield place, {**disk.left(dice), **{name: bytes(text) for name, text in told.items()}}
