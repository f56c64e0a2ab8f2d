"""Values that can't be stored or read cause clear errors, and execute no code."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import pickle
import random
import socket
import sys
import threading
from collections import UserDict, defaultdict
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import sample_types as t
from hypothesis import given
from hypothesis import strategies as st

import polos
from polos._codec.codec import SIZE_MAX, decode, encode
from polos.exceptions import PayloadTooLargeError, SerializationError


class Zone(tzinfo):
    def utcoffset(self, when: datetime | None) -> timedelta:
        return timedelta(0)

    def tzname(self, when: datetime | None) -> str:
        return "mine"

    def dst(self, when: datetime | None) -> None:
        return None


class MyInt(int): ...


class MyStr(str): ...


class MyList(list[Any]): ...


class MyDict(dict[str, Any]): ...


class MyDatetime(datetime): ...


class MyTuple(tuple[Any, ...]): ...


class Evil:
    def __reduce__(self) -> Any:
        return os.system, ("touch /tmp/polos-canary",)

    def __repr__(self) -> str:
        raise RuntimeError("no repr")

    @property
    def __class__(self) -> Any:
        raise RuntimeError("no class")


class FloatLike(float):
    """Derived from float, like numpy.float64."""


async def coroutine() -> None: ...


def endless_list() -> Any:
    items: list[Any] = [1]
    items.append({"again": items})
    return items


def endless_model() -> Any:
    user = t.User(id=1, email="")
    user.anything = [user]
    return user


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


REFUSED = [
    (lambda: 1, "`result` has type `function`"),
    ({"a": [1, 2, 3, lambda: 1]}, "`result['a'][3]` has type `function`"),
    ((1, {2: object()}), "`result[1][2]` has type `object`"),
    (t.User(id=1, email="", anything={"x": [Evil()]}), "`result.anything['x'][0]` has type"),
    (t.Plain(1, t.NotStorable()), "`result.b` has type `sample_types.NotStorable`"),
    (t.Point(1, {object(): 1}), "`result.y, key 1` has type `object`"),
    ({(1, print): 1}, "`result, key 1[1]` has type `builtin_function_or_method`"),
    (io.StringIO(), "_io.StringIO"),
    (threading.Lock(), "lock"),
    ((x for x in ()), "generator"),
    ({}.keys(), "dict_keys"),
    (range(3), "`range`"),
    (int, "`type`"),
    (sys, "`module`"),
    (ValueError("x"), "`ValueError`"),
    (memoryview(b"x"), "memoryview"),
    (UserDict(), "UserDict"),
    (MyInt(1), "a subclass of `int` that would come back as a plain one; convert it with `int"),
    (MyStr("a"), "subclass of `str`"),
    (MyList(), "subclass of `list`"),
    (MyDict(), "subclass of `dict`"),
    (MyTuple(), "subclass of `tuple`"),
    (FloatLike(1), "subclass of `float`"),
    (MyDatetime(2026, 1, 1), "subclass of `datetime`"),
    ({MyStr("a"): 1}, "key 1` has type"),
    (datetime(2026, 1, 1, tzinfo=Zone()), "test_codec_refusals.Zone`, which would not come back"),
    (defaultdict(lambda: 1), "a defaultdict whose factory isn't a built-in type"),
    (endless_list(), "`result[1]['again']` contains itself"),
    (endless_model(), "`result.anything[0]` contains itself"),
    (nested(201), "is nested more than 200 levels deep"),
    (nested(10_000), "is nested more than 200 levels deep"),
    ((nested(300),), "is nested more than 200 levels deep"),
]


@pytest.mark.parametrize(("value", "message"), REFUSED, ids=[m[:40] for _, m in REFUSED])
def test_what_cannot_be_stored_is_named_with_its_place(value: Any, message: str) -> None:
    with pytest.raises(SerializationError) as caught:
        encode(value)
    assert message in str(caught.value)
    assert len(str(caught.value)) < 600


def test_a_forgotten_await_is_guessed() -> None:
    forgotten = coroutine()
    with pytest.raises(SerializationError, match="was an `await` forgotten"):
        encode({"user": forgotten})
    asyncio.run(forgotten)


def test_a_socket_is_refused() -> None:
    with socket.socket() as open_socket, pytest.raises(SerializationError, match=r"socket\.socket"):
        encode([open_socket])


WRAPPERS = [
    lambda value: [value],
    lambda value: (value,),
    lambda value: {1: value},
    t.Plain,
    t.FrozenSlotted,
    lambda value: t.User.model_construct(anything=value),
]


@pytest.mark.parametrize("depth", [1, 100, 200])
@pytest.mark.parametrize("wrap", WRAPPERS)
def test_two_hundred_levels_come_back(depth: int, wrap: Any) -> None:
    value: Any = 1
    for _ in range(depth):
        value = wrap(value)
    found = decode(encode(value))
    assert type(found) is type(value)
    assert encode(found) == encode(value)


# --- size ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        "x" * 1001,
        ["x" * 500, "y" * 500],
        {"k": b"x" * 800},
        {"é" * 450: "é" * 300},
        [None] * 400,
        10**3000,
        t.User(id=1, email="x" * 1000),
        [0] * 1001,
    ],
)
def test_what_is_too_large_names_size_and_limit(value: Any) -> None:
    with pytest.raises(PayloadTooLargeError, match=r"the limit is 1,000; store it") as caught:
        encode(value, limit=1000)
    assert caught.value.limit == 1000
    assert caught.value.size > 1000
    assert isinstance(caught.value, ValueError)


def test_sixty_four_mebibytes_are_too_large() -> None:
    with pytest.raises(PayloadTooLargeError, match=f"{SIZE_MAX:,}"):
        encode({"blob": "x" * (64 * 1024 * 1024)})


@pytest.mark.parametrize("leaf", [1, b"x"])
def test_shared_references_do_not_explode(leaf: Any) -> None:
    value: Any = [leaf] * 10
    for _ in range(30):
        value = [value] * 10
    with pytest.raises(PayloadTooLargeError, match="at least"):
        encode(value, limit=100_000)


def test_a_value_below_the_limit_comes_back() -> None:
    value = {"blob": "x" * (SIZE_MAX - 100)}
    assert decode(encode(value)) == value


# --- hostile and damaged data ----------------------------------------------------------------


MINE = "sample_types"


def tagged(tag: Any, **more: Any) -> bytes:
    return json.dumps({"$polos": tag, **more}).encode()


HOSTILE = [
    pickle.dumps(os.system),
    pickle.dumps({"a": 1}, protocol=0),
    b"",
    b"{",
    b"\xff\xfe",
    b"nul",
    b"NaN",
    b"[1,]",
    b'{"a":1}{}',
    b"9" * 5000,
    b'"\\ud800"',
    b"[" * 100_000,
    b"[" * 100_000 + b"]" * 100_000,
    b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    b'{"$polos":"tuple","v":[' * 900 + b"]}" * 900,
    tagged("nothing"),
    tagged(None),
    tagged(1),
    tagged(["tuple"]),
    tagged({}),
    tagged("TAG"),
    tagged("tuple"),
    tagged("tuple", v="abc"),
    tagged("tuple", v={}),
    tagged("set", v=[[1]]),
    tagged("dict", v=[[1]]),
    tagged("dict", v=[[1, 2, 3]]),
    tagged("dict", v=[[[], 1]]),
    tagged("dict", v="ab"),
    tagged("int", v=5),
    tagged("int", v="zz"),
    tagged("int", v=""),
    tagged("float", v="1"),
    tagged("bytes", v="*"),
    tagged("bytes", v=1),
    tagged("str", v="/w=="),
    tagged("datetime", v="yesterday"),
    tagged("datetime", v=0),
    tagged("date", v="2026-13-01"),
    tagged("datetime", v="2026-01-01T00:00:00", zone="../../../etc/passwd"),
    tagged("datetime", v="2026-01-01T00:00:00", zone="Mars/Olympus"),
    tagged("datetime", v="2026-01-01T00:00:00", zone="os.path"),
    tagged("datetime", v="2026-01-01T00:00:00", zone=["UTC"]),
    tagged("datetime", v="2026-01-01T00:00:00", fold=7),
    tagged("datetime", v="2026", of="x"),
    tagged("timedelta", v=[10**12, 0, 0]),
    tagged("timedelta", v=[1]),
    tagged("timedelta", v=["1"]),
    tagged("Decimal", v="abc"),
    tagged("Decimal", v=[0]),
    tagged("UUID", v="x"),
    tagged("Fraction", v=[1, 0]),
    tagged("Fraction", v=["1", "2"]),
    tagged("complex", v=[1]),
    tagged("deque", v=[], maxlen=-1),
    tagged("deque", v=[], maxlen="x"),
    tagged("defaultdict", v=[], factory="system"),
    tagged("defaultdict", v=[], factory=[1]),
    tagged("path", type="os.system", v="x"),
    tagged("path", type="Path", v=1),
    tagged("secret", type="SecretStr", v=1),
    tagged("secret", type="os", v="x"),
    *(
        tagged(kind, type=name, v=v, shape="")
        for kind in ("model", "dataclass", "namedtuple", "enum", "flag", "url")
        for name in (
            "os:system",
            "builtins:eval",
            "builtins:dict",
            "builtins:object",
            "subprocess:Popen",
            "antigravity:x",
            "nowhere:X",
            "",
            ":",
            "a:b:c",
            MINE + ":",
            MINE + ":NotStorable",
            MINE + ":Holder",
            MINE + ":__doc__",
            MINE + ":User.__init__",
            MINE + ":f.<locals>.X",
            "pydantic:BaseModel",
            "enum:Enum",
            5,
            None,
            ["x"],
            "x" * 9999,
        )
        for v in ({}, [], "touch /tmp/polos-canary")
        if not (kind == "model" and name == "pydantic:BaseModel" and v == {})
    ),
    tagged("enum", type=MINE + ":Colour", v="BLUE"),
    tagged("enum", type=MINE + ":User", v="x"),
    tagged("enum", type=MINE + ":Colour", v="__init__"),
    tagged("enum", type=MINE + ":Colour"),
    tagged("flag", type=MINE + ":Permission", v=1024),
    tagged("flag", type=MINE + ":Permission", v="1"),
    tagged("model", type=MINE + ":User", v={"id": "not a number"}),
    tagged("model", type=MINE + ":User"),
    tagged("model", type=MINE + ":Plain", v={}),
    tagged("dataclass", type=MINE + ":User", v={}),
    tagged("dataclass", type=MINE + ":Plain", v={}),
    tagged("dataclass", type=MINE + ":Plain", v={"a": 1, "zzz": 1}),
    tagged("namedtuple", type=MINE + ":Point", v={"z": 1}),
    tagged("model", type=MINE + ":Crate[x]", v={}, generic={"of": "os:system", "args": ["int"]}),
    tagged("model", type=MINE + ":Crate[x]", v={}, generic={"of": "|", "args": []}),
    tagged("model", type=MINE + ":Crate[x]", v={}, generic=[]),
]


@pytest.mark.parametrize("data", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_data_is_an_error_and_nothing_more(data: bytes) -> None:
    canary = Path("/tmp/polos-canary")
    canary.unlink(missing_ok=True)
    before = set(sys.modules)
    for form in (data, data.decode("latin-1"), b"[1," + data + b"]"):
        with pytest.raises(SerializationError) as caught:
            decode(form, is_strict=True)
        assert len(str(caught.value)) < 800
        _read(form)
    assert not canary.exists()
    assert not {"antigravity", "subprocess"} & (set(sys.modules) - before)


def test_what_newer_pythons_parse_at_any_depth_is_too_deep(monkeypatch: pytest.MonkeyPatch) -> None:
    deep: Any = []
    for _ in range(3_000):
        deep = [deep] if len(deep) % 2 else {"a": deep}
    # Like Python 3.14; older versions raise RecursionError.
    monkeypatch.setattr("polos._codec.codec.json.loads", lambda data: deep)
    with pytest.raises(SerializationError, match="nested too deeply"):
        decode(b"[" * 100_000 + b"]" * 100_000)


@pytest.mark.parametrize("data", [None, 1, 1.5, [], {}, memoryview(b"1"), True])
def test_columns_of_another_type_are_an_error(data: Any) -> None:
    with pytest.raises(SerializationError, match="expected JSON text"):
        decode(data)


@given(st.binary(max_size=60))
def test_random_bytes_are_a_value_or_an_error(data: bytes) -> None:
    _read(data)


VALID = encode(
    {
        "a": t.User(id=1, email="x", anything=[datetime(2026, 1, 1), t.Colour.RED, {1: (2, 3)}]),
        "b": t.Frozen(b"xyz", (1,)),
    }
)


@given(st.randoms(use_true_random=False), st.integers(1, 6))
def test_damaged_data_is_a_value_or_an_error(rng: random.Random, changes: int) -> None:
    data = bytearray(VALID)
    for _ in range(changes):
        data[rng.randrange(len(data))] = rng.choice(b'"{}[]:,0a$\\ \xff')
    _read(bytes(data))


def _read(data: bytes | str) -> None:
    with contextlib.suppress(SerializationError):
        value = decode(data)
        assert isinstance(repr(value), str)
        assert decode(encode(value)) == value or value != value


# --- classes that are gone or different ------------------------------------------------------


def test_a_missing_class_is_named_with_what_to_do() -> None:
    data = encode(t.User(id=1, email="")).replace(b"sample_types:User", b"shop.models:User")
    with pytest.raises(SerializationError, match=r"`shop\.models:User`.*import `shop\.models`"):
        decode(data, is_strict=True)


def test_a_local_class_without_annotation_is_named_with_what_to_do() -> None:
    class Local(NamedTuple):
        a: int

    data = encode(Local(1)).replace(b"Local", b"Other")
    with pytest.raises(SerializationError, match="defined inside a function"):
        decode(data, is_strict=True)


def test_a_class_that_became_something_else_is_refused() -> None:
    polos.register_types(t.Colour)
    data = encode(t.Plain(1)).replace(b"sample_types:Plain", b"sample_types:Colour")
    with pytest.raises(SerializationError, match="was a dataclass when it was stored"):
        decode(data)
