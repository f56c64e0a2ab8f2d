"""How a stored name is resolved to a class after a restart, a move, or a change."""

from __future__ import annotations

import gc
import subprocess
import sys
import textwrap
import types
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import pytest
import sample_types as t
from pydantic import BaseModel, field_validator

from polos import StoredValue
from polos._codec.class_refs import find_class
from polos._codec.codec import decode, encode
from polos.exceptions import SerializationError

T = TypeVar("T")

APP = """
import enum, sys
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar
from pydantic import BaseModel, field_validator
from polos import StoredValue
from polos._codec.codec import decode, encode

T = TypeVar("T")

class Kind(enum.Enum):
    A = 1

@dataclass
class Data:
    kind: Kind

class Pair(NamedTuple):
    x: int

class User(BaseModel):
    data: Data
    tags: list[str]

    @field_validator("tags", mode="before")
    @classmethod
    def split(cls, value):
        if not isinstance(value, str):
            raise ValueError("only text")
        return value.split()

class Box(BaseModel, Generic[T]):
    held: T

def write():
    user = User(data=Data(Kind.A), tags="a b")
    return encode([user, Pair(1), Box[User](held=user), Box[list[int]](held=[1])])

def check(data):
    user, pair, box, numbers = decode(data, list[User | Pair | Box[User]])
    assert type(user) is User and type(user.data) is Data and user.data.kind is Kind.A, user
    assert user.tags == ["a", "b"] and type(pair) is Pair and type(box) is Box[User]
    assert type(numbers) is Box[list[int]] and box.held == user
    assert {type(value) for value in decode(data)} == {StoredValue}

if __name__ == "__main__":
    if sys.argv[1] == "write":
        sys.stdout.buffer.write(write())
    else:
        check(sys.stdin.buffer.read())
"""

WAYS = {
    "as a script": ["shop/app.py"],
    "with -m": ["-m", "shop.app"],
    "imported as a module": ["-c", "import sys; sys.path.insert(0, 'shop'); import app as m; {}"],
    "imported from its package": ["-c", "import shop.app as m; {}"],
}


@pytest.mark.parametrize("reader", WAYS)
@pytest.mark.parametrize("writer", WAYS)
def test_a_class_is_found_however_its_file_was_started(
    tmp_path: Path, writer: str, reader: str
) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop/app.py").write_text(APP)

    def run(way: str, action: str, code: str, data: bytes = b"") -> bytes:
        arguments = [argument.format("import sys; " + code) for argument in WAYS[way]]
        return subprocess.run(
            [sys.executable, *arguments, action],
            cwd=tmp_path,
            env={"PYTHONPATH": str(Path(__file__).parents[2] / "python")},
            input=data,
            stdout=subprocess.PIPE,
            check=True,
        ).stdout

    stored = run(writer, "write", "sys.stdout.buffer.write(m.write())")
    run(reader, "check", "m.check(sys.stdin.buffer.read())", stored)


def test_a_local_class_is_found_through_the_annotation() -> None:
    def make() -> Any:
        class Local(BaseModel):
            a: int

        @dataclass
        class Outer:
            inner: Local | None

        return Local, Outer

    stored_local, stored_outer = make()
    data = encode(stored_outer(stored_local(a=1)))
    other_local, other_outer = make()
    found = decode(data, dict[str, list[other_outer]] | None)
    assert type(found) is other_outer
    if sys.version_info < (
        3,
        14,
    ):  # `inner: Local` is a string, which only newer versions can resolve
        other_outer.__annotations__["inner"] = other_local
    assert type(found.inner).__qualname__ == other_local.__qualname__


def test_a_local_class_is_found_as_long_as_it_is_alive() -> None:
    class Local(BaseModel):
        a: int

    data = encode(Local(a=1))
    assert decode(data) == Local(a=1)
    del Local
    gc.collect()
    with pytest.raises(SerializationError, match="defined inside a function"):
        decode(data, is_strict=True)


def test_a_moved_class_is_found_through_the_annotation() -> None:
    data = encode(t.User(id=1, email="a")).replace(b"sample_types:", b"before.the.move:")
    assert type(decode(data)) is StoredValue
    assert decode(data, t.User | None) == t.User(id=1, email="a")
    assert decode(data, typing.Annotated[list[t.User], "x"]) == t.User(id=1, email="a")


