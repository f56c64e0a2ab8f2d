"""A stored row can't choose which classes are instantiated."""

from __future__ import annotations

import contextlib
import enum
import functools
import gc
import json
import subprocess
import sys
import textwrap
import types
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import sample_types as t
from pydantic import BaseModel, HttpUrl, PostgresDsn, SecretStr

import polos
from polos import StoredValue
from polos._codec.codec import decode, encode
from polos._codec.exceptions import error_from_record, error_record
from polos.exceptions import InvalidArgumentError, SerializationError
from polos.workflow import isolated_registry

# Each class counts every call that the decoder might make.
CLASSES = {
    "dataclass": """
        @dataclass
        class C{i}:
            a: int = 0
            def __new__(cls, *args, **kwargs):
                calls.append("__new__ {i}")
                return object.__new__(cls)
            def __post_init__(self):
                calls.append("__post_init__ {i}")
            def __setattr__(self, name, value):
                calls.append("__setattr__ {i}")
            def __del__(self):
                calls.append("__del__ {i}")
            def __hash__(self):
                calls.append("__hash__ {i}")
                return 1
        """,
    "model": """
        class C{i}(BaseModel):
            a: int = 0
            def __new__(cls, *args, **kwargs):
                calls.append("__new__ {i}")
                return object.__new__(cls)
            def model_post_init(self, context):
                calls.append("model_post_init {i}")
            @field_validator("a", mode="before")
            def check(cls, value):
                calls.append("validator {i}")
                return value
            @classmethod
            def __get_validators__(cls):
                calls.append("__get_validators__ {i}")
        """,
    "namedtuple": """
        class C{i}(NamedTuple("Base", [("a", int)])):
            def __new__(cls, *args, **kwargs):
                calls.append("__new__ {i}")
                return tuple.__new__(cls, args)
        """,
    "flag": """
        class C{i}(enum.Flag):
            A = 1
            B = 2
            @classmethod
            def _missing_(cls, value):
                calls.append("_missing_ {i}")
        """,
    "enum": """
        class C{i}(enum.Enum):
            A = 1
            @classmethod
            def _missing_(cls, value):
                calls.append("_missing_ {i}")
                return cls.A
        """,
    "url": """
        class C{i}(type("_BaseUrl", (), {{}})):
            def __init__(self, *args):
                calls.append("__init__ {i}")
            @classmethod
            def __get_pydantic_core_schema__(cls, *args):
                calls.append("__get_pydantic_core_schema__ {i}")
                raise ValueError
        """,
    "generic": """
        class C{i}(BaseModel):
            a: int = 0
            def __class_getitem__(cls, item):
                calls.append("__class_getitem__ {i}")
                return cls
        """,
    "exception": """
        class C{i}(Exception):
            def __new__(cls, *args):
                calls.append("__new__ {i}")
                return Exception.__new__(cls, *args)
            def __init__(self, *args):
                calls.append("__init__ {i}")
        """,
}
COUNT = 125  # of each kind: 1,000 in all


@pytest.fixture
def imported() -> Iterator[Any]:
    """A module of the application with 1,000 classes, and the calls to them."""
    module = types.ModuleType("app_with_classes")
    sys.modules["app_with_classes"] = module
    header = "import enum\nfrom dataclasses import dataclass\nfrom typing import NamedTuple\n"
    header += "from pydantic import BaseModel, field_validator\ncalls = []\n"
    exec(header, vars(module))
    names: dict[str, list[str]] = {kind: [] for kind in CLASSES}
    for index in range(COUNT * len(CLASSES)):
        kind = list(CLASSES)[index % len(CLASSES)]
        exec(textwrap.dedent(CLASSES[kind]).format(i=index), vars(module))
        names[kind].append(f"C{index}")
    module.calls.clear()
    module.names = names
    yield module
    del sys.modules["app_with_classes"]


