"""Every value is restored as it was: equal, with the same types at every depth."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter, OrderedDict, defaultdict, deque
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
import sample_types as t
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import AnyUrl, BaseModel, SecretBytes, TypeAdapter

from polos._codec.codec import decode, encode, to_jsonable
from polos.exceptions import PayloadTooLargeError

NEW_YORK = ZoneInfo("America/New_York")


def same(a: Any, b: Any) -> bool:
    """Equality that distinguishes 1 from True, 0.0 from -0.0, and a list from a tuple."""
    if type(a) is not type(b):
        return False
    if isinstance(a, float):
        return math.isnan(a) == math.isnan(b) and (
            math.isnan(a) or (a == b and math.copysign(1, a) == math.copysign(1, b))
        )
    if isinstance(a, complex):
        return same(a.real, b.real) and same(a.imag, b.imag)
    if isinstance(a, Decimal):
        return a.as_tuple() == b.as_tuple()
    if isinstance(a, (datetime, time)):
        return (
            a.replace(tzinfo=None) == b.replace(tzinfo=None)
            and a.fold == b.fold
            and type(a.tzinfo) is type(b.tzinfo)
            and (not isinstance(a.tzinfo, ZoneInfo) or a.tzinfo is b.tzinfo)
            and a.utcoffset() == b.utcoffset()
            and a.tzname() == b.tzname()
        )
    if isinstance(a, BaseModel):
        return (
            set(a.__dict__) == set(b.__dict__)
            and all(same(a.__dict__[name], b.__dict__[name]) for name in a.__dict__)
            and same(a.__pydantic_extra__, b.__pydantic_extra__)
            and same(a.__pydantic_private__, b.__pydantic_private__)
            and a.model_fields_set == b.model_fields_set
        )
    if dataclasses.is_dataclass(a):
        names = [f.name for f in dataclasses.fields(a)]
        return all(same(getattr(a, name), getattr(b, name)) for name in names)
    if isinstance(a, dict):
        if isinstance(a, defaultdict) and a.default_factory is not b.default_factory:
            return False
        return same(list(a.items()), list(b.items()))
    if isinstance(a, (list, tuple, deque)):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, (set, frozenset)):
        return same(sorted(map(repr, a)), sorted(map(repr, b)))
    return bool(a == b)


def back(value: Any, annotation: Any = None) -> Any:
    return decode(encode(value), annotation)


VALUES = [
    None, True, False, 0, 1, -1, 2**63 - 1, -(2**63), 2**63, 10**400, -(10**5000),
    0.0, -0.0, 1.5, 1e16, 5e-324, 1.7976931348623157e308, math.inf, -math.inf, math.nan,
    "", "text", "NUL \0 inside", "\ud800", "a\udfffb\ud83d\ude00", "\u2028", "😀", "\\u0024polos",
    "$polos",
    [], [[]], {}, {"": ""}, {"a": [1, {"b": None}]}, {"$polos": "tuple", "v": []},
    {"$polos": 1}, [{"$polos": "x"}], {1: "a", None: 2, (1, 2): 3, "s": 4, False: 5},
    {"\ud800": 1}, {1.5: 1, math.inf: 2}, {b"x": {2: 3}},
    (), (1, (2, [3])), set(), {1, "a", (1, 2)}, frozenset({1, frozenset({2})}),
    deque([1, 2], maxlen=3), deque(), OrderedDict([("b", 1), ("a", 2)]), OrderedDict({1: 2}),
    Counter("hello"), defaultdict(list, {"a": [1]}), defaultdict(None, {1: 2}), defaultdict(int),
    b"", b"\x00\xff", bytearray(b"ab"), 1 + 2j, complex(math.nan, -math.inf), complex(-0.0, 0.0),
    Decimal("1.50"), Decimal("NaN"), Decimal("sNaN12"), Decimal("-Infinity"), Decimal("1E+400"),
    Decimal("-0"), Fraction(1, 3), Fraction(-(10**60), 7),
    UUID(int=5), ip_address("::1"), ip_address("10.0.0.1"), ip_network("10.0.0.0/8"),
    ip_interface("10.0.0.1/8"),
    PurePosixPath("/a/b"), PureWindowsPath("C:\\x"), PurePosixPath("bad\udcff"),
    date(1, 1, 1), date(9999, 12, 31), time(1, 2, 3, 4), time(1, fold=1),
    time(1, tzinfo=timezone.utc), time(1, tzinfo=NEW_YORK),
    timedelta(days=-1, microseconds=1), timedelta.max, timedelta.min,
    datetime(2026, 1, 1), datetime(1, 1, 1, 0, 0, 0, 1), datetime.max,
    datetime(2026, 1, 1, tzinfo=timezone.utc),
    datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=-5), "EST")),
    datetime(2026, 1, 1, tzinfo=timezone(timedelta(seconds=-17762, microseconds=5))),
    datetime(2026, 1, 1, tzinfo=timezone.utc, fold=1),
    datetime(2026, 11, 1, 1, 30, tzinfo=NEW_YORK),
    datetime(2026, 11, 1, 1, 30, tzinfo=NEW_YORK, fold=1),
    datetime(2026, 3, 8, 2, 30, tzinfo=NEW_YORK), datetime(1850, 1, 1, tzinfo=NEW_YORK),
    datetime(1, 1, 1, tzinfo=NEW_YORK), datetime(2026, 1, 1, tzinfo=ZoneInfo("UTC")),
    TypeAdapter(datetime).validate_json('"2026-01-01T00:00:00+05:30"'),
    TypeAdapter(datetime).validate_json('"2026-01-01T00:00:00Z"'),
    t.Colour.RED, t.Colour.ALIAS, t.Colour.PAIR, t.Level.HIGH, t.Name.A, t.Permission.READ,
    t.Permission.READ | t.Permission.RUN, t.Permission(0), t.IntPermission(3), t.Holder.Kind.X,
    {t.Colour.RED: 1}, {t.Name.A: 1},
    t.Point(1, (2, 3)), t.Point(1), t.Plain(1, t.Plain(2)), t.Frozen(Decimal(1), (1, 2)),
    t.Slotted({1}), t.FrozenSlotted(t.FrozenSlotted(None)), t.Child(1, b"x", Decimal("2.50")),
    t.Box(datetime(2026, 1, 1)), t.Box[int](1), {t.Frozen(1)}, t.Checked(1, datetime(2026, 1, 1)),
    t.User(id=1, email="a@b"), t.User(id=1, email="a@b", anything=datetime(2026, 1, 1)),
    t.User(id=1, email="", anything=t.User(id=2, email="", anything=(t.Plain(3),))),
    t.User.model_construct(id="not an int"),
    t.User.model_construct(_fields_set={"id"}, id=1, email="x"),
    t.Aliased.model_validate({"userId": 1, "o": 2}),
    t.Extra(a=1, b=datetime(2026, 1, 1), **{"$polos": "tuple"}), t.Extra(a=1),
    t.Private(a=1), t.Computed(side=3), t.NotIdempotent(parts="a,b"), t.Growing(n=1),
    t.WithSecret(password="hunter2", home="https://example.com/x?q=1"), SecretBytes(b"\0"),
    t.Owner(pet=t.Dog(tricks=["sit"]), others=[t.Cat(), t.Dog()]),
    t.Crate[int](held=1), t.Crate[list[t.User]](held=[t.User(id=1, email="")]), t.Crate(held=(1,)),
    t.Crate[t.Crate[str | None]](held=t.Crate[str | None](held=None)), t.Numbers([1, 2]),
    t.FrozenModel(a=1), t.StrictModel(at=datetime(2026, 1, 1), level=t.Level.LOW),
    t.Holder.Inner(a=1),
]  # fmt: skip


def name_of(value: Any) -> str:
    """A name that is the same in every process, unlike hashes of texts and the order of sets."""
    if type(value) is int:
        return f"int of {value.bit_length()} bits"
    if type(value) is set:
        return f"set of {sorted(map(ascii, value))}"
    return ascii(value)[:50]


@pytest.mark.parametrize("value", VALUES, ids=name_of)
def test_comes_back_as_it_was(value: Any) -> None:
    assert same(back(value), value)
    assert same(back([value, {"k": value}]), [value, {"k": value}])
    assert same(decode(encode(value).decode()), value)


def test_plain_values_are_stored_as_they_are() -> None:
    assert encode({"a": [1, None, "é", 1.5, True]}) == '{"a":[1,null,"é",1.5,true]}'.encode()
    assert encode(None) == b"null"
    assert encode(t.Colour.RED) == b'{"$polos":"enum","type":"sample_types:Colour","v":"RED"}'
    assert to_jsonable({"at": date(2026, 1, 1)}) == {"at": {"$polos": "date", "v": "2026-01-01"}}


# --- properties ------------------------------------------------------------------------------

ZONES = st.sampled_from(["UTC", "America/New_York", "Europe/Dublin", "Asia/Kolkata", "Etc/GMT+5"])
TZINFOS = (
    st.none()
    | ZONES.map(ZoneInfo)
    | st.timedeltas(timedelta(hours=-23), timedelta(hours=23)).map(timezone)
)
ANY_TEXT = st.text(st.characters(codec=None, categories=None), max_size=8)
HASHABLE = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False)
    | ANY_TEXT
    | st.binary(max_size=8)
    | st.decimals(allow_nan=False)
    | st.uuids()
    | st.dates()
    | st.timedeltas()
    | st.datetimes(timezones=TZINFOS)
    | st.times()
    | st.sampled_from([*t.Colour, *t.Level, *t.Name, *t.Permission])
    | st.fractions()
    | st.ip_addresses()
)
LEAVES = HASHABLE | st.floats() | st.complex_numbers() | st.decimals()


def containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    lists = st.lists(inner, max_size=4)
    return (
        lists
        | lists.map(tuple)
        | lists.map(deque)
        | st.dictionaries(ANY_TEXT | st.just("$polos"), inner, max_size=4)
        | st.dictionaries(HASHABLE, inner, max_size=3)
        | st.dictionaries(HASHABLE, inner, max_size=3).map(OrderedDict)
        | st.frozensets(HASHABLE, max_size=4)
        | st.sets(HASHABLE, max_size=4)
        | st.builds(t.Plain, st.integers(), inner)
        | st.builds(t.FrozenSlotted, inner)
        | st.builds(t.Slotted, inner)
        | st.builds(t.Point, st.integers(), inner)
        | st.builds(lambda v: t.User(id=1, email="e", anything=v), inner)
        | st.builds(lambda v: t.Crate[Any](held=v), inner)
        | st.builds(lambda v: t.Extra(a=1, more=v), inner)
    )


ANYTHING = st.recursive(LEAVES, containers, max_leaves=12)


@given(ANYTHING)
@settings(max_examples=300)
def test_any_value_comes_back_as_it_was(value: Any) -> None:
    data = encode(value)
    assert same(decode(data), value)
    data.decode()  # is UTF-8


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ANY_TEXT, inner, max_size=4),
    max_leaves=20,
)


@given(JSON)
@settings(max_examples=300)
def test_any_json_comes_back_as_it_was(value: Any) -> None:
    assert same(back(value), value)


# Cases in which every byte of an estimate matters, and in which a part is estimated twice.
SMALL = [*range(10), -1, 10, [], {}, "", [0], {"": 0}, 0.0, {"": 0.0}, [[]], [{}], [0.5, 1, ""]]
SHORT = type("U", (AnyUrl,), {"__module__": "m"})  # little beside the value of a URL
LONG_KEYS = [{"k" * 100: 1, 2: 3}, {"\ud800": 1, "k" * 100: 2}, {"k" * 100: 1, "\udfff": 2}]


def fits_exactly(value: Any) -> None:
    """Expect that a limit of its size suffices; one byte less is refused with at most that size."""
    size = len(encode(value))
    assert len(encode(value, limit=size)) == size
    if value is None:
        return  # has no limit
    with pytest.raises(PayloadTooLargeError) as caught:
        encode(value, limit=size - 1)
    assert caught.value.size <= size


@given(ANYTHING | JSON)
def test_a_value_that_is_as_large_as_the_limit_is_stored(value: Any) -> None:
    fits_exactly(value)


@pytest.mark.parametrize("value", [*SMALL, *LONG_KEYS, *VALUES, SHORT("a:b")], ids=name_of)
def test_no_size_is_overestimated(value: Any) -> None:
    fits_exactly(value)
    fits_exactly([value, (value,), {1: value}])


@pytest.mark.parametrize("value", [[[]] * 50, [[1]] * 50, [(), [[0]] * 50], [(), {"": 0}] * 50])
def test_many_small_parts_are_not_overestimated(value: Any) -> None:
    fits_exactly(value)


@pytest.mark.parametrize("name", [None, "a hair east"])
@pytest.mark.parametrize("micros", [1, -1, 999_999])
def test_an_offset_below_a_second_comes_back(micros: int, name: str | None) -> None:
    offset = timedelta(microseconds=micros)
    zone = timezone(offset) if name is None else timezone(offset, name)
    for value in (datetime(2000, 1, 1, 12, tzinfo=zone), time(12, tzinfo=zone)):
        back = decode(encode(value))
        assert back.isoformat() == value.isoformat()
        assert back.tzinfo.utcoffset(None) == offset
        assert back.tzname() == value.tzname()


@pytest.mark.parametrize(
    "text", [r'{"\u0024polos":"tuple","v":[1,2]}', r'[{"\u0024polos":"tuple","v":[]}]']
)
def test_a_tag_is_a_tag_however_its_dollar_sign_is_spelled(text: str) -> None:
    """Another program may have rewritten the row, and JSON can escape every character."""
    plain = text.replace("\\u0024", "$")
    assert plain != text
    assert decode(text) == decode(text.encode()) == decode(plain) == decode(plain.encode())
    assert decode(text) in ((1, 2), [()])