def test_a_name_that_was_imported_from_elsewhere_is_not_the_class() -> None:
    module = types.ModuleType("before_the_move")
    vars(module)["User"] = t.User
    sys.modules["before_the_move"] = module
    try:
        assert find_class("before_the_move:User") is None
        assert find_class("sample_types:User") is t.User
        assert find_class("sample_types:Holder.Inner") is t.Holder.Inner
    finally:
        del sys.modules["before_the_move"]


def test_finding_a_class_executes_no_code() -> None:
    class Lazy(types.ModuleType):
        def __getattr__(self, name: str) -> Any:
            raise AssertionError("looked at")

    class Meta(type):
        @property
        def inner(cls) -> Any:
            raise AssertionError("looked at")

    module = Lazy("lazy_module")
    vars(module)["Thing"] = Meta("Thing", (), {})
    sys.modules["lazy_module"] = module
    try:
        assert find_class("lazy_module:Missing") is None
        assert find_class("lazy_module:Thing.inner") is None
        assert find_class("lazy_module:Thing.__init__.__globals__") is None
    finally:
        del sys.modules["lazy_module"]


# --- classes that changed --------------------------------------------------------------------


@pytest.fixture
def version(request: pytest.FixtureRequest) -> Any:
    """Define the module ``evolving`` from the source of one version."""

    def define(source: str) -> Any:
        module = types.ModuleType("evolving")
        sys.modules["evolving"] = module
        header = "from __future__ import annotations\nimport enum\nfrom typing import *\n"
        header += "from dataclasses import dataclass, field\nfrom pydantic import *\n"
        exec(header + textwrap.dedent(source), vars(module))
        return module

    yield define
    sys.modules.pop("evolving", None)


OLD_MODEL = "class C(BaseModel):\n  a: int\n  b: str = 'b'"
OLD_DATA = "@dataclass\nclass C:\n  a: int\n  b: str = 'b'"
OLD_TUPLE = "class C(NamedTuple):\n  a: int\n  b: str = 'b'"
COMPATIBLE = [
    (OLD_MODEL, "class C(BaseModel):\n  a: int\n  b: str = 'b'\n  c: int = 3", "c", 3),
    (OLD_MODEL, "class C(BaseModel):\n  a: float\n  b: str", "a", 1.0),
    (OLD_MODEL, "class C(BaseModel):\n  b: str\n  a: int\n", "a", 1),
    (OLD_MODEL, "class C(BaseModel):\n  a: int = Field(alias='A')\n  b: Any", "a", 1),
    (OLD_DATA, OLD_DATA + "\n  c: int = 3", "c", 3),
    (OLD_DATA, OLD_DATA.replace("a: int", "a: str | int"), "a", 1),
    (OLD_TUPLE, OLD_TUPLE + "\n  c: int = 3", "c", 3),
]
INCOMPATIBLE = [
    (OLD_MODEL, "class C(BaseModel):\n  a: int\n  b: str\n  c: int", "`c`: field required"),
    (OLD_MODEL, "class C(BaseModel):\n  a: int\n  b: int", "`b`: input should be a valid int"),
    (OLD_MODEL, "class C(BaseModel):\n  a: int", "it has no field `b` any more"),
    (OLD_MODEL, "@dataclass\nclass C:\n  a: int", "was a pydantic model when it was stored"),
    (OLD_MODEL, "C = 1", "which this process has not imported"),
    (OLD_MODEL, "", "which this process has not imported"),
    (OLD_DATA, "@dataclass\nclass C:\n  a: int", "it has no field `b` any more"),
    (OLD_DATA, OLD_DATA.replace("a: int", "a: list"), "`a`: input should be a valid list"),
    (OLD_TUPLE, "class C(NamedTuple):\n  b: str", "it has no field `a` any more"),
    (OLD_TUPLE, "class C(NamedTuple):\n  a: list\n  b: str", "valid list"),
]