def shapes_of(cls: type) -> list[str]:
    from polos._codec.class_shapes import fingerprint

    try:
        return ["", fingerprint(cls)]
    except Exception:
        return [""]


def hostile(imported: Any) -> Iterator[dict[str, Any]]:
    """Rows that another program might write: each class as each kind of object."""
    for names in imported.names.values():
        for name in names:
            tag = f"app_with_classes:{name}"
            for shape in shapes_of(getattr(imported, name)):
                fields = {"type": tag, "shape": shape, "v": {"a": 1}}
                yield {"$polos": "dataclass", **fields, "more": {"b": 2}}
                yield {"$polos": "model", **fields, "set": ["a"]}
                yield {"$polos": "namedtuple", **fields}
                yield {"$polos": "namedtuple", **fields, "v": {"a": 1, "b": 2}}
            yield {"$polos": "flag", "type": tag, "v": 3}
            yield {"$polos": "flag", "type": tag, "v": 64}
            yield {"$polos": "enum", "type": tag, "v": "A"}
            yield {"$polos": "enum", "type": tag, "v": "_missing_"}
            yield {"$polos": "url", "type": tag, "v": "https://example.com"}
            of = {"of": tag, "args": ["int"]}
            crate = {"of": "sample_types:Crate", "args": [tag]}
            for generic in (of, {"of": "list", "args": [of]}, crate):
                yield {
                    "$polos": "model", "type": f"{tag}[int]", "shape": "", "generic": generic,
                    "v": {"a": 1},
                }  # fmt: skip


def test_hostile_rows_call_nothing_of_a_thousand_imported_classes(imported: Any) -> None:
    rows = 0
    for row in hostile(imported):
        rows += 1
        nested = json.dumps([row, {"x": row}, {"$polos": "set", "v": [row]}])
        for annotation in (None, t.User, list[t.Crate[int]]):
            with contextlib.suppress(SerializationError):
                value = decode(nested, annotation)
                assert type(value[0]) is StoredValue
                if annotation is None:
                    repr(value)
                    encode(value)
        with pytest.raises(SerializationError):
            decode(json.dumps(row), is_strict=True)
    gc.collect()
    assert rows > 10_000
    assert imported.calls == []


def test_recorded_exceptions_call_nothing_of_imported_classes(imported: Any) -> None:
    for names in imported.names.values():
        for name in names:
            hidden = {
                "$polos": "dataclass", "type": f"app_with_classes:{name}", "shape": "",
                "v": {"a": 1},
            }  # fmt: skip
            for tag, args in (
                (f"app_with_classes:{name}", ["x"]),
                ("builtins:ValueError", [hidden]),
            ):
                record = error_record(ValueError("x"))
                record |= {"type": tag, "args": json.dumps(args), "state": "{}"}
                error_from_record(record)
    gc.collect()
    assert imported.calls == []


def test_an_unknown_object_is_plain_data_with_its_type_name(imported: Any) -> None:
    row = {
        "$polos": "dataclass", "type": "app_with_classes:C0", "shape": "",
        "v": {"a": {"$polos": "date", "v": "2026-01-01"}}, "more": {"b": 2},
    }  # fmt: skip
    value = decode(json.dumps([row]))[0]
    assert type(value) is StoredValue
    assert (value.kind, value.type_name) == ("dataclass", "app_with_classes:C0")
    assert list(value.data) == ["a", "b"]
    assert repr(value) == "C0(a=datetime.date(2026, 1, 1), b=2)"
    assert json.loads(encode(value)) == row
    assert decode(encode(value)) == value
    with pytest.raises(AttributeError, match=r"`a`; it is in `\.data\['a'\]`.*register_types"):
        value.a  # noqa: B018


@dataclass
class Known:
    a: int


@dataclass
class SubclassOfKnown(Known):
    b: int = 2


@dataclass
class Unknown:
    a: int


class UnknownModel(BaseModel):
    a: int


class Holder(BaseModel):
    anything: Any = None
    known: Known | None = None


