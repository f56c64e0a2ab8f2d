"""Stored values are shown as objects, never as envelopes, and without secrets."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

import pytest
import sample_types as t
from hypothesis import given
from pydantic import BaseModel, Field, SecretBytes, SecretStr, field_serializer

from polos import StoredValue
from polos._codec.codec import decode_for_display, encode
from polos._display.notebook import Listed
from polos._display.values import as_json_types, has_objects, readable
from polos.cli.ui.json import run_json
from polos.cli.ui.words import value_text
from polos.dashboard.safe_repr import as_objects, as_text
from polos.models import Run

from .test_codec import ANYTHING

SECRET = "hunter2-is-secret"


class Revealing(BaseModel):
    """Its serializer and `repr` would reveal the secret."""

    password: SecretStr
    pin: str = Field(default="", repr=False)

    @field_serializer("password")
    def reveal(self, value: SecretStr) -> str:
        return value.get_secret_value()

    def __repr__(self) -> str:
        return self.password.get_secret_value()


def run_with(result: str) -> Run:
    from .test_models import RUN

    return Run._from_core(RUN | {"result": result})


def shown_everywhere(value: Any, text: str) -> list[str]:
    """Show a value, and a run with it, in the dashboard, the command line, and notebooks."""
    run = run_with(text)
    return [
        as_objects(value), as_text(value), value_text(value), json.dumps(run_json(run)),
        readable(value, 10_000), repr(as_json_types(value)), run._repr_html_(),
        Listed([run])._repr_html_(),
    ]  # fmt: skip


WITH_SECRETS: list[Any] = [
    SecretStr(SECRET),
    SecretBytes(SECRET.encode()),
    {"token": [SecretStr(SECRET)], SecretStr(SECRET): 1},
    (SecretStr(SECRET), {SecretStr(SECRET)}),
    t.WithSecret(password=SECRET, home="https://a.example"),
    t.Plain(SecretStr(SECRET), {"a": SecretStr(SECRET)}),
    t.Point(1, SecretStr(SECRET)),
    t.Extra(a=1, b=SecretStr(SECRET)),
    Revealing(password=SECRET),
    [t.User(id=1, email="", anything=OrderedDict(a=Revealing(password=SECRET)))],
]

CHANGES: dict[str, Callable[[str], str]] = {
    "unchanged": lambda text: text,
    "class unknown": lambda text: text.replace('"type":"', '"type":"gone.'),
    "class changed": lambda text: text.replace('"v":{', '"v":{"gone":1,', 1)
    .replace('"shape":"', '"shape":"x'),
    "newer tag": lambda text: '{"$polos":"newer","v":' + text + "}",
    "cut off": lambda text: text[:-1],
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("value", WITH_SECRETS, ids=range(len(WITH_SECRETS)))
def test_secrets_are_masked_wherever_values_are_shown(value: Any, change: str) -> None:
    text = encode(value).decode()
    assert "secret" in text
    text = CHANGES[change](text)
    seen = decode_for_display(text)
    for shown in shown_everywhere(seen, text):
        assert SECRET not in shown


def test_an_object_is_shown_as_an_object_whether_or_not_its_class_is_known() -> None:
    text = encode(t.User(id=17, email="ada@example.org", anything=t.Colour.RED)).decode()
    for stored in (text, text.replace("sample_types", "shop.models")):
        value = decode_for_display(stored)
        line = "User(id=17, email='ada@example.org', anything=Colour.RED)"
        assert readable(value, 1_000) == line
        assert as_objects(value) == line
        assert value_text(value) == line
        assert "&#x27;ada@example.org" in run_with(stored)._repr_html_()
        plain = run_json(run_with(stored))["result"]
        assert plain["id"] == 17
        assert plain["anything"] in ("RED", 1)
        for shown in shown_everywhere(value, stored):
            assert "$polos" not in shown


def test_a_field_that_repr_leaves_out_is_not_shown() -> None:
    value = Revealing(password="x", pin=SECRET)
    for shown in (as_objects(value), as_text(value), value_text(value), repr(as_json_types(value))):
        assert SECRET not in shown


def test_plain_values_are_shown_as_json_alone() -> None:
    for value in ({"a": [1, None]}, [True], "x", datetime(2026, 1, 1, tzinfo=timezone.utc)):
        assert not has_objects(value)
        assert as_objects(value) == ""
    assert value_text({"a": 1}) == '{"a": 1}'


def test_wide_objects_are_broken_into_lines() -> None:
    user = t.User(id=1, email="a" * 60, anything=[t.Plain(1, "b" * 60), (1,), {}])
    assert readable(user, 10_000, 88).splitlines() == [
        "User(",
        "  id=1,",
        f"  email='{'a' * 60}',",
        "  anything=[",
        f"    Plain(a=1, b='{'b' * 60}'),",
        "    (1,),",
        "    {},",
        "  ],",
        ")",
    ]


def test_what_is_shown_of_a_large_value_is_short() -> None:
    for value in (
        t.Plain("x" * 10**7),
        t.Plain([0] * 10**6),
        t.Plain({i: i for i in range(10**5)}),
    ):
        assert len(readable(value, 1_000)) < 10_000
        assert len(as_objects(value)) < 200_000


@given(ANYTHING)
def test_anything_can_be_shown(value: Any) -> None:
    text = encode(value).decode()
    unknown = text.replace('"type":"sample_types:', '"type":"gone:')
    for stored in (text, unknown):
        shown = readable(decode_for_display(stored), 10_000, 80)
        assert "showing it raised" not in shown
        assert "StoredValue" not in shown
        json.dumps(run_json(run_with(stored)))


def test_damaged_values_are_shown_as_what_is_left() -> None:
    assert decode_for_display("not json") == "not json"
    assert decode_for_display('{"a":1') == '{"a":1'
    assert decode_for_display('{"$polos":"secret","v":"x') == "25 bytes that can't be read"
    value = decode_for_display('{"$polos":"model","type":"gone:Gone","v":{}}')
    assert type(value) is StoredValue