@pytest.mark.parametrize(("old", "new", "name", "value"), COMPATIBLE)
def test_a_compatible_change_is_validated_and_accepted(
    version: Any, old: str, new: str, name: str, value: Any
) -> None:
    data = encode(version(old).C(a=1))
    changed = version(new)
    found = decode(data)
    assert type(found) is changed.C
    assert (getattr(found, name), found.b) == (value, "b")


@pytest.mark.parametrize(("old", "new", "message"), INCOMPATIBLE)
def test_an_incompatible_change_is_an_error(version: Any, old: str, new: str, message: str) -> None:
    data = encode(version(old).C(a=1))
    version(new)
    with pytest.raises(SerializationError) as caught:
        decode(data, is_strict=True)
    assert "evolving:C" in str(caught.value)
    assert message in str(caught.value)


def test_a_removed_enum_member_is_an_error(version: Any) -> None:
    data = encode(version("class C(enum.Enum):\n  A = 1\n  B = 2").C.B)
    version("class C(enum.Enum):\n  A = 1")
    with pytest.raises(SerializationError, match=r"member `B` of the enum `evolving:C`.*'A'"):
        decode(data)


def test_an_unchanged_class_is_restored_without_its_validators() -> None:
    class Picky(BaseModel):
        a: int

        @field_validator("a")
        @classmethod
        def _count(cls, value: int) -> int:
            calls.append(value)
            return value

    calls: list[int] = []
    data = encode(Picky(a=1))
    decode(data, Picky)
    assert calls == [1]


def test_what_post_init_has_set_is_kept() -> None:
    value = t.WithPostInit(1, 2)
    assert value.doubled == 6
    found = decode(encode(value))
    assert (found, found.note) == (value, "set in __post_init__")
    assert "doubled" not in vars(found)
    assert found.doubled == 6


def test_generic_dataclasses_and_subclasses_keep_their_class() -> None:
    @dataclass
    class Base(Generic[T]):
        held: T

    @dataclass
    class Derived(Base[int]):
        more: str = ""

    class Bare(Derived):
        pass

    for value in (Base[int](1), Derived(1, "x"), Bare(1, "y")):
        found = decode(encode(value))
        assert type(found) is type(value)
        assert found == value


def test_a_secret_keeps_its_value() -> None:
    found = decode(encode(t.WithSecret(password="hunter2", home="https://a.example")))
    assert found.password.get_secret_value() == "hunter2"


def test_a_dataclass_that_is_a_dict_or_an_exception_is_refused() -> None:
    @dataclass
    class Odd(dict[str, int]):
        a: int = 1

    @dataclass
    class Failure(Exception):
        a: int = 1

    for value in (Odd(), Failure()):
        with pytest.raises(SerializationError):
            encode(value)


def test_a_named_tuple_with_attributes_is_refused() -> None:
    class Base(NamedTuple):
        a: int

    class More(Base):
        pass

    value = More(1)
    assert decode(encode(value)) == value
    value.note = "x"  # type: ignore[attr-defined]
    with pytest.raises(SerializationError, match="attributes besides its fields"):
        encode(value)


ALIASED = "class C(BaseModel):\n  a: int = Field(validation_alias={})\n  b: str = 'b'\n  c: int = 3"


@pytest.mark.parametrize(
    "alias",
    ["AliasChoices('A', 'alpha')", "AliasChoices(AliasPath('deep', 0), 'A')", "'A'"],
)
def test_a_changed_model_is_restored_by_the_names_that_its_fields_are_validated_by(
    version: Any, alias: str
) -> None:
    old = version("class C(BaseModel):\n  a: int\n  b: str = 'b'").C
    data = encode(old(a=1))
    changed = version("from pydantic import AliasChoices, AliasPath\n" + ALIASED.format(alias))
    found = decode(data)
    assert type(found) is changed.C
    assert (found.a, found.b, found.c) == (1, "b", 3)


@pytest.mark.parametrize("source", [OLD_DATA, OLD_MODEL])
def test_fields_that_an_unchanged_class_does_not_have_are_an_error(
    version: Any, source: str
) -> None:
    """Otherwise a stored row could set any attribute, such as one that shadows a method."""
    data = encode(version(source).C(a=1))
    assert decode(data).a == 1
    with pytest.raises(SerializationError, match="isn't a valid"):
        decode(data.replace(b'"v":{', b'"v":{"is_admin":true,'))
