"""The planted bugs of `tests/mutants` fit the source, and name Python tests that exist.

`make mutants` takes too long to be run after every change. A bug that can't be planted, or whose
tests were renamed, is noticed here. `tests/it/tidy.rs` checks the names of Rust tests.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "tests" / "mutants"

# `make mutants` tests a copy of the tree without them.
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="the planted bugs are not here")


@pytest.fixture
def patches(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The module that reads planted bugs."""
    monkeypatch.syspath_prepend(str(FOLDER))
    import patches

    yield patches
    for name in ("patches", "rust_switches"):
        sys.modules.pop(name, None)


def test_every_bug_fits_the_source(patches: ModuleType) -> None:
    for path in FOLDER.glob("*.patch"):
        for name, hunks in patches.read(path).files.items():
            source = (ROOT / name).read_text()
            # Raises with the line of a hunk that doesn't fit.
            assert patches.changes(source, hunks, is_rust=name.endswith(".rs")), path


def test_every_bug_names_python_tests_that_exist(patches: ModuleType) -> None:
    wrong = []
    for path in FOLDER.glob("*.patch"):
        bug = patches.read(path)
        if not bug.tests and not bug.pytest:
            wrong.append(f"{path.name} names no test")
        for arguments in bug.pytest:
            wrong += [f"{path.name}: {error}" for error in errors(arguments)]
    assert not wrong


def errors(arguments: list[str]) -> Iterator[str]:
    """Check arguments of pytest: files, names of tests, and the words after `-k`."""
    texts = []
    for argument in arguments:
        if argument.startswith("tests/"):
            name, _, test = argument.partition("::")
            if not (ROOT / name).is_file():
                yield f"there is no {name}"
                continue
            texts.append((ROOT / name).read_text())
            # Without its class and parameters.
            function = test.rpartition("::")[2].partition("[")[0]
            if not re.search(rf"\b(def|class) {function}", texts[-1]):
                yield f"there is no {argument}"
    if "-k" in arguments:
        expression = arguments[arguments.index("-k") + 1]
        for word in set(re.findall(r"\w+", expression)) - {"and", "or", "not"}:
            if not any(word in text for text in texts):
                yield f"no test matches {word!r}"
