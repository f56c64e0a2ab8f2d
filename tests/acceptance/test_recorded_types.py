"""After a kill, the recorded results of steps keep their types and values."""

from __future__ import annotations

import json
from typing import Any

import pytest

from polos import PolosClient, runs

TYPES = """
    import asyncio
    import enum
    import json
    import os
    import sys
    from collections import OrderedDict, namedtuple
    from dataclasses import dataclass, field
    from datetime import date, datetime, time, timedelta, timezone
    from decimal import Decimal
    from fractions import Fraction
    from pathlib import Path
    from typing import Any, NamedTuple
    from uuid import UUID
    from zoneinfo import ZoneInfo

    from pydantic import BaseModel, SecretStr

    from polos import PolosClient, Worker, WorkflowContext, workflow

    LIFE = sys.argv[1]

    class Address(BaseModel):
        city: str

    class User(BaseModel):
        name: str
        address: Address
        tags: set[str] = set()
        anything: Any = None

    class Admin(User):
        level: int = 3

    class Colour(enum.Enum):
        RED = "red"

    class Size(enum.IntEnum):
        SMALL = 1

    class Mode(enum.Flag):
        READ = 1
        WRITE = 2

    @dataclass
    class Point:
        x: int
        y: int = 0
        labels: tuple[str, ...] = ()
        inner: "Point | None" = None

    @dataclass(frozen=True)
    class Frozen:
        at: datetime

    class Pair(NamedTuple):
        left: int
        right: str

    WHEN = datetime(2026, 11, 1, 1, 30, tzinfo=ZoneInfo("America/New_York"))

    VALUES = {
        "none": None, "zero": 0, "empty-text": "", "empty-list": [], "empty-dict": {},
        "false": False, "true": True, "float-zero": 0.0, "minus-zero": -0.0, "float": 1.5,
        "infinity": float("inf"), "big-int": 2**100, "text": "naïve \\U0001f600 \\u202e \\x00 end",
        "bytes": b"\\x00\\xff", "empty-bytes": b"", "bytearray": bytearray(b"ab"),
        "tuple": (1, "a", (2,)), "empty-tuple": (), "set": {1, 2}, "frozenset": frozenset({"a"}),
        "int-keys": {1: "one", 2: "two"}, "tuple-keys": {(1, 2): 3}, "nested": [{"a": (1, {2})}],
        "decimal": Decimal("1.10"), "fraction-free": [Decimal("0"), UUID(int=7)],
        "uuid": UUID(int=1), "date": date(2026, 1, 2), "time": time(3, 4, 5),
        "naive-datetime": datetime(2026, 1, 2, 3), "utc": datetime(2026, 1, 2, tzinfo=timezone.utc),
        "zoned": WHEN, "second-pass": WHEN.replace(fold=1),
        "timedelta": timedelta(days=1, microseconds=1),
        "enum": Colour.RED, "int-enum": Size.SMALL, "flag": Mode.READ | Mode.WRITE,
        "model": User(name="Ada", address=Address(city="London"), tags={"a"}, anything=WHEN),
        "submodel": Admin(name="Ada", address=Address(city="London")),
        "model-list": [Address(city="a"), Address(city="b")],
        "model-dict": {"user": User(name="Bo", address=Address(city="Oslo"))},
        "dataclass": Point(1, labels=("a",), inner=Point(2)), "frozen": Frozen(WHEN),
        "namedtuple": Pair(1, "r"), "path": Path("a/b"), "secret": SecretStr("hush"),
        "looks-tagged": {"$polos": "date", "value": "x"},
    }  # fmt: skip

    def make(name) -> Address | User | Admin | Colour | Size | Mode | Point | Frozen | Pair | Any:
        file = os.open("executed.txt", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(file, f"{LIFE}: {name}\\n".encode())
        os.fsync(file)
        return VALUES[name]

    def same(value, expected):
        return [
            type(value) is type(expected),
            value == expected,
            repr(value) == repr(expected) or isinstance(expected, (set, frozenset)),
        ]

    @workflow(id="of-many-types")
    async def of_many_types(ctx: WorkflowContext):
        values = {}
        for name in VALUES:
            values[name] = await ctx.step.run(name, make, name)
        if LIFE == "first":
            print("made")
            await asyncio.Event().wait()
        print("types", json.dumps({name: same(values[name], VALUES[name]) for name in VALUES}))

    async def work():
        async with Worker(PolosClient(), app="app"):
            print("ready")
            await asyncio.Event().wait()

    asyncio.run(work())
"""

NAMES = [
    "none", "zero", "empty-text", "empty-list", "empty-dict", "false", "true", "float-zero",
    "minus-zero", "float", "infinity", "big-int", "text", "bytes", "empty-bytes", "bytearray",
    "tuple", "empty-tuple", "set", "frozenset", "int-keys", "tuple-keys", "nested", "decimal",
    "fraction-free", "uuid", "date", "time", "naive-datetime", "utc", "zoned", "second-pass",
    "timedelta", "enum", "int-enum", "flag", "model", "submodel", "model-list", "model-dict",
    "dataclass", "frozen", "namedtuple", "path", "secret", "looks-tagged",
]  # fmt: skip


@pytest.fixture(scope="module")
def replayed(
    start_in: Any, tmp_path_factory: pytest.TempPathFactory, new_database: Any
) -> tuple[dict[str, list[bool]], list[str]]:
    """The values that were restored unchanged, and what was executed."""
    folder = tmp_path_factory.mktemp("types")
    database = new_database(folder)
    env = {"POLOS_DATABASE_URL": str(database)}
    first = start_in(folder, TYPES, "first", env=env)
    first.wait_for_line("ready")
    with PolosClient(database) as client:
        runs.sync.invoke(client, "of-many-types")
    first.wait_for_line("made")
    first.kill()
    second = start_in(folder, TYPES, "second", env=env)
    types = json.loads(second.wait_for_line("types"))
    second.kill()
    return types, (folder / "executed.txt").read_text().splitlines()


@pytest.mark.parametrize("name", NAMES)
def test_a_recorded_result_comes_back_as_the_same_type_and_value(
    replayed: tuple[dict[str, list[bool]], list[str]], name: str
) -> None:
    assert replayed[0][name] == [True, True, True]


def test_none_of_them_was_made_twice(replayed: tuple[dict[str, list[bool]], list[str]]) -> None:
    types, executed = replayed
    assert sorted(types) == sorted(NAMES)
    assert sorted(executed) == sorted(f"first: {name}" for name in NAMES)