def row(cls: type, **fields: Any) -> Any:
    """Return what another process stores for an object of ``cls``; this process has stored none."""
    from polos._codec.class_shapes import fingerprint

    kind = "model" if issubclass(cls, BaseModel) else "dataclass"
    tag = f"{__name__}:{cls.__qualname__}"
    return {"$polos": kind, "type": tag, "shape": fingerprint(cls), "v": fields}


@pytest.mark.parametrize(
    ("annotation", "make"),
    [
        (Known, lambda bad: bad),
        (Known | None, lambda bad: bad),
        (list[Known], lambda bad: [bad]),
        (dict[str, Known | None], lambda bad: {"a": bad}),
        (tuple[Any, Known], lambda bad: {"$polos": "tuple", "v": [1, bad]}),
        (tuple[Known, ...], lambda bad: {"$polos": "tuple", "v": [bad]}),
        (Holder, lambda bad: row(Holder, anything=None, known=bad)),
    ],
)
def test_an_unknown_class_is_an_error_where_a_type_is_required(annotation: Any, make: Any) -> None:
    bad = row(Unknown, a=1)
    with pytest.raises(SerializationError) as caught:
        decode(json.dumps(make(bad)), annotation)
    for part in ("Unknown`", "return annotation", "polos.register_types(Unknown)"):
        assert part in str(caught.value)
    assert decode(json.dumps(make(row(Known, a=1))), annotation | None) is not None


@pytest.mark.parametrize(
    ("annotation", "make"),
    [
        (None, lambda bad: bad),
        (Any, lambda bad: bad),
        (Known | Any, lambda bad: bad),
        (list[Any], lambda bad: [bad]),
        (dict[str, Any], lambda bad: {"a": [bad]}),
        (dict, lambda bad: {"a": bad}),
        (Holder, lambda bad: row(Holder, anything=bad, known=None)),
    ],
)
def test_an_unknown_class_is_plain_data_where_no_type_is_required(
    annotation: Any, make: Any
) -> None:
    for bad in (row(Unknown, a=1), row(UnknownModel, a=1)):
        text = json.dumps(make(bad))
        assert "Unknown" in repr(decode(text, annotation))
        assert json.loads(encode(decode(text, annotation))) == json.loads(text)
        with pytest.raises(SerializationError):
            decode(text, annotation, is_strict=True)


def test_a_subclass_of_a_mentioned_class_is_rebuilt_if_it_is_unchanged() -> None:
    data = row(SubclassOfKnown, a=1, b=3)
    assert decode(json.dumps(data), Known) == SubclassOfKnown(1, 3)
    with pytest.raises(SerializationError):
        decode(json.dumps({**data, "shape": "another"}), Known)
    assert decode(json.dumps({**data, "shape": "another"}), SubclassOfKnown) == SubclassOfKnown(
        1, 3
    )


def test_a_class_with_a_finalizer_is_rebuilt_only_if_it_is_known(imported: Any) -> None:
    derived = type("Derived", (imported.C0,), {})
    imported.Derived = derived
    derived.__module__ = "app_with_classes"
    data = {"$polos": "dataclass", "type": "app_with_classes:Derived", "v": {"a": 1}}
    data["shape"] = shapes_of(derived)[1]
    with pytest.raises(SerializationError):
        decode(json.dumps(data), imported.C0)
    gc.collect()
    assert imported.calls == []
    assert type(decode(json.dumps(data), derived)) is derived


class Registered(BaseModel):
    inner: InnerOfRegistered


class InnerOfRegistered(BaseModel):
    a: int


def test_a_registered_class_is_rebuilt_with_the_classes_of_its_fields() -> None:
    inner = row(InnerOfRegistered, a=1)
    assert type(decode(json.dumps(inner))) is StoredValue
    polos.register_types(list[Registered])
    assert decode(json.dumps(inner)) == InnerOfRegistered(a=1)
    assert decode(json.dumps(row(Registered, inner=inner)), is_strict=True).inner.a == 1


