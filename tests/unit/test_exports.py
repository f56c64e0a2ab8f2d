"""The names of `import polos`, and what is imported lazily."""

from __future__ import annotations

import subprocess
import sys

import pytest

import polos

# asyncio itself imports modules, such as `pathlib` on Python 3.15.
LATER = """
import sys
import asyncio
of_asyncio = set(sys.modules)
import polos
assert "pydantic" in sys.modules
later = {"pydantic.main", "polos.models", "polos.hooks", "polos._codec.encoder"}
later |= {"hashlib", "html", "pathlib", "platform", "sqlite3", "uuid"}
early = sorted((later & sys.modules.keys()) - of_asyncio)
assert not early, early
assert polos.SchedulePayload.__module__ == "polos.payload"
assert "pydantic.main" in sys.modules
assert polos.Run.__module__ == "polos.models"
"""


def test_most_of_pydantic_is_loaded_when_a_model_is_needed() -> None:
    subprocess.run([sys.executable, "-I", "-c", LATER], check=True, timeout=60)


@pytest.mark.parametrize("name", polos.__all__)
def test_every_name_is_there(name: str) -> None:
    assert getattr(polos, name) is not None
    assert name in dir(polos)


def test_a_name_that_isnt_there_is_said_to_be_missing() -> None:
    with pytest.raises(AttributeError, match="'polos' has no attribute 'sheduler'"):
        polos.sheduler  # type: ignore[attr-defined]  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'Sheduler' from 'polos'"):
        from polos import Sheduler  # type: ignore[attr-defined]  # noqa: F401
