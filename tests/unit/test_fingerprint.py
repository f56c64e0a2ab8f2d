"""Fingerprints of code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from polos._runtime.code_fingerprint import fingerprint


def handler(body: str) -> Callable[..., Any]:
    """A function without a module, so that only its code matters."""
    names: dict[str, Any] = {"__name__": ""}
    exec(f"def handler(ctx):\n    {body}", names)
    made: Callable[..., Any] = names["handler"]
    return made


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("return 1", "return 2"),
        ("return ctx.a", "return ctx.b"),
        ("x = ctx; return x", "y = ctx; return y"),
        ("return lambda: 'a'", "return lambda: 'b'"),
        ("return ctx + 1", "return ctx - 1"),
    ],
)
def test_other_code_has_another_fingerprint(old: str, new: str) -> None:
    assert fingerprint(handler(old)) == fingerprint(handler(old))
    assert fingerprint(handler(old)) != fingerprint(handler(new))


def test_a_version_decides_alone() -> None:
    old, new = handler("return 1"), handler("return 2")
    assert fingerprint(old, "7") == fingerprint(new, "7")
    assert fingerprint(old, "7") != fingerprint(old, "8")
    assert fingerprint(old, "7") != fingerprint(old)