@pytest.mark.parametrize("hint", [None, int | None, 5, "Order"])
def test_registering_what_mentions_no_class_is_an_error(hint: Any) -> None:
    with pytest.raises(InvalidArgumentError, match=r"register_types: .* given, expected a class"):
        polos.register_types(hint)


@dataclass
class OfPayload:
    a: int


@dataclass
class OfResult:
    a: int


@dataclass
class NamedByHandler:
    a: int


def test_what_a_workflow_mentions_is_registered() -> None:
    with isolated_registry():

        @polos.workflow(id="mentions")
        async def handler(ctx: polos.WorkflowContext, payload: OfPayload) -> list[OfResult]:
            NamedByHandler(1)
            return []

        for cls in (OfPayload, OfResult, NamedByHandler):
            assert decode(json.dumps(row(cls, a=1)), is_strict=True) == cls(1)


@dataclass
class NamedByStep:
    a: int


def without_annotation() -> Any:
    return [NamedByStep(1)]


def through_a_module() -> Any:
    return t.Slotted(1)


def test_classes_that_the_step_function_names_are_rebuilt_without_calls() -> None:
    captured = NamedByStep
    partial = functools.partial(without_annotation)
    for function in (without_annotation, lambda: captured(1), partial, lambda: [NamedByStep]):
        data = row(NamedByStep, a=1)
        assert decode(json.dumps(data), function=function, is_strict=True) == NamedByStep(1)
        with pytest.raises(SerializationError):
            decode(json.dumps({**data, "shape": "x"}), function=function, is_strict=True)
        with pytest.raises(SerializationError):
            decode(json.dumps(row(Unknown, a=1)), function=function, is_strict=True)


class OtherUrl(HttpUrl):
    pass


class NotAUrl(NamedTuple("_BaseUrl", [("a", int)])):
    pass


class Permission(enum.Flag):
    READ = 1
    WRITE = 2

    @classmethod
    def _missing_(cls, value: object) -> Any:
        raise AssertionError("called")


def test_urls_and_flags_of_known_classes_come_back() -> None:
    for value in (
        HttpUrl("https://a.example/"),
        PostgresDsn("postgres://a@b/c"),
        OtherUrl("https://b.example/"),
        SecretStr("x"),
    ):
        found = decode(encode(value))
        assert (type(found), found) == (type(value), value)
    data = json.dumps({"$polos": "flag", "type": f"{__name__}:Permission", "v": 3})
    assert type(decode(data)) is StoredValue
    assert decode(data, Permission)._value_ == 3
    data = json.dumps({"$polos": "url", "type": f"{__name__}:NotAUrl", "v": "https://a.example"})
    with pytest.raises(SerializationError):
        decode(data, NotAUrl)


def test_a_plain_value_is_never_a_stored_value() -> None:
    for value in t.User(id=1, email="x"), t.Colour.RED:
        assert decode(encode(value), is_strict=True) == value


def test_a_process_that_has_stored_a_class_rebuilds_it(tmp_path: Path) -> None:
    (tmp_path / "models.py").write_text(
        "from dataclasses import dataclass\n@dataclass\nclass A:\n    a: int\n"
    )
    program = (
        "import models, sys\nfrom polos._codec.codec import decode, encode\n"
        "data = sys.argv[1]\nprint(type(decode(data)).__name__)\n"
        "encode(models.A(5))\nprint(type(decode(data)).__name__)\n"
    )
    (tmp_path / "program.py").write_text(program)
    data = '{"$polos":"dataclass","type":"models:A","shape":"","v":{"a":1}}'
    done = subprocess.run(
        [sys.executable, "program.py", data],
        cwd=tmp_path,
        env={"PYTHONPATH": str(Path(__file__).parents[2] / "python")},
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    assert done.stdout.split() == ["StoredValue", "A"]
