"""Tests must not depend on chance, on real time, or on other tests; no code uses retired words.

The torture may depend on real time and chance, and prints the seed of its random choices.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

TESTS = Path(__file__).resolve().parents[1]
ROOT = TESTS.parent
FILES = sorted(
    path
    for folder in ("unit", "acceptance", "integration")
    for path in (TESTS / folder).glob("**/*.py")
)

# Calls that read or spend real time, or that choose at random. Deadlines of waits for other
# processes are in `tests/conftest.py`.
REAL_TIME = {"time.perf_counter", "time.process_time", "time.monotonic", "time.sleep", "time.time"}
CHANCE = {f"random.{name}" for name in ("random", "choice", "randint", "randrange", "shuffle")}
ALLOWED = {
    ("test_benchmarks.py", "time.time"),  # passed to a program, without effect on the result
    ("test_failures.py", "time.monotonic"),  # the deadline of a wait in a thread
}

# Words of CONTRIBUTING.md that have no other use; `tests/it/tidy.rs` checks the core for them.
RETIRED = re.compile(
    r"(?<![a-z])("
    "fates?|crowds?|patience|setbacks?|testimon(y|ies)|testif(y|ies|ied)|diar(y|ies)|bur(y|ied)"
    "|hears?_|is_told|go(es)? on|went on|gives? back|given back|signs? of life"
    r")(?![a-z])",
    re.IGNORECASE,
)

# Secrets, ids, and digests are hexadecimal, so they sometimes contain such a text.
HEXADECIMAL = re.compile(r"[0-9a-f]{1,8}")
PAGES = {"text", "html"}


def dotted(node: ast.expr) -> str:
    return ast.unparse(node) if isinstance(node, (ast.Attribute, ast.Name)) else ""


def page_of(node: ast.expr) -> str:
    """`text` for `answer.text`, `html` for `event["html"]` or a variable of that name."""
    if isinstance(node, ast.Attribute):
        return node.attr
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
        return str(node.slice.value)
    return node.id if isinstance(node, ast.Name) else ""


def found(source: str, name: str = "") -> Iterator[str]:
    """Return the problems in a test's source, with their lines."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            called = dotted(node.func)
            if called in REAL_TIME | CHANCE and (name, called) not in ALLOWED:
                yield f"{node.lineno}: `{called}`"
        elif isinstance(node, ast.Compare) and isinstance(node.ops[0], (ast.In, ast.NotIn)):
            wanted, page = node.left, page_of(node.comparators[0])
            if (
                page in PAGES
                and isinstance(wanted, ast.Constant)
                and HEXADECIMAL.fullmatch(str(wanted.value))
            ):
                yield f"{node.lineno}: a random secret in `{page}` may contain {wanted.value!r}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_test_depends_on_chance_or_real_time(path: Path) -> None:
    assert list(found(path.read_text(), path.name)) == []


@pytest.mark.parametrize(
    "source",
    [
        'assert "ada" not in answer.text',
        'assert "ada" in first["html"]',
        'assert "0" in (await browser.get("/")).text',
        "begun = time.perf_counter()",
        "def test():\n    time.sleep(1)",
        "number = random.randint(1, 6)",
    ],
)
def test_such_a_test_is_found(source: str) -> None:
    assert len(list(found(source))) == 1


@pytest.mark.parametrize(
    "source",
    ['assert "paused" in answer.text', 'assert "ada" in names', "stop.wait(30)"],
)
def test_others_are_not(source: str) -> None:
    assert list(found(source)) == []


@pytest.mark.parametrize("folder", ["benches", "examples", "python", "scripts", "tests"])
def test_no_retired_word_is_used(folder: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: `{match[0]}`"
        for path in sorted((ROOT / folder).rglob("*.py"))
        if path != Path(__file__).resolve()
        for number, line in enumerate(path.read_text().splitlines(), 1)
        for match in RETIRED.finditer(line)
    ]
    assert found == []


def test_properties_are_tried_with_the_same_examples_unless_a_seed_is_given(
    pytestconfig: pytest.Config,
) -> None:
    profile = pytestconfig.getoption("--hypothesis-profile")
    assert settings.default.derandomize is (profile is None)
    assert settings.default.deadline is None
